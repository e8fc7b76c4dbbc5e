package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// datagramShape is a way to write one UDP datagram as frames.
type datagramShape struct {
	tags    [][2]int // outermost first: TPID and TCI
	options int      // bytes of IP options
	version int      // of the IP header
	cut     string   // fragments; empty: none
	snap    bool     // RFC 1042's encapsulation
	headers string   // IPv6 extension headers; only where version is 6 and ipv6 is set
	ipv6    bool
}

func (s datagramShape) String() string {
	text := ""
	for _, t := range s.tags {
		text += fmt.Sprintf("[%x %d]", t[0], t[1])
	}
	if s.snap {
		text += " SNAP"
	}
	if s.ipv6 {
		return text + " IPv6 " + s.headers
	}
	return text + fmt.Sprintf(" IPv%d options %d %s", s.version, s.options, s.cut)
}

// isTag is eth_type_vlan (include/linux/if_vlan.h): what Linux takes for a VLAN tag.
func isTag(etherType int) bool {
	return etherType == unix.ETH_P_8021Q || etherType == unix.ETH_P_8021AD
}

// visibleTags are those before the first that Linux takes for something else.
func (s datagramShape) visibleTags() int {
	n := slices.IndexFunc(s.tags, func(t [2]int) bool { return !isTag(t[0]) })
	if n < 0 {
		return len(s.tags)
	}
	return n
}

// hidden reports whether the filter drops the shape whatever is in it, because it could not tell whether that is DHCP.
func (s datagramShape) hidden() bool {
	tags := s.visibleTags()
	switch {
	case tags >= 3:
		return true
	case tags < len(s.tags) || s.ipv6:
		return false
	case tags == 2:
		return !s.snap && (s.options > 0 || s.version != 4)
	}
	return s.snap || s.version != 4
}

// datagramShapes makes all combinations of up to two tags, many of up to five, and every form of IP header in each.
func datagramShapes() []datagramShape {
	var stacks [][][2]int
	grow := func(kinds [][2]int, from, depth int) {
		level := [][][2]int{nil}
		for d := 1; d <= depth; d++ {
			var next [][][2]int
			for _, stack := range level {
				for _, k := range kinds {
					next = append(next, append(slices.Clone(stack), k))
				}
			}
			if level = next; d >= from {
				stacks = append(stacks, level...)
			}
		}
	}
	const q, ad, old = unix.ETH_P_8021Q, unix.ETH_P_8021AD, unix.ETH_P_QINQ1
	stacks = append(stacks, nil)
	grow([][2]int{{q, 0}, {q, 5}, {q, 0xe000}, {ad, 0}, {ad, 5}, {old, 0}, {old, 5}}, 1, 2)
	grow([][2]int{{q, 0}, {ad, 0}, {q, 5}}, 3, 4)
	grow([][2]int{{q, 0}}, 5, 5)
	grow([][2]int{{ad, 0}}, 5, 5)
	var shapes []datagramShape
	for _, tags := range stacks {
		for _, options := range []int{0, 4, 40} {
			for _, cut := range []string{"", "8 bytes first", "last first", "in three"} {
				shapes = append(shapes, datagramShape{tags: tags, version: 4, options: options, cut: cut})
			}
		}
		for _, version := range []int{0, 5, 6} {
			shapes = append(shapes, datagramShape{tags: tags, version: version}, datagramShape{tags: tags, version: version, options: 8})
		}
		shapes = append(shapes, datagramShape{tags: tags, version: 4, snap: true}, datagramShape{tags: tags, version: 4, snap: true, options: 4})
		for _, headers := range []string{"", "hop-by-hop", "destination", "both", "fragment"} {
			shapes = append(shapes, datagramShape{tags: tags, ipv6: true, headers: headers})
		}
	}
	return shapes
}

var (
	senderIP   = netip.MustParseAddr("10.244.1.66")
	everybody4 = netip.MustParseAddr("255.255.255.255")
	senderIP6  = netip.MustParseAddr("fe80::66")
	everybody6 = netip.MustParseAddr("ff02::1")
)

