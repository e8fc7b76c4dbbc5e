package network

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watchedGroups are rtnetlink's multicast groups of what status shows (include/uapi/linux/rtnetlink.h, RTMGRP_…).
const watchedGroups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// Watch tells that links, addresses or routes of a namespace have changed. Changes that come while nobody looks are one.
// Counters and the filter change unannounced.
func Watch(ns *Namespace) (changed <-chan struct{}, stop func(), err error) {
	var fd int
	err = ns.Do(func() error {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: watchedGroups}); err != nil {
			unix.Close(fd)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", ns, err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	c := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1<<16)
		for {
			// A socket that was too full (ENOBUFS) has something to tell as well.
			if _, err := f.Read(buffer); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return // closed
			}
			select {
			case c <- struct{}{}:
			default: // it is known that there is something new
			}
		}
	}()
	return c, func() { f.Close(); <-done }, nil
}
