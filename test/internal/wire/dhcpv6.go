package wire

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// IP6Len is the header of IPv6 in bytes (RFC 8200).
const IP6Len = 40

// Kinds of messages (RFC 8415 §7.3).
const (
	Solicit   = 1
	Advertise = 2
	Request6  = 3
	Reply     = 7
)

// Message6 is what tests want to know of a message of DHCPv6. What is absent is not valid or nil.
type Message6 struct {
	Kind byte
	XID  uint32 // of 24 bits
	// Server is its identifier, Gives the first address.
	Server []byte
	Gives  netip.Addr
}

// LinkLocal is the address that a MAC makes (RFC 4291, appendix A).
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// Ask6 is a frame with a message to all servers, of a guest that wants an address, its resolver and its name. A request names
// the server and the address of what it takes up.
func Ask6(mac net.HardwareAddr, kind byte, xid uint32, takes Message6) []byte {
	m := binary.BigEndian.AppendUint32(nil, uint32(kind)<<24|xid&0xffffff)
	option := func(code uint16, body ...byte) {
		m = binary.BigEndian.AppendUint16(m, code)
		m = append(binary.BigEndian.AppendUint16(m, uint16(len(body))), body...)
	}
	option(1, append([]byte{0, 3, 0, 1}, mac...)...) // DUID-LL
	association := make([]byte, 12)
	association[3] = 1
	if takes.Gives.IsValid() {
		option(2, takes.Server...)
		association = append(append(association, 0, 5, 0, 24), takes.Gives.AsSlice()...)
		association = append(association, make([]byte, 8)...)
	}
	option(3, association...)
	option(6, 0, 23, 0, 24, 0, 39)
	option(8, 0, 0)
	to := netip.MustParseAddr("ff02::1:2")
	return ip6(mac, net.HardwareAddr{0x33, 0x33, 0, 1, 0, 2}, LinkLocal(mac), to, unix.IPPROTO_UDP, 1, 6,
		append([]byte{546 >> 8, 546 & 0xff, 547 >> 8, 547 & 0xff, 0, byte(UDPLen + len(m)), 0, 0}, m...))
}

// ip6 is a frame whose payload has its checksum at an offset.
func ip6(from, to net.HardwareAddr, source, destination netip.Addr, protocol, hops byte, checksum int, payload []byte) []byte {
	f := append(append(append(make([]byte, 0, 200), to...), from...), 0x86, 0xdd, 0x60, 0, 0, 0)
	f = append(binary.BigEndian.AppendUint16(f, uint16(len(payload))), protocol, hops)
	f = append(append(append(f, source.AsSlice()...), destination.AsSlice()...), payload...)
	pseudo := uint32(protocol) + uint32(len(payload))
	for at := EthernetLen + 8; at < EthernetLen+IP6Len; at += 2 {
		pseudo += uint32(binary.BigEndian.Uint16(f[at:]))
	}
	payload = f[EthernetLen+IP6Len:]
	binary.BigEndian.PutUint16(payload[checksum:], Checksum(pseudo, payload))
	return f
}

// Parse6 reads a frame with an answer of DHCPv6 to a client.
func Parse6(f []byte) (m Message6, ok bool) {
	const udp = EthernetLen + IP6Len
	if len(f) < udp+UDPLen+4 || f[12] != 0x86 || f[13] != 0xdd || f[EthernetLen+6] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(f[udp+2:]) != 546 {
		return m, false
	}
	b := f[udp+UDPLen:]
	m.Kind, m.XID = b[0], binary.BigEndian.Uint32(b)&0xffffff
	options(b[4:], func(code uint16, body []byte) {
		switch {
		case code == 2:
			m.Server = body
		case code == 3 && len(body) >= 12:
			options(body[12:], func(code uint16, body []byte) {
				if code == 5 && len(body) >= 24 && !m.Gives.IsValid() {
					m.Gives = netip.AddrFrom16([16]byte(body))
				}
			})
		}
	})
	return m, true
}

func options(b []byte, each func(code uint16, body []byte)) {
	for len(b) >= 4 {
		end := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if end > len(b) {
			return
		}
		each(binary.BigEndian.Uint16(b), b[4:end])
		b = b[end:]
	}
}

// Neighbour answers a frame that asks for the link-local address of a MAC; nil if it is none.
func Neighbour(mac net.HardwareAddr, f []byte) []byte {
	const icmp = EthernetLen + IP6Len
	own := LinkLocal(mac)
	if len(f) < icmp+24 || f[12] != 0x86 || f[13] != 0xdd || f[EthernetLen+6] != unix.IPPROTO_ICMPV6 || f[icmp] != 135 ||
		!bytes.Equal(f[icmp+8:icmp+24], own.AsSlice()) {
		return nil
	}
	asker := netip.AddrFrom16([16]byte(f[EthernetLen+8:]))
	body := append([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, own.AsSlice()...) // solicited, override
	return ip6(mac, f[6:12], own, asker, unix.IPPROTO_ICMPV6, 255, 2, append(append(body, 2, 1), mac...))
}
