package upgrade

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/shapes/tap"
)

// A recording is a text with a line for each change that was asked of the kernel, in order:
//
//	rtnetlink NAME BYTES   a request by that protocol; NAME is for the reader
//	netfilter BYTES        a transaction by that one
//	tap NAME               the tap of that name is opened, as one with virtio headers
//	persist                it is to stay
//
// Empty lines, and what begins with #, are nothing. The pod's interface has the index recordedIndex, and the links that are made
// have those that follow.

// protocols are those of netlink in a recording.
var protocols = map[string]int{"rtnetlink": unix.NETLINK_ROUTE, "netfilter": unix.NETLINK_NETFILTER}

const recordedIndex = 2

// replay asks the kernel for what a recording has, in the calling thread's namespace, where the pod's interface has the index.
func replay(recording string, index int) (err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// A tap has one user, and a program that another test starts just now has it too.
	file := os.NewFile(uintptr(fd), "/dev/net/tun")
	defer func() { err = errors.Join(err, tap.LetGo(file, func(do func() error) error { return do() })) }()
	sockets := map[string]int{}
	for name, protocol := range protocols {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}); err != nil {
			return err
		}
		sockets[name] = fd
	}
	for lines := bufio.NewScanner(strings.NewReader(recording)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0 || words[0][0] == '#':
			continue
		case words[0] == "tap":
			var request *unix.Ifreq
			if request, err = unix.NewIfreq(words[1]); err == nil {
				request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
				err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
			}
		case words[0] == "persist":
			err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
		default:
			var requests []byte
			if requests, err = hex.DecodeString(words[len(words)-1]); err == nil && words[0] == "rtnetlink" {
				err = shift(requests, index-recordedIndex)
			}
			if err == nil {
				err = ask(sockets[words[0]], requests)
			}
		}
		if err != nil {
			return fmt.Errorf("%.200s: %w", lines.Text(), err)
		}
	}
	return nil
}

// ask sends requests and waits for the answers to those that want one.
func ask(socket int, requests []byte) error {
	waiting := 0
	err := each(requests, func(m []byte) error {
		if flagsOf(m)&unix.NLM_F_ACK != 0 {
			waiting++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := unix.Sendto(socket, requests, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for buffer := make([]byte, 1<<16); waiting > 0; {
		n, _, err := unix.Recvfrom(socket, buffer, 0)
		if err != nil {
			return err
		}
		err = each(buffer[:n], func(m []byte) error {
			if typeOf(m) != unix.NLMSG_ERROR {
				return nil
			}
			waiting--
			answer := m[unix.NLMSG_HDRLEN:] // an error, or 0, and the request (struct nlmsgerr)
			errno := unix.Errno(-int32(binary.NativeEndian.Uint32(answer)))
			// The program passes over that, too: the kernel takes an IPv6 address away when the link goes down.
			if errno == 0 || errno == unix.EADDRNOTAVAIL && typeOf(answer[4:]) == unix.RTM_DELADDR {
				return nil
			}
			return errno
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shift adds to each index of a link in requests of rtnetlink, and to those in podnic's marks of links.
func shift(requests []byte, by int) error {
	add := func(number []byte) {
		if n := binary.NativeEndian.Uint32(number); n != 0 { // that of no link
			binary.NativeEndian.PutUint32(number, n+uint32(by))
		}
	}
	return each(requests, func(m []byte) error {
		const first = unix.NLMSG_HDRLEN + 4 // where a link, an address and a neighbour have it
		switch typeOf(m) {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_SETLINK:
			add(m[first:])
			return attributes(m, unix.SizeofIfInfomsg, func(kind uint16, value []byte) {
				switch {
				case kind == unix.IFLA_LINK, kind == unix.IFLA_MASTER, kind == unix.IFLA_GROUP && plan.IsMark(binary.NativeEndian.Uint32(value)):
					add(value)
				}
			})
		case unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			add(m[first:])
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			hops := false
			err := attributes(m, unix.SizeofRtMsg, func(kind uint16, value []byte) {
				switch kind {
				case unix.RTA_OIF, unix.RTA_IIF:
					add(value)
				case unix.RTA_MULTIPATH:
					hops = true
				}
			})
			if hops {
				return errors.New("a recording knows nothing of the indexes in a route of several hops")
			}
			return err
		}
		return nil
	})
}

// attributes calls a function for each attribute of a message of rtnetlink, which begins with a structure of that size.
func attributes(message []byte, size int, do func(kind uint16, value []byte)) error {
	for rest := message[min(len(message), unix.NLMSG_HDRLEN+size):]; len(rest) > 0; {
		if len(rest) < unix.SizeofRtAttr {
			return errors.New("half an attribute")
		}
		length := int(binary.NativeEndian.Uint16(rest))
		if length < unix.SizeofRtAttr || length > len(rest) {
			return fmt.Errorf("an attribute of %d bytes in %d", length, len(rest))
		}
		do(binary.NativeEndian.Uint16(rest[2:]), rest[unix.SizeofRtAttr:length])
		rest = rest[min(len(rest), (length+3)&^3):]
	}
	return nil
}

func typeOf(message []byte) uint16  { return binary.NativeEndian.Uint16(message[4:]) }
func flagsOf(message []byte) uint16 { return binary.NativeEndian.Uint16(message[6:]) }

// each calls a function for each netlink message.
func each(b []byte, do func(message []byte) error) error {
	for len(b) > 0 {
		if len(b) < unix.NLMSG_HDRLEN {
			return errors.New("half a message")
		}
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			return fmt.Errorf("a message of %d bytes in %d", length, len(b))
		}
		if err := do(b[:length]); err != nil {
			return err
		}
		b = b[min(len(b), (length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return nil
}
