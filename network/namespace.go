package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"
)

// Namespace is an open network namespace, the caller's own or another's.
type Namespace struct {
	path  string
	file  *os.File // the nsfs inode; it keeps the namespace alive and is what Lock locks
	other ns.NetNS // nil for the caller's own: entering a namespace takes CAP_SYS_ADMIN, staying takes nothing
}

// OpenNamespace opens the namespace that path names, such as /run/netns/pod or /proc/42/ns/net. An empty path is the
// caller's own namespace.
func OpenNamespace(path string) (*Namespace, error) {
	if path == "" {
		const own = "/proc/thread-self/ns/net"
		f, err := os.Open(own)
		if err != nil {
			return nil, fmt.Errorf("open the network namespace: %w", err)
		}
		return &Namespace{path: own, file: f}, nil
	}
	other, err := ns.GetNS(path)
	if err != nil {
		var missing ns.NSPathNotExistErr
		var not ns.NSPathNotNSErr
		switch {
		case errors.As(err, &missing):
			return nil, Refuse("%w at %s: name one that exists with --netns", errNoNamespace, path)
		case errors.As(err, &not):
			return nil, Refuse("%s is %w: --netns wants a path such as /run/netns/NAME or /proc/PID/ns/net", path, errNotNamespace)
		}
		return nil, fmt.Errorf("open the network namespace %s: %w", path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		other.Close()
		return nil, fmt.Errorf("open the network namespace %s: %w", path, err)
	}
	n := &Namespace{path: path, file: f, other: other}
	if err := n.Do(func() error { return nil }); err != nil {
		n.Close()
		if errors.Is(err, unix.EPERM) || strings.Contains(err.Error(), unix.EPERM.Error()) {
			return nil, Refuse("entering %s takes CAP_SYS_ADMIN, which this process lacks: run podnic inside the namespace, without --netns", path)
		}
		return nil, fmt.Errorf("enter the network namespace %s: %w", path, err)
	}
	return n, nil
}

// Close lets go of the namespace and of a lock on it.
func (n *Namespace) Close() error {
	if n.other != nil {
		return errors.Join(n.other.Close(), n.file.Close())
	}
	return n.file.Close()
}

// String is how messages name the namespace.
func (n *Namespace) String() string {
	if n.other == nil {
		return "this network namespace"
	}
	return "network namespace " + n.path
}

// Do runs f on a thread that is in the namespace. Goroutines that f starts are not.
func (n *Namespace) Do(f func() error) error {
	if n.other == nil {
		return f()
	}
	return n.other.Do(func(ns.NetNS) error { return f() })
}

// NamespaceID tells this namespace from every other, also from one that takes its place under the same name: inode numbers
// are reused within milliseconds, a cookie is never given twice between two boots.
type NamespaceID struct {
	Boot   string `json:"boot"`   // /proc/sys/kernel/random/boot_id
	Cookie uint64 `json:"cookie"` // SO_NETNS_COOKIE, Linux 5.14
}

// ID reads the namespace's identity.
func (n *Namespace) ID() (NamespaceID, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return NamespaceID{}, fmt.Errorf("read the boot id: %w", err)
	}
	id := NamespaceID{Boot: strings.TrimSpace(string(boot))}
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
		return NamespaceID{}, Refuse("the kernel does not tell network namespaces apart (SO_NETNS_COOKIE): podnic needs Linux 5.14 or newer")
	}
	if err != nil {
		return NamespaceID{}, fmt.Errorf("read the cookie of %s: %w", n, err)
	}
	return id, nil
}

// lockPoll is how often a lock that somebody holds is asked for again. flock(2) has no time limit of its own, and a
// thread that waits inside it cannot be called back.
const lockPoll = 5 * time.Millisecond

// Lock excludes every other podnic that would change this namespace, in this pod or on its node, until the returned
// function is called or the process ends. It waits for at most the given time.
func (n *Namespace) Lock(ctx context.Context, wait time.Duration) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := unix.Flock(int(n.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = unix.Flock(int(n.file.Fd()), unix.LOCK_UN) }, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, fmt.Errorf("lock %s: %w", n, err)
		}
		select {
		case <-ctx.Done():
			return nil, Refuse("%w %s and has not finished after %v: wait for it, or allow more with --lock-timeout", ErrBusy, n, wait)
		case <-tick.C:
		}
	}
}

// initial reports whether this is the machine's own namespace. Process ids prove nothing (in a container, PID 1 is the
// container's), but net.core.dev_weight is a sysctl of the initial namespace only (net/core/sysctl_net_core.c).
func (n *Namespace) initial() (bool, error) {
	var found bool
	err := n.Do(func() error {
		// The directory is looked up in the reading thread's namespace, so it must be read here and not before.
		if _, err := os.Stat("/proc/sys/net/core/somaxconn"); err != nil {
			return Refuse("cannot tell whether %s is the machine's own, since /proc/sys/net cannot be read (%v): mount a full /proc, or say --allow-host-namespace if you are certain", n, err)
		}
		_, err := os.Stat("/proc/sys/net/core/dev_weight")
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		found = err == nil
		return err
	})
	return found, err
}
