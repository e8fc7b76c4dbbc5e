package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/network/identity"
)

// udpSocket6 reads and writes the frames of Neighbor Discovery and DHCPv6 on a link of the pod's stack, as datagrams:
// nftables makes one of the other (identity.Carrier). It needs no capability.
type udpSocket6 struct {
	*boundSocket
	client identity.MAC
	buffer [carriedAt + bufferSize]byte
	in     [64]byte // two control messages: struct in6_pktinfo and a number
	out    []byte   // likewise
}

// carriedAt is where a datagram's payload is put, so that the frame that it was fits before it.
const carriedAt = EtherLen + IPv6Len + UDPLen

// allRouters is the group of every router of the link (RFC 4291 §2.7.1).
var allRouters = netip.MustParseAddr("ff02::2")

// ListenUDP6 opens such a socket in the namespace of the calling thread.
func ListenUDP6(link string, of Service, _ Watch) (Socket, error) {
	program, err := everything()
	if err != nil {
		return nil, err
	}
	bound, err := listenBound("udp6", link, ServerPort6, program,
		option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		option{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
		option{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, NDHopLimit},
		option{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0},
		// What is sent comes from routers' addresses, which nobody has here.
		option{unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1},
		// What is heard of Neighbor Discovery has lost its checksum.
		option{unix.IPPROTO_UDP, udpNoCheck6RX, 1},
	)
	if err != nil {
		return nil, err
	}
	s := &udpSocket6{boundSocket: bound, client: of.Client}
	err = s.control(func(fd int) error {
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: AllServers.As16(), Interface: uint32(s.index)})
	})
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("hear %s on %s: %w", AllServers, link, os.NewSyscallError("setsockopt", err))
	}
	return s, nil
}

// udpNoCheck6RX is UDP_NO_CHECK6_RX (include/uapi/linux/udp.h).
const udpNoCheck6RX = 102

// everything is a filter that passes all: nftables has chosen already.
func everything() ([]bpf.RawInstruction, error) { return filter{pass}.assemble() }

func (s *udpSocket6) Program(Service, Watch) ([]bpf.RawInstruction, error) { return everything() }

func (s *udpSocket6) Receive() (Packet, error) {
	n, controlLen, err := s.receive(s.buffer[carriedAt:], s.in[:])
	if err != nil {
		return Packet{}, err
	}
	to, hops, err := received6(s.in[:controlLen])
	if err != nil {
		return Packet{}, err
	}
	source, port := s.raw.sourceIPv6()
	f := carried(s.buffer[:carriedAt+n], s.client, netip.AddrFrom16(source), to, networkOrder(port), hops)
	return Packet{Data: f, Sum: ChecksumPending}, nil
}

// received6 are the address that a datagram was sent to, and its hop limit.
func received6(control []byte) (to netip.Addr, hops byte, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return to, 0, drop.Malformed
	}
	for _, m := range messages {
		switch {
		case m.Header.Level != unix.IPPROTO_IPV6:
		case m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			to = netip.AddrFrom16([16]byte(m.Data))
		case m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4:
			hops = byte(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return to, hops, nil
}

// carried makes of a datagram, whose payload is in its place, the frame that it was. What nftables carries goes to all
// nodes, and its port is type and code of the message: where that went follows from what it says. Of the message's
// checksum, nothing is left.
func carried(f []byte, client identity.MAC, from, to netip.Addr, port uint16, hops byte) []byte {
	next, header := byte(ProtoUDP), f[EtherLen+IPv6Len:carriedAt]
	clear(header)
	if to == AllNodes {
		next = ProtoICMPv6
		binary.BigEndian.PutUint16(header, port)
		if to = allRouters; port>>8 == NDNeighborSolicitation && len(f) >= carriedAt+16 {
			to = solicitedNode(netip.AddrFrom16([16]byte(f[carriedAt:])))
		}
	} else {
		binary.BigEndian.PutUint16(header, port)
		binary.BigEndian.PutUint16(header[2:], ServerPort6)
		binary.BigEndian.PutUint16(header[4:], uint16(len(f)-EtherLen-IPv6Len))
		header[7] = 1 // not none
	}
	length := len(f) - EtherLen - IPv6Len
	appendIPv6(f[:0], MulticastMAC(to), client, from, to, next, hops, length)
	return f
}

// solicitedNode is the group in which an address is asked for (RFC 4291 §2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// errNotCarried: nftables cannot make this message out of a datagram.
var errNotCarried = errors.New("there is no datagram that could be made into this message")

func (s *udpSocket6) Send(r Response) error {
	d, err := carry(r.Message)
	if err != nil {
		return fmt.Errorf("send on %s: %w", s.link, err)
	}
	s.out = append(s.out[:0], unix.PktInfo6(&unix.Inet6Pktinfo{Addr: d.source.As16()})...)
	s.out = append(s.out, trafficClass(d.class)...)
	err = s.raw.sendIPv6(d.payload, s.out, AllNodes.As16(), s.index, networkOrder(d.port))
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil // no guest holds the link, which has had no carrier yet: there is nobody to hear it
	}
	if err != nil {
		return fmt.Errorf("send on %s: %w", s.link, err)
	}
	return nil
}

// carriedDatagram is what a frame is sent as.
type carriedDatagram struct {
	class   byte
	source  netip.Addr
	port    uint16
	payload []byte
}

func carry(frame []byte) (carriedDatagram, error) {
	if len(frame) < carriedAt {
		return carriedDatagram{}, errNotCarried
	}
	ip, header := frame[EtherLen:], frame[EtherLen+IPv6Len:]
	from, to := netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	d := carriedDatagram{payload: frame[carriedAt:]}
	if ip[6] == ProtoUDP {
		d.class, d.source, d.port = identity.CarriedReply, to, binary.BigEndian.Uint16(header[2:])
		return d, nil
	}
	for _, c := range identity.Carriers {
		if c.Type != header[0] || c.Fixed != [4]byte(header[4:]) || c.Unicast == to.IsMulticast() {
			continue
		}
		if d.class, d.source = c.Class, from; c.Unicast {
			d.source = to
		}
		if d.port = binary.BigEndian.Uint16(header[2:]); d.port == 0 {
			d.port = 0xffff // the same sum, in one's complement, and a port that there is
		}
		return d, nil
	}
	return carriedDatagram{}, errNotCarried
}

// trafficClass is a control message.
func trafficClass(class byte) []byte {
	b := make([]byte, unix.CmsgSpace(4))
	h := cmsgHeader(b)
	h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	h.SetLen(unix.CmsgLen(4))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], uint32(class))
	return b
}

// LackingSettings must be called in the namespace of the socket.
func (s *udpSocket6) LackingSettings() []string {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + s.link + "/disable_ipv6")
	if err == nil && strings.TrimSpace(string(b)) != "0" {
		return []string{fmt.Sprintf("net.ipv6.conf.%s.disable_ipv6 is not 0: the guest is not heard, and gets no IPv6", s.link)}
	}
	return nil
}
