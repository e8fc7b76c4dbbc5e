package network

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// Frames, built by hand: what a guest sends need not be what a stack would send.

var (
	podMAC    = must(identity.ParseMAC("0a:58:0a:f4:01:05"))
	nodeMAC   = must(identity.ParseMAC("0a:58:0a:f4:01:01"))
	broadcast = must(identity.ParseMAC("ff:ff:ff:ff:ff:ff"))
	podIP     = netip.MustParseAddr("10.244.1.5")
	gatewayIP = netip.MustParseAddr("10.244.1.1")
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func word(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

// ethernet puts a header in front of a payload. Each tag is the EtherType of the tag and its TCI.
func ethernet(dst, src identity.MAC, etherType int, payload []byte, tags ...[2]int) []byte {
	frame := slices.Concat(dst[:], src[:])
	for _, t := range tags {
		frame = append(frame, slices.Concat(word(t[0]), word(t[1]))...)
	}
	return slices.Concat(frame, word(etherType), payload)
}

func arp(operation int, senderMAC identity.MAC, sender, target netip.Addr) []byte {
	return slices.Concat(word(1), word(unix.ETH_P_IP), []byte{6, 4}, word(operation), senderMAC[:], sender.AsSlice(), make([]byte, 6), target.AsSlice())
}

// ipv4 is a packet with a UDP or TCP header that has the ports and nothing else of interest.
func ipv4(protocol int, src, dst netip.Addr, srcPort, dstPort int) []byte {
	transport := slices.Concat(word(srcPort), word(dstPort), word(16), word(0), make([]byte, 8))
	if protocol == unix.IPPROTO_TCP {
		transport = slices.Concat(word(srcPort), word(dstPort), make([]byte, 8), []byte{0x50, 0x02}, word(0xffff), word(0), word(0))
		sum := checksum(slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, unix.IPPROTO_TCP}, word(len(transport)), transport))
		binary.BigEndian.PutUint16(transport[16:], sum)
	}
	return ipv4Packet(protocol, src, dst, transport)
}

func ipv4Packet(protocol int, src, dst netip.Addr, payload []byte) []byte {
	header := slices.Concat([]byte{0x45, 0}, word(20+len(payload)), word(1), word(0), []byte{64, byte(protocol)}, word(0), src.AsSlice(), dst.AsSlice())
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	return append(header, payload...)
}

func ipv6UDP(dstPort int) []byte {
	a := netip.MustParseAddr("fe80::1").AsSlice()
	return slices.Concat([]byte{0x60, 0, 0, 0}, word(16), []byte{unix.IPPROTO_UDP, 64}, a, a, word(1000), word(dstPort), word(16), word(1), make([]byte, 8))
}

// ipv6Packet has the hop limit that neighbour discovery asks for (RFC 4861).
func ipv6Packet(next int, src, dst netip.Addr, payload []byte) []byte {
	return slices.Concat([]byte{0x60, 0, 0, 0}, word(len(payload)), []byte{byte(next), 255}, src.AsSlice(), dst.AsSlice(), payload)
}

func udp6(src, dst netip.Addr, port int, data []byte) []byte {
	return summed(src, dst, unix.IPPROTO_UDP, 6, slices.Concat(word(1000), word(port), word(8+len(data)), word(0), data))
}

// routerAdvertisement announces the sender as router, and a prefix to make addresses of (RFC 4861, 4.2 and 4.6.2).
func routerAdvertisement(src, dst netip.Addr, prefix netip.Prefix) []byte {
	return routerAdvertisementFor(3600, src, dst, prefix)
}

// routerAdvertisementFor is one for so many seconds.
func routerAdvertisementFor(seconds int, src, dst netip.Addr, prefix netip.Prefix) []byte {
	lifetime := slices.Concat(word(0), word(seconds))
	option := slices.Concat([]byte{3, 4, byte(prefix.Bits()), 0xc0}, lifetime, lifetime, make([]byte, 4), prefix.Addr().AsSlice())
	return summed(src, dst, unix.IPPROTO_ICMPV6, 2, slices.Concat([]byte{134, 0, 0, 0, 64, 0}, word(seconds), make([]byte, 8), option))
}

// summed fills in the checksum over the packet and its pseudo header (RFC 8200, 8.1).
func summed(src, dst netip.Addr, next byte, at int, payload []byte) []byte {
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), word(0), word(len(payload)), []byte{0, 0, 0, next}, payload)
	binary.BigEndian.PutUint16(payload[at:], checksum(append(pseudo, 0)))
	return payload
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
