// Package wire makes and reads the frames of DHCP as a guest and whoever listens to it see them. It is written against the
// RFCs alone and shares no code with the server under test.
package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Where things are in a frame, in bytes (IEEE 802.3, RFC 791, RFC 768, RFC 2131).
const (
	EthernetLen = 14
	IPLen       = 20
	UDPLen      = 8
	// BootpLen is the header of a DHCP message, the cookie included.
	BootpLen = 240
)

// minMessage is what clients pad their messages to (RFC 1542 §2.1).
const minMessage = 300

// Message is what tests want to know of a DHCP message.
type Message struct {
	// Kind is option 53; 0 is BOOTP.
	Kind byte
	// Unicast: the frame is to one station.
	Unicast bool
	XID     uint32
	// Has is ciaddr, Gives yiaddr; Wants and Server are options 50 and 54. What is absent is not valid or 0.0.0.0.
	Has, Gives, Wants, Server netip.Addr
}

// kinds are the message types (RFC 2132 §9.6).
var kinds = [...]string{"BOOTP", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM"}

// Name is what RFC 2131 calls the message.
func (m Message) Name() string { return kinds[m.Kind] }

// Text is one line for a message: "guest REQUEST to all, wants 10.0.0.1".
func (m Message) Text(fromGuest bool) string {
	var b strings.Builder
	if fromGuest {
		fmt.Fprintf(&b, "guest %s to ", m.Name())
		if m.Unicast {
			b.WriteString("one")
		} else {
			b.WriteString("all")
		}
	} else {
		fmt.Fprintf(&b, "server %s", m.Name())
	}
	for _, part := range []struct {
		word string
		addr netip.Addr
		skip bool
	}{
		{"has", m.Has, !fromGuest},
		{"gives", m.Gives, false},
		{"wants", m.Wants, false},
		{"by", m.Server, false},
	} {
		if part.addr.IsValid() && !part.addr.IsUnspecified() && !part.skip {
			fmt.Fprintf(&b, ", %s %s", part.word, part.addr)
		}
	}
	return b.String()
}

// Parse reads a frame with DHCP, whoever sent it.
func Parse(f []byte) (m Message, ok bool) {
	if len(f) < EthernetLen+IPLen || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_IP ||
		f[EthernetLen+9] != unix.IPPROTO_UDP {
		return m, false
	}
	udp := f[min(len(f), EthernetLen+int(f[EthernetLen]&15)*4):]
	if len(udp) < UDPLen+BootpLen {
		return m, false
	}
	if port := binary.BigEndian.Uint16(udp[2:]); port != 67 && port != 68 {
		return m, false
	}
	b := udp[UDPLen:]
	address := func(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
	m.Unicast = f[0]&1 == 0
	m.XID = binary.BigEndian.Uint32(b[4:])
	m.Has, m.Gives = address(b[12:]), address(b[16:])
	for o := b[BootpLen:]; len(o) > 1 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		if len(o) < 2+int(o[1]) {
			break
		}
		data := o[2 : 2+o[1]]
		switch {
		case o[0] == 50 && len(data) == 4:
			m.Wants = address(data)
		case o[0] == 53 && len(data) == 1 && int(data[0]) < len(kinds):
			m.Kind = data[0]
		case o[0] == 54 && len(data) == 4:
			m.Server = address(data)
		}
		o = o[2+len(data):]
	}
	return m, true
}

// Options of requests: 53 with the type, then the rest.
var (
	Discover = []byte{53, 1, 1, 255}
	Inform   = []byte{53, 1, 8, 255}
)

// Select is the options of a REQUEST that takes up an offer.
func Select(address, server netip.Addr) []byte {
	o := append([]byte{53, 1, 3, 50, 4}, address.AsSlice()...)
	return append(append(append(o, 54, 4), server.AsSlice()...), 255)
}

// Request is a frame with a DHCP message from a guest without an address to everybody.
func Request(mac net.HardwareAddr, xid uint32, options ...byte) []byte {
	b := make([]byte, BootpLen, minMessage)
	b[0], b[1], b[2] = 1, 1, 6
	binary.BigEndian.PutUint32(b[4:], xid)
	copy(b[28:], mac)
	binary.BigEndian.PutUint32(b[236:], 0x63825363)
	b = append(b, options...)
	b = append(b, make([]byte, max(0, minMessage-len(b)))...)

	return UDP(Station{mac, netip.IPv4Unspecified(), 68}, Station{everybody, netip.AddrFrom4([4]byte{255, 255, 255, 255}), 67}, b)
}

var everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Station is one end of a datagram.
type Station struct {
	MAC  net.HardwareAddr
	IP   netip.Addr
	Port uint16
}

// UDP is a frame with a datagram, its checksums finished.
func UDP(from, to Station, payload []byte) []byte {
	length := UDPLen + len(payload)
	f := append(append(make([]byte, 0, EthernetLen+IPLen+length), to.MAC...), from.MAC...)
	f = append(f, 8, 0, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(IPLen+length))
	f = append(f, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	f = append(append(f, from.IP.AsSlice()...), to.IP.AsSlice()...)
	f = binary.BigEndian.AppendUint16(f, from.Port)
	f = binary.BigEndian.AppendUint16(f, to.Port)
	f = binary.BigEndian.AppendUint16(f, uint16(length))
	f = append(append(f, 0, 0), payload...)
	ip := f[EthernetLen:]
	binary.BigEndian.PutUint16(ip[10:], Checksum(0, ip[:IPLen]))
	pseudo := uint32(unix.IPPROTO_UDP + length)
	for at := 12; at < IPLen; at += 2 {
		pseudo += uint32(binary.BigEndian.Uint16(ip[at:]))
	}
	binary.BigEndian.PutUint16(ip[IPLen+6:], Checksum(pseudo, ip[IPLen:]))
	return f
}

// Checksum is the Internet checksum (RFC 1071) of b, begun with the sum of something else.
func Checksum(sum uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
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
