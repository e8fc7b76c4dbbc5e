package pod

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// namespaceDir is where iproute2 looks for names, so that `ip netns exec NAME` works on ours.
const namespaceDir = "/run/netns"

// sharing counts the nodes of this process, whose tests run beside each other: the last one takes back what the first one did.
var sharing struct {
	sync.Mutex
	nodes int
	made  bool // the directory is a mount because of them
}

// shareNamespaceDir makes the directory a shared mount of its own, as the first `ip netns add` on a machine does. Were it
// left to somebody else's `ip netns add`, that would cover the namespaces that are mounted there already, and Close could
// not reach them.
func shareNamespaceDir() error {
	sharing.Lock()
	defer sharing.Unlock()
	if sharing.nodes == 0 {
		var err error
		if sharing.made, err = mountNamespaceDir(); err != nil {
			return err
		}
	}
	sharing.nodes++
	return nil
}

// unshareNamespaceDir is for a node that goes.
func unshareNamespaceDir() error {
	sharing.Lock()
	defer sharing.Unlock()
	if sharing.nodes--; sharing.nodes > 0 || !sharing.made {
		return nil
	}
	return unmountNamespaceDir()
}

// mountNamespaceDir reports whether it changed anything.
func mountNamespaceDir() (changed bool, err error) {
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
		return false, err
	}
	err = underLock(func() error {
		err := unix.Mount("", namespaceDir, "", unix.MS_SHARED|unix.MS_REC, "")
		if !errors.Is(err, unix.EINVAL) { // EINVAL: not a mount yet
			return err
		}
		changed = true
		return errors.Join(
			unix.Mount(namespaceDir, namespaceDir, "", unix.MS_BIND|unix.MS_REC, ""),
			unix.Mount("", namespaceDir, "", unix.MS_SHARED|unix.MS_REC, ""),
		)
	})
	if err != nil {
		err = fmt.Errorf("share the mount %s: %w", namespaceDir, err)
	}
	return changed, err
}

// unmountNamespaceDir takes the mount back, unless there are namespaces in it, whoever made them: then it is busy. No lock
// is taken, since the lock itself would keep it busy; who mounts a namespace in the directory at this moment has it
// mounted on the directory underneath, where it works as well.
func unmountNamespaceDir() error {
	err := unix.Unmount(namespaceDir, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// underLock keeps other programs out while the mount is looked at and changed: iproute2 takes the same lock.
func underLock(change func() error) error {
	dir, err := os.Open(namespaceDir)
	if err != nil {
		return err
	}
	defer dir.Close() // which ends the lock
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return os.NewSyscallError("flock", err)
	}
	return change()
}
