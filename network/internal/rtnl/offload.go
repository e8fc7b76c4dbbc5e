package rtnl

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/ethtool.h: the flags of a device, of which NETIF_F_LRO is one. There is an ioctl for them in every
// kernel, where netlink's (ETHTOOL_MSG_FEATURES_SET) came with 5.7, and takes a socket more and a family's number.
const (
	ethtoolGetFlags = 0x25    // ETHTOOL_GFLAGS
	ethtoolSetFlags = 0x26    // ETHTOOL_SFLAGS
	flagLRO         = 1 << 15 // ETH_FLAG_LRO
)

// ethtool is struct ifreq with its data (include/uapi/linux/if.h).
type ethtool struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// flagsOf calls SIOCETHTOOL with a struct ethtool_value. A netlink socket hands it down to the drivers (netlink_ioctl).
func (r *Conn) flagsOf(link string, command, flags uint32) (uint32, error) {
	value := [2]uint32{command, flags}
	request := ethtool{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], link)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(r.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(&value)
	if errno != 0 {
		return 0, errno
	}
	return value[1], nil
}

// LRO reports whether a link merges the TCP segments that it receives, so that nobody can tell them apart again (large
// receive offload). A driver that knows nothing of it does not, nor is it known where the call is nothing that this process
// may make (a sandbox).
func (r *Conn) LRO(link string) (bool, error) {
	flags, err := r.flagsOf(link, ethtoolGetFlags, 0)
	for _, unknown := range []error{unix.EOPNOTSUPP, unix.EINVAL, unix.ENOTTY, unix.EPERM} {
		if errors.Is(err, unknown) {
			return false, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("ask for the offloads of %s: %w", link, err)
	}
	return flags&flagLRO != 0, nil
}

// SetLRO has a link merge them, or not. On a link that stands on another one, the other does not merge either from then on
// (NETIF_F_UPPER_DISABLES).
func (r *Conn) SetLRO(link string, on bool) error {
	r.Forget()
	if r.Before != nil {
		r.Before()
	}
	flags, err := r.flagsOf(link, ethtoolGetFlags, 0)
	if err != nil {
		return err
	}
	if flags &^= flagLRO; on {
		flags |= flagLRO
	}
	_, err = r.flagsOf(link, ethtoolSetFlags, flags)
	return err
}
