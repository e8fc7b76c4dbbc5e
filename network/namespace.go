package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// Namespace is an open network namespace, the caller's own or another's.
type Namespace struct {
	path string
	file *os.File // the nsfs inode; it keeps the namespace alive and is what Lock locks
	// home is the namespace that the process is in; nil where it is this one: entering a namespace requires CAP_SYS_ADMIN,
	// staying takes nothing.
	home *os.File
	// inside are functions for a thread that stays in the namespace, until left is closed; nil where there is none.
	inside chan func()
	left   chan struct{}
}

// ownNamespace is that of the thread that opens it.
const ownNamespace = "/proc/thread-self/ns/net"

// OpenNamespace opens the namespace that path names, such as /run/netns/pod or /proc/42/ns/net. An empty path is the
// caller's own namespace.
func OpenNamespace(path string) (*Namespace, error) {
	// Opened without the runtime's poller, which has no use for it.
	fd, err := unix.Open(ownNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace: %w", &os.PathError{Op: "open", Path: ownNamespace, Err: err})
	}
	own := os.NewFile(uintptr(fd), ownNamespace)
	if path == "" {
		return &Namespace{path: ownNamespace, file: own}, nil
	}
	f, err := openNamespaceFile(path)
	if err != nil {
		own.Close()
		return nil, err
	}
	n := &Namespace{path: path, file: f, home: own}
	err = n.Do(func() error { return nil })
	if errors.Is(err, unix.EPERM) {
		err = plan.Refuse("entering %s requires CAP_SYS_ADMIN, which this process lacks: run podnic inside the namespace, without --netns", path)
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// openNamespaceFile opens what a path names, if it is a network namespace. Only then is it opened at all: a fifo would be
// waited for, and a device does something when it is opened.
func openNamespaceFile(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, plan.Refuse("%w at %s: name one that exists with --netns", errNoNamespace, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	not := plan.Refuse("%s is %w: --netns requires a path such as /run/netns/NAME or /proc/PID/ns/net", path, errNotNamespace)
	var system unix.Statfs_t
	if err := unix.Fstatfs(fd, &system); err != nil {
		return nil, fmt.Errorf("look at the network namespace %s: %w", path, err)
	}
	if system.Type != unix.NSFS_MAGIC {
		return nil, not
	}
	f, err := os.Open(fmt.Sprintf("/proc/thread-self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("open the network namespace %s: %w", path, err)
	}
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		return nil, not
	}
	return f, nil
}

// Close lets go of the namespace and of a lock on it.
func (n *Namespace) Close() error {
	if n.left != nil {
		close(n.left)
	}
	if n.home != nil {
		return errors.Join(n.home.Close(), n.file.Close())
	}
	return n.file.Close()
}

// Fd is the descriptor of the namespace's inode, until it is closed.
func (n *Namespace) Fd() uintptr { return n.file.Fd() }

// String is how messages name the namespace.
func (n *Namespace) String() string {
	if n.home == nil {
		return "this network namespace"
	}
	return "network namespace " + n.path
}

// Stay keeps a thread in the namespace, on which Do runs everything from then on, one after the other: then it needs no
// capability to enter. It must not be called while Do runs. In the caller's own namespace it does nothing.
func (n *Namespace) Stay() error {
	if n.home == nil {
		return nil
	}
	entered, inside, left := make(chan error), make(chan func()), make(chan struct{})
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET)
		entered <- err
		if err != nil {
			return
		}
		for {
			select {
			case f := <-inside:
				f()
			case <-left:
				return
			}
		}
	}()
	if err := <-entered; err != nil {
		return fmt.Errorf("enter %s: %w", n, err)
	}
	n.inside, n.left = inside, left
	return nil
}

// Do runs f on a thread that is in the namespace. Goroutines that f starts are not. A search for a router may still run when
// the namespace is closed: that is an error.
func (n *Namespace) Do(f func() error) error {
	if n.home == nil {
		return f()
	}
	if n.inside != nil {
		done := make(chan error)
		select {
		case n.inside <- func() { done <- f() }:
			return <-done
		case <-n.left:
			return fmt.Errorf("enter %s: %w", n, os.ErrClosed)
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET)
		if err != nil {
			err = fmt.Errorf("enter %s: %w", n, err)
		} else {
			err = f()
		}
		if unix.Setns(int(n.home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the thread, which is nowhere anybody expects it, ends with the goroutine
		}
		done <- err
	}()
	return <-done
}

// NamespaceID tells this namespace from every other, also from one that takes its place under the same name: inode numbers
// are reused within milliseconds, a cookie is never given twice between two boots.
type NamespaceID struct {
	Boot   string `json:"boot"`   // /proc/sys/kernel/random/boot_id
	Cookie uint64 `json:"cookie"` // SO_NETNS_COOKIE, Linux 5.14
}

// knownBoot is the boot id, once it is read.
var knownBoot atomic.Pointer[string]

func bootID() (string, error) {
	if id := knownBoot.Load(); id != nil {
		return *id, nil
	}
	id, err := readProc("/proc/sys/kernel/random/boot_id")
	if err == nil {
		knownBoot.Store(&id)
	}
	return id, err
}

// readProc reads a kernel setting. Package os would ask the runtime's poller to watch it, since such files can be
// polled, and that wakes a thread.
func readProc(path string) (string, error) {
	var b [4096]byte
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return "", &os.PathError{Op: "read", Path: path, Err: err}
	}
	return strings.TrimSpace(string(b[:n])), nil
}

// ID reads the namespace's identity.
func (n *Namespace) ID() (NamespaceID, error) {
	boot, err := bootID()
	if err != nil {
		return NamespaceID{}, fmt.Errorf("read the boot id: %w", err)
	}
	id := NamespaceID{Boot: boot}
	err = n.Do(func() error {
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		id.Cookie, err = unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	if errors.Is(err, unix.ENOPROTOOPT) {
		return NamespaceID{}, plan.Refuse("the kernel does not tell network namespaces apart (SO_NETNS_COOKIE): podnic needs Linux 5.14 or newer")
	}
	if err != nil {
		return NamespaceID{}, fmt.Errorf("read the cookie of %s: %w", n, err)
	}
	return id, nil
}

// Initial reports whether this is the machine's own namespace.
func (n *Namespace) Initial() (bool, error) { return n.initial() }

// initial reports whether this is the machine's own namespace. Process ids prove nothing (in a container, PID 1 is the
// container's), but net.core.dev_weight is a sysctl of the initial namespace only (net/core/sysctl_net_core.c).
func (n *Namespace) initial() (found bool, err error) {
	err = n.Do(func() error {
		// The directory is looked up in the calling thread's namespace, so it must be opened here and not before; and only
		// once, since every namespace of the machine has one of this name in a list that the kernel walks (proc_sys_compare).
		dir, err := unix.Open("/proc/sys/net/core", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(dir)
			err = unix.Faccessat(dir, "somaxconn", unix.F_OK, 0)
		}
		if err != nil {
			return plan.Refuse("cannot tell whether %s is the machine's own, since /proc/sys/net cannot be read (%v): mount a full /proc, or pass --allow-host-namespace if you are certain", n, err)
		}
		err = unix.Faccessat(dir, "dev_weight", unix.F_OK, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		found = err == nil
		return err
	})
	return found, err
}
