package gateways

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// datagramQuestions are asked by a UDP socket, as nobody: the filter makes messages of the datagrams, and datagrams of the
// answers (plan.Filter). A question comes from an address of the server's own (identity.Asker).
type datagramQuestions struct {
	conn   *net.UDPConn
	source []byte // control message
	mac    identity.MAC
	from   netip.Addr
	// echoed are routers that have answered an echo request. The answer does not say their MAC, so they are asked for it.
	echoed []netip.Addr
	buffer [2048]byte
}

// Options of UDP sockets (include/uapi/linux/udp.h): datagrams without a checksum are sent, and heard.
const (
	udpNoCheck6TX = 101
	udpNoCheck6RX = 102
)

// askByDatagrams opens one on the link by which the pod's stack reaches the pod network: a bridge, or the pod's own.
func askByDatagrams(ns namespace, names plan.Names, mac identity.MAC) (q questions, err error) {
	link := cmp.Or(names.Bridge, names.NIC)
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		set := func(fd uintptr) {
			failed = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, link)
			for _, o := range []struct{ level, name, value int }{
				{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1},
				{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, onlyOfThisLink},
				{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0},
				// The kernel would leave a checksum to hardware, which would put it into the message.
				{unix.IPPROTO_UDP, udpNoCheck6TX, 1},
				{unix.IPPROTO_UDP, udpNoCheck6RX, 1},
			} {
				if failed == nil {
					failed = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
				}
			}
		}
		if err := raw.Control(set); err != nil {
			return err
		}
		return os.NewSyscallError("setsockopt", failed)
	}}
	from := identity.Asker(mac)
	d := &datagramQuestions{mac: mac, from: from, source: unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()})}
	err = ns.Do(func() error {
		conn, err := config.ListenPacket(context.Background(), "udp6", fmt.Sprintf("[::]:%d", identity.QuestionPort))
		if err == nil {
			d.conn = conn.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", link, err)
	}
	return d, nil
}

const onlyOfThisLink = 255 // the hop limit of a message that was not forwarded (RFC 4861, 6.1.1)

func (q *datagramQuestions) SetReadDeadline(t time.Time) error { return q.conn.SetReadDeadline(t) }

func (q *datagramQuestions) Close() error { return q.conn.Close() }

// ask sends what is behind the first 8 bytes of the message. Its type is said by the traffic class, and its checksum by the
// port.
func (q *datagramQuestions) ask(frame []byte) error {
	class := identity.CarriedQuestion
	if frame[icmpAt] == icmpEchoRequest {
		class = identity.CarriedEchoRequest
	}
	raw, err := q.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, class) })
	if err = cmp.Or(err, os.NewSyscallError("setsockopt", failed)); err != nil {
		return err
	}
	sum := cmp.Or(binary.BigEndian.Uint16(frame[icmpAt+2:]), 0xffff) // the same, in one's complement
	to := netip.AddrPortFrom(netip.AddrFrom16([16]byte(frame[ethernetHeader+24:])), sum)
	_, _, err = q.conn.WriteMsgUDPAddrPort(frame[targetAt:], q.source, to)
	return err
}

func (q *datagramQuestions) hear() (h heard, ok bool, err error) {
	n, from, err := q.conn.ReadFromUDPAddrPort(q.buffer[:])
	if err != nil {
		return h, false, err
	}
	h.from = from.Addr().WithZone("")
	switch h.kind = byte(from.Port() >> 8); {
	case h.kind == icmpEchoReply && h.from.IsLinkLocalUnicast():
		if len(q.echoed) < maxEchoed && !slices.Contains(q.echoed, h.from) {
			q.echoed = append(q.echoed, h.from)
		}
		a := asker{mac: q.mac, from: q.from}
		return h, false, q.ask(a.solicitation(h.from)[0])
	case h.kind != icmpNeighbourAdvertisement || n < optionsAt-targetAt:
		return h, false, nil
	}
	h.readTarget(q.buffer[:n])
	h.echoed = slices.Contains(q.echoed, h.target)
	return h, !h.mac.IsZero(), nil
}

// maxEchoed bounds how many routers are looked at: a link has a few.
const maxEchoed = 16
