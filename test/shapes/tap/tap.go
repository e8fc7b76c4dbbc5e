// Package tap stands in for an emulator: it opens taps as QEMU does and carries frames between two of them, so that a
// network namespace can play the guest. Nothing here imports testing, since the pump is also a program.
package tap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HeaderSize is that of struct virtio_net_hdr_mrg_rxbuf in bytes, which QEMU asks for (Documentation/networking/tuntap.rst)
// and which stands before each frame.
const HeaderSize = 12

// Open opens a tap of the calling thread's network namespace, and makes it if there is none. As for an emulator, each
// frame has a virtio header, and checksums and segmentation are left to whoever receives it.
func Open(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /dev/net/tun", err)
	}
	if err := set(fd, name); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open tap %s: %w", name, err)
	}
	// Only now: the poller takes a tap that is not attached yet for one that failed.
	return os.NewFile(uintptr(fd), name), nil
}

// OpenMacvtap opens a macvtap by its character device, whose frames are a tap's.
func OpenMacvtap(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := set(fd, ""); err != nil { // the device is one link's
		unix.Close(fd)
		return nil, fmt.Errorf("open macvtap %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func set(fd int, name string) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return os.NewSyscallError("TUNSETIFF", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, HeaderSize); err != nil {
		return os.NewSyscallError("TUNSETVNETHDRSZ", err)
	}
	const offload = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	return os.NewSyscallError("TUNSETOFFLOAD", unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload))
}

// ErrHeld says that a tap is still held.
var ErrHeld = errors.New("the tap is still held")

// LetGo closes an end of a tap and returns when nobody has it any more. A program that another goroutine starts just now has
// the descriptor too until the kernel has executed it, which syscall.ForkLock does not cover to its end (fs/exec.c,
// begin_new_exec). in calls a function in the tap's namespace.
func LetGo(end *os.File, in func(func() error) error) error {
	index := 0
	_ = in(func() (err error) { // a tap that is gone has no name, and nobody holds it
		name, err := nameOf(end)
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName(name) // which it may have been given since it was opened
		if err == nil {
			index = link.Attrs().Index
		}
		return err
	})
	if err := end.Close(); err != nil || index == 0 {
		return err
	}
	const patience = 90 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		held := false
		_ = in(func() error {
			link, err := netlink.LinkByIndex(index)
			held = err == nil && link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
			return err
		})
		if !held {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", end.Name(), ErrHeld)
		}
	}
}

// nameOf is what the kernel calls a tap now.
func nameOf(end *os.File) (name string, err error) {
	raw, err := end.SyscallConn()
	if err != nil {
		return "", err
	}
	request, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	controlErr := raw.Control(func(fd uintptr) { err = unix.IoctlIfreq(int(fd), unix.TUNGETIFF, request) })
	return request.Name(), errors.Join(controlErr, err)
}

// Pump carries frames between two taps until one of them is closed.
func Pump(a, b io.ReadWriter) {
	var both sync.WaitGroup
	both.Go(func() { carry(a, b) })
	both.Go(func() { carry(b, a) })
	both.Wait()
}

func carry(to io.Writer, from io.Reader) {
	frame := make([]byte, HeaderSize+1<<16)
	for {
		n, err := from.Read(frame)
		if err != nil {
			return
		}
		// A link that is down refuses frames, and the wire loses them.
		_, _ = to.Write(frame[:n])
	}
}
