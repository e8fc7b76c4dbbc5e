package link

import (
	"encoding/binary"
	"net/netip"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/network/identity"
)

// IPv6, as far as Neighbor Discovery and DHCPv6 need it.
const (
	TypeIPv6    = 0x86dd
	IPv6Len     = 40
	ProtoICMPv6 = 58

	ipv6Version = 6
)

// NDHopLimit shows that a message was not forwarded; one with another hop limit is ignored (RFC 4861 §6.1.1, §7.1.1).
const NDHopLimit = 255

// Types of ICMPv6 messages (RFC 4861 §4).
const (
	NDRouterSolicitation    = 133
	NDRouterAdvertisement   = 134
	NDNeighborSolicitation  = 135
	NDNeighborAdvertisement = 136
	NDRedirect              = 137
)

// Ports of DHCPv6 (RFC 8415 §7.2).
const (
	ClientPort6 = 546
	ServerPort6 = 547
)

// Group addresses: every station of the link (RFC 4291 §2.7.1), and every DHCPv6 server on it (RFC 8415 §7.1).
var (
	AllNodes   = netip.MustParseAddr("ff02::1")
	AllServers = netip.MustParseAddr("ff02::1:2")
)

// Packet6 is an IPv6 packet without extension headers. No client sends these messages with any.
type Packet6 struct {
	Source, Destination netip.Addr
	Next                uint8 // ProtoUDP or ProtoICMPv6
	HopLimit            uint8
	// Payload is the ICMPv6 message, or of UDP what follows its header.
	Payload []byte
	// Ports are those of UDP.
	SourcePort, Port uint16
}

// ParseIPv6 reads a packet, which may be followed by padding, and checks its checksum, which the libraries that read the
// messages leave to the kernel.
func ParseIPv6(b []byte, sum ChecksumState) (Packet6, error) {
	if len(b) < IPv6Len {
		return Packet6{}, drop.Truncated
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	switch {
	case b[0]>>4 != ipv6Version:
		return Packet6{}, drop.Malformed
	case IPv6Len+length > len(b):
		return Packet6{}, drop.Truncated
	}
	p := Packet6{
		Source: netip.AddrFrom16([16]byte(b[8:])), Destination: netip.AddrFrom16([16]byte(b[24:])), Next: b[6], HopLimit: b[7],
		Payload: b[IPv6Len : IPv6Len+length],
	}
	if p.Next != ProtoUDP && p.Next != ProtoICMPv6 {
		return Packet6{}, drop.NotForUs
	}
	if length < UDPLen { // an ICMPv6 message of Neighbor Discovery has as much before its options
		return Packet6{}, drop.Malformed
	}
	if p.Next == ProtoUDP {
		size := int(binary.BigEndian.Uint16(p.Payload[4:]))
		if size < UDPLen || size > length {
			return Packet6{}, drop.Malformed
		}
		p.Payload = p.Payload[:size]
	}
	if sum == ChecksumFinished && Checksum(pseudoHeader6(b, p.Next, len(p.Payload)), p.Payload) != 0 {
		return Packet6{}, drop.Checksum
	}
	if p.Next == ProtoUDP {
		if binary.BigEndian.Uint16(p.Payload[6:]) == 0 { // IPv6 has no datagrams without one (RFC 8200 §8.1)
			return Packet6{}, drop.Checksum
		}
		p.SourcePort, p.Port = binary.BigEndian.Uint16(p.Payload), binary.BigEndian.Uint16(p.Payload[2:])
		p.Payload = p.Payload[UDPLen:]
	}
	return p, nil
}

// AppendICMPv6 appends the frame of a Neighbor Discovery message whose checksum is made already.
func AppendICMPv6(f []byte, destination, source identity.MAC, from, to netip.Addr, message []byte) []byte {
	f = appendIPv6(f, destination, source, from, to, ProtoICMPv6, NDHopLimit, len(message))
	return append(f, message...)
}

// AppendUDP6 appends the frame of a message from the server's port to the client's. The hop limit is that of a message
// that stays on the link.
func AppendUDP6(f []byte, destination, source identity.MAC, from, to netip.Addr, message []byte) []byte {
	length := UDPLen + len(message)
	f = appendIPv6(f, destination, source, from, to, ProtoUDP, ipTTL, length)
	f = binary.BigEndian.AppendUint16(f, ServerPort6)
	f = binary.BigEndian.AppendUint16(f, ClientPort6)
	f = binary.BigEndian.AppendUint16(f, uint16(length))
	f = append(f, 0, 0)
	f = append(f, message...)

	ip := f[len(f)-length-IPv6Len:]
	sum := Checksum(pseudoHeader6(ip, ProtoUDP, length), ip[IPv6Len:])
	if sum == 0 {
		sum = 0xffff // zero would say that there is none, which IPv6 does not have (RFC 8200 §8.1)
	}
	binary.BigEndian.PutUint16(ip[IPv6Len+6:], sum)
	return f
}

func appendIPv6(f []byte, destination, source identity.MAC, from, to netip.Addr, next, hops uint8, length int) []byte {
	f = append(f, destination[:]...)
	f = append(f, source[:]...)
	f = binary.BigEndian.AppendUint16(f, TypeIPv6)
	f = append(f, ipv6Version<<4, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(length))
	f = append(f, next, hops)
	f = append(f, from.AsSlice()...)
	return append(f, to.AsSlice()...)
}

// MulticastMAC is where a frame to an IPv6 group goes (RFC 2464 §7).
func MulticastMAC(group netip.Addr) identity.MAC {
	b := group.As16()
	return identity.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// pseudoHeader6 is the sum of what a checksum covers of an IPv6 header (RFC 8200 §8.1).
func pseudoHeader6(ip []byte, next uint8, length int) uint32 {
	sum := uint32(next) + uint32(length)
	for i := 8; i < IPv6Len; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	return sum
}
