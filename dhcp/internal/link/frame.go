package link

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/dhcp/internal/drop"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// Ethernet and IPv4, as far as DHCP and ARP need them.
const (
	EtherLen  = 14
	IPLen     = 20
	UDPLen    = 8
	TypeIPv4  = 0x0800
	TypeARP   = 0x0806
	ProtoUDP  = 17
	ipVersion = 4
	ipTTL     = 64
)

// LimitedBroadcast is every station on the link (RFC 919 §7).
func LimitedBroadcast() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// BroadcastMAC is every station on the link.
var BroadcastMAC = identity.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ChecksumState is what the kernel says of a frame's UDP checksum.
type ChecksumState bool

const (
	// ChecksumFinished: it can be checked.
	ChecksumFinished ChecksumState = true
	// ChecksumPending: the sender left the checksum to hardware that does not exist. Only the pseudo header is summed.
	ChecksumPending ChecksumState = false
)

// ParseUDP finds the payload of a UDP datagram to the server port in an IPv4 packet, which may be followed by padding.
func ParseUDP(b []byte, sum ChecksumState) (payload []byte, source netip.Addr, err error) {
	return ParseDatagram(b, sum, v4.ServerPort)
}

// ParseDatagram is ParseUDP for any of some ports.
func ParseDatagram(b []byte, sum ChecksumState, ports ...uint16) (payload []byte, source netip.Addr, err error) {
	if len(b) < IPLen {
		return nil, source, drop.Truncated
	}
	header, total := int(b[0]&0x0f)*4, int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case b[0]>>4 != ipVersion || header < IPLen || total < header+UDPLen:
		return nil, source, drop.Malformed
	case total > len(b):
		return nil, source, drop.Truncated
	case b[9] != ProtoUDP:
		return nil, source, drop.NotForUs
	case binary.BigEndian.Uint16(b[6:])&0x3fff != 0: // more fragments, or an offset
		return nil, source, drop.Fragment
	case Checksum(0, b[:header]) != 0:
		return nil, source, drop.Checksum
	}
	udp := b[header:total]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	switch {
	case !slices.Contains(ports, binary.BigEndian.Uint16(udp[2:])):
		return nil, source, drop.NotForUs
	case length < UDPLen || length > len(udp):
		return nil, source, drop.Malformed
	}
	udp = udp[:length]
	// A checksum of zero is none (RFC 768).
	if sum == ChecksumFinished && binary.BigEndian.Uint16(udp[6:]) != 0 && Checksum(pseudoHeader(b, length), udp) != 0 {
		return nil, source, drop.Checksum
	}
	return udp[UDPLen:], netip.AddrFrom4([4]byte(b[12:])), nil
}

// AppendFrame appends the frame of a message from the server's port to the client's.
func AppendFrame(f []byte, destination, source identity.MAC, from, to netip.Addr, message []byte) []byte {
	length := UDPLen + len(message)
	f = append(f, destination[:]...)
	f = append(f, source[:]...)
	f = binary.BigEndian.AppendUint16(f, TypeIPv4)
	f = append(f, ipVersion<<4|IPLen/4, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(IPLen+length))
	f = append(f, 0, 0, 0x40, 0, ipTTL, ProtoUDP, 0, 0) // don't fragment: boot firmware cannot reassemble
	f = append(f, from.AsSlice()...)
	f = append(f, to.AsSlice()...)
	f = binary.BigEndian.AppendUint16(f, v4.ServerPort)
	f = binary.BigEndian.AppendUint16(f, v4.ClientPort)
	f = binary.BigEndian.AppendUint16(f, uint16(length))
	f = append(f, 0, 0)
	f = append(f, message...)

	ip := f[len(f)-length-IPLen:]
	binary.BigEndian.PutUint16(ip[10:], Checksum(0, ip[:IPLen]))
	sum := Checksum(pseudoHeader(ip, length), ip[IPLen:])
	if sum == 0 {
		sum = 0xffff // zero would say that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(ip[IPLen+6:], sum)
	return f
}

// Checksum is the Internet checksum (RFC 1071) of b, begun with the sum of something else.
func Checksum(sum uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudoHeader is the sum of what UDP's checksum covers of an IPv4 header.
func pseudoHeader(ip []byte, length int) uint32 {
	sum := uint32(ProtoUDP + length)
	for i := 12; i < IPLen; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	return sum
}