// frames writes a datagram to everybody.
func (s datagramShape) frames(src identity.MAC, port int, id uint16, data []byte) [][]byte {
	dst, etherType := broadcast, unix.ETH_P_IP
	var packets [][]byte
	if s.ipv6 {
		dst, etherType = identity.MAC{0x33, 0x33, 0, 0, 0, 1}, unix.ETH_P_IPV6
		packets = [][]byte{s.ipv6Packet(port, id, data)}
	} else {
		packets = s.ipv4Packets(port, id, data)
	}
	var frames [][]byte
	for _, p := range packets {
		if s.snap {
			p = slices.Concat([]byte{0xaa, 0xaa, 3, 0, 0, 0}, word(etherType), p)
			frames = append(frames, ethernet(dst, src, len(p), p, s.tags...))
			continue
		}
		frames = append(frames, ethernet(dst, src, etherType, p, s.tags...))
	}
	return frames
}

func (s datagramShape) ipv4Packets(port int, id uint16, data []byte) [][]byte {
	datagram := slices.Concat(word(1000), word(port), word(8+len(data)), word(0), data)
	fragment := func(from, to int) []byte {
		options := make([]byte, s.options)
		for i := range options {
			options[i] = 1 // no operation
		}
		field := from / 8
		if to < len(datagram) {
			field |= 0x2000 // more fragments
		}
		header := slices.Concat([]byte{byte(s.version<<4 | (20+s.options)/4), 0}, word(20+s.options+to-from), word(int(id)), word(field),
			[]byte{64, unix.IPPROTO_UDP}, word(0), senderIP.AsSlice(), everybody4.AsSlice(), options)
		binary.BigEndian.PutUint16(header[10:], checksum(header))
		return append(header, datagram[from:to]...)
	}
	switch end := len(datagram); s.cut {
	case "8 bytes first":
		return [][]byte{fragment(0, 8), fragment(8, end)}
	case "last first":
		return [][]byte{fragment(16, end), fragment(0, 16)}
	case "in three":
		return [][]byte{fragment(0, 8), fragment(16, end), fragment(8, 16)}
	default:
		return [][]byte{fragment(0, end)}
	}
}

func (s datagramShape) ipv6Packet(port int, id uint16, data []byte) []byte {
	datagram := udp6(senderIP6, everybody6, port, data)
	next, payload := byte(unix.IPPROTO_UDP), datagram
	padded := func(kind byte) { payload, next = slices.Concat([]byte{next, 0, 1, 4, 0, 0, 0, 0}, payload), kind } // PadN
	switch s.headers {
	case "hop-by-hop":
		padded(unix.IPPROTO_HOPOPTS)
	case "destination":
		padded(unix.IPPROTO_DSTOPTS)
	case "both":
		padded(unix.IPPROTO_DSTOPTS)
		padded(unix.IPPROTO_HOPOPTS)
	case "fragment": // the only one (RFC 6946)
		payload, next = slices.Concat([]byte{next, 0}, word(0), word(0), word(int(id)), payload), unix.IPPROTO_FRAGMENT
	}
	return ipv6Packet(int(next), senderIP6, everybody6, payload)
}

// takesForDHCP reports whether some receiver would take the frame for DHCP, and is more lenient than any: it strips every
// VLAN tag, since a VLAN link may stand behind each, reads SNAP behind one tag or none, and minds neither the version of
// the IP header nor its checksum. frame comes from a packet socket, where the outermost tag is gone.
func takesForDHCP(frame []byte) bool {
	at := func(offset int) int {
		if offset+2 > len(frame) {
			return -1
		}
		return int(binary.BigEndian.Uint16(frame[offset:]))
	}
	ip := 14
	for isTag(at(ip - 2)) {
		ip += 4
	}
	if ip == 14 && at(12) < 0x600 && at(14) == 0xaaaa && at(20) == unix.ETH_P_IP {
		ip += 8
	} else if at(ip-2) != unix.ETH_P_IP {
		return false
	}
	if len(frame) < ip+20 || frame[ip+9] != unix.IPPROTO_UDP || at(ip+6)&0x1fff != 0 {
		return false
	}
	port := at(ip + int(frame[ip]&15)*4 + 2)
	return port == 67 || port == 68
}
