package pod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/internal/process"
)

// namePrefix starts the name of every namespace and temporary directory that this package makes.
const namePrefix = "podnic-"

// Namespace is a network namespace with a name. It is never the machine's own.
type Namespace struct {
	// Name is what `ip netns` calls it.
	Name string
	// Path is the file that holds it.
	Path string
}

// newNamespace makes an empty namespace whose loopback is up. It filters by reverse path as the machines do that have
// systemd's settings (50-default.conf), which a pod gets from its node.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{Name: name, Path: filepath.Join(namespaceDir, name)}
	if err := n.create(); err != nil {
		return nil, fmt.Errorf("make the network namespace %s: %w", name, err)
	}
	if _, err := n.Output(context.Background(), "ip", "link", "set", "lo", "up"); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	err := n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/default/rp_filter", []byte("2"), 0) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("let %s filter by reverse path: %w", name, err), n.Close())
	}
	return n, nil
}

func (n *Namespace) create() error {
	file, err := os.OpenFile(n.Path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	file.Close()

	done := make(chan error)
	go func() { done <- unshareOnto(n.Path) }()
	if err := <-done; err != nil {
		return errors.Join(err, os.Remove(n.Path))
	}
	return nil
}

// unshareOnto makes a network namespace and mounts it on a file. It must run in a goroutine of its own: when the thread
// cannot return to its own namespace, it stays locked and ends with the goroutine.
func unshareOnto(path string) error {
	const mine = "/proc/thread-self/ns/net"
	runtime.LockOSThread()
	home, err := os.Open(mine)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("unshare", err)
	}
	err = os.NewSyscallError("mount", unix.Mount(mine, path, "", unix.MS_BIND, ""))
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, os.NewSyscallError("setns", back))
	}
	runtime.UnlockOSThread()
	return err
}

// Do runs fn on a thread that is in the namespace. What fn starts in another goroutine is not.
//
// It is the one door through which this package changes links, and it refuses to open onto the machine's own namespace.
func (n *Namespace) Do(fn func() error) error {
	return ns.WithNetNSPath(n.Path, func(ns.NetNS) error {
		if err := refuseInitial(); err != nil {
			return fmt.Errorf("%s: %w", n.Path, err)
		}
		return fn()
	})
}

// refuseInitial fails when the calling thread is in the machine's initial network namespace, or cannot tell. The kernel
// shows net.core.dev_weight there and nowhere else.
func refuseInitial() error {
	if _, err := os.Stat("/proc/sys/net/core/somaxconn"); err != nil {
		return fmt.Errorf("cannot tell whether this is the machine's own network namespace: %w", err)
	}
	switch _, err := os.Stat("/proc/sys/net/core/dev_weight"); {
	case err == nil:
		return errors.New("this is the machine's own network namespace, which tests must not touch")
	case errors.Is(err, os.ErrNotExist):
		return nil
	default:
		return err
	}
}

// Output runs a program in the namespace and returns what it printed. A failure carries its standard error.
// The program sees the caller's files; see [Pod.Command] for one that sees a pod's.
func (n *Namespace) Output(ctx context.Context, name string, args ...string) (string, error) {
	var out []byte
	err := n.Do(func() (err error) {
		// The child is forked from this thread, and so starts in its namespace.
		out, err = exec.CommandContext(ctx, name, args...).Output()
		return err
	})
	if err != nil {
		return string(out), fmt.Errorf("in %s: %s: %w", n.Name, strings.Join(append([]string{name}, args...), " "), withStderr(err))
	}
	return string(out), nil
}

// withStderr adds what a failed program said.
func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

// DialContext connects from the namespace. The address must be a literal one, and the network TCP or UDP.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.Do(func() error {
		// For a single literal address the dialer makes its socket in this goroutine, on this thread.
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Close ends the processes that still run in the namespace and removes its name. Without a name and a process, the kernel
// takes the links back. Closing twice is no error.
func (n *Namespace) Close() error {
	if _, err := os.Lstat(n.Path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	err := n.end()
	if e := unix.Unmount(n.Path, unix.MNT_DETACH); e != nil && !errors.Is(e, unix.EINVAL) {
		err = errors.Join(err, fmt.Errorf("unmount %s: %w", n.Path, e))
	}
	return errors.Join(err, os.Remove(n.Path))
}

// end kills what still runs in the namespace: only programs that were started in a pod can be there.
func (n *Namespace) end() error {
	// A process may fork while the list is read: look until a look finds none.
	for {
		processes, err := process.Inside(process.Network, n.Path)
		if err != nil || len(processes) == 0 {
			return err
		}
		for _, p := range processes {
			if err := process.End(context.Background(), p.ID, unix.SIGKILL); err != nil {
				return fmt.Errorf("end %s (%d) in %s: %w", p.Name, p.ID, n.Name, err)
			}
		}
	}
}
