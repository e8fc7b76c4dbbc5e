// Package tap stands in for an emulator: it opens taps as QEMU does and carries frames between two of them, so that a
// network namespace can play the guest. Nothing here imports testing, since the pump is also a program.
package tap

import (
	"fmt"
	"io"
	"os"
	"sync"

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
