package rtnl

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// TunDevice is what taps are made with.
const TunDevice = "/dev/net/tun"

// openTun opens the device. Not by os.OpenFile, which would make it non-blocking, for this process' poller.
func openTun() (fd int, err error) {
	err = IgnoringEINTR(func() (err error) {
		fd, err = unix.Open(TunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: TunDevice, Err: err}
	}
	return fd, nil
}

// createTap makes a persistent tap. Taps are made by ioctl and not by netlink, with the name and the owner alone
// (drivers/net/tun.c), so the mark, MAC and MTU are set while the tap still hangs on our descriptor: if we die before it
// is complete, it dies with us. Persistence is the last call.
func (e *Executor) createTap(l plan.Link) error {
	return e.NS.Do(func() (err error) {
		// A child that another thread starts meanwhile would have the descriptor too, for longer than we do: to an observer,
		// a guest would hold the tap.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		// The namespace is that of the thread that opens the device.
		fd, err := openTun()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unix.Close(fd)) }()
		e.Conn.Forget()
		ifreq, err := unix.NewIfreq(l.Name)
		if err != nil {
			return err
		}
		flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
		if l.TapSettings.VNetHdr {
			flags |= unix.IFF_VNET_HDR
		}
		if l.TapSettings.MultiQueue {
			flags |= unix.IFF_MULTI_QUEUE
		}
		ifreq.SetUint16(flags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifreq); err != nil {
			return fmt.Errorf("TUNSETIFF: %w", err)
		}
		if e.Index[plan.Tap], err = e.Conn.IndexOf(l.Name); err != nil {
			return err
		}
		header := e.Header(plan.Tap)
		if l.NoARP {
			header.Flags, header.Change = unix.IFF_NOARP, unix.IFF_NOARP
		}
		request := []nl.NetlinkRequestData{
			header,
			nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(l.Group)),
			nl.NewRtAttr(unix.IFLA_ADDRESS, l.MAC.HardwareAddr()),
			nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.MTU))),
		}
		if l.Alias != "" {
			request = append(request, nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(l.Alias)))
		}
		if err := e.Conn.Do(unix.RTM_NEWLINK, 0, request...); err != nil {
			return fmt.Errorf("mark it: %w", err)
		}
		if o := l.TapSettings.Owner; o != nil {
			if err := unix.IoctlSetInt(fd, unix.TUNSETOWNER, int(*o)); err != nil {
				return fmt.Errorf("TUNSETOWNER: %w", err)
			}
		}
		if g := l.TapSettings.Group; g != nil {
			if err := unix.IoctlSetInt(fd, unix.TUNSETGROUP, int(*g)); err != nil {
				return fmt.Errorf("TUNSETGROUP: %w", err)
			}
		}
		if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
			return fmt.Errorf("TUNSETPERSIST: %w", err)
		}
		return nil
	})
}

// CheckTunDevice tells early, and with the remedy, what the creation of a tap would fail with.
func CheckTunDevice() error {
	tun, err := openTun()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return plan.Refuse("there is no %s, which taps are made with: mount it into the container (a hostPath volume of type CharDevice, or --device %s)", TunDevice, TunDevice)
	case slices.ContainsFunc([]error{unix.EPERM, unix.EACCES}, func(e error) bool { return errors.Is(err, e) }):
		return plan.Refuse("%s may not be opened (%v): allow the device 10:200 in the container's device cgroup, and let this user read and write it", TunDevice, err)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return plan.Refuse("%s is there, but the kernel has no driver for it: load the module tun on the node", TunDevice)
	case err != nil:
		return fmt.Errorf("open %s: %w", TunDevice, err)
	}
	defer unix.Close(tun)
	if _, err := unix.IoctlGetUint32(tun, unix.TUNGETFEATURES); err != nil {
		return plan.Refuse("%s is not the device that taps are made with (%w): mount the machine's into the container (10:200)", TunDevice, err)
	}
	return nil
}

// OpenTap opens a tap that is there, once for each queue, as an emulator does.
func OpenTap(ns namespace, name string, queues int) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				_ = closeNow(f.Close)
			}
			files = nil
		}
	}()
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	request.SetUint16(flags)
	err = ns.Do(func() error {
		for range queues {
			fd, err := openTun()
			if err != nil {
				return err
			}
			files = append(files, os.NewFile(uintptr(fd), name))
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
				return fmt.Errorf("TUNSETIFF: %w", err)
			}
		}
		return nil
	})
	return files, err
}
