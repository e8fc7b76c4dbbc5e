package link

import (
	"context"
	"errors"
	"fmt"

	mdsocket "github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// bell rings when a link of the namespace is deleted, moved to another one, or taken out of a bridge, and at no other time.
// A UDP socket is never told that the link that it is bound to is gone. What the kernel says is not read: who
// hears the bell looks at the link.
type bell struct{ conn *mdsocket.Conn }

// listenLinks hangs up a bell in the namespace of the calling thread. It needs no capability (rtnetlink(7), RTMGRP_LINK).
func listenLinks() (bell, error) {
	conn, err := mdsocket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "dhcp", nil)
	if err != nil {
		return bell{}, fmt.Errorf("open netlink socket: %w", err)
	}
	program, err := deletionFilter()
	if err == nil {
		err = controlSocket(conn, func(fd int) error { return AttachFilter(fd, program) })
	}
	if err == nil {
		err = conn.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK})
	}
	if err != nil {
		conn.Close()
		return bell{}, fmt.Errorf("listen to changes of links: %w", err)
	}
	return bell{conn}, nil
}

// wait returns when the bell rings; an error means that it was taken down.
func (b bell) wait() error {
	var message [1]byte
	_, _, _, _, err := b.conn.Recvmsg(context.Background(), message[:], nil, 0)
	if errors.Is(err, unix.ENOBUFS) { // it rang more often than was listened to
		return nil
	}
	return err
}

func (b bell) close() { b.conn.Close() }

// linkName is the name of the link with an index in the namespace of a socket. control runs a call on the socket's
// descriptor and returns the call's error.
func linkName(index int, control func(call func(fd int) error) error) (string, error) {
	request, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	request.SetUint32(uint32(index))
	err = control(func(fd int) error { return unix.IoctlIfreq(fd, unix.SIOCGIFNAME, request) })
	return request.Name(), err
}

// linkState reports whether the link with an index exists in the namespace of a socket, whatever its name is now, and
// whether it is up. control is as for linkName.
func linkState(index int, control func(call func(fd int) error) error) (exists, up bool) {
	name, err := linkName(index, control)
	if err != nil {
		return false, false
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return false, false
	}
	err = control(func(fd int) error { return unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request) })
	return err == nil, err == nil && request.Uint16()&unix.IFF_UP != 0
}
