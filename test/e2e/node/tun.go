package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Where the node's /dev is in the pod, and what the suite adds to it.
const (
	nodeDev = "/node/dev"
	ownTun  = "podnic-e2e-tun"
)

// tunDevice is the path on the node of a /dev/net/tun that everybody may open, which is what udev makes it. Where the
// node's is root's alone, another one is made: the node's own stays as it is.
func tunDevice() (string, error) {
	info, err := os.Stat(nodeDev + "/net/tun")
	if err != nil {
		return "", fmt.Errorf("the node has no tun device: %w", err)
	}
	if info.Mode().Perm()&0o006 == 0o006 {
		return "/dev/net/tun", nil
	}
	path := nodeDev + "/" + ownTun
	// 10 and 200 are the numbers of TUN/TAP (Documentation/admin-guide/devices.txt).
	err = unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200)))
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = os.Chmod(path, 0o666) // whatever the umask
	}
	if err != nil {
		return "", fmt.Errorf("make %s: %w", path, err)
	}
	return "/dev/" + ownTun, nil
}

func removeTun() error {
	if err := os.Remove(nodeDev + "/" + ownTun); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
