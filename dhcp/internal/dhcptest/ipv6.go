package dhcptest

import (
	"encoding/binary"
	"net/netip"

	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

// GuestLinkLocal is where the guest asks from.
const GuestLinkLocal = "fe80::858:aff:fef4:105"

// BridgePod6 is a dual-stack pod of the bridge plugin: its subnet is on the link, and the gateway has a global address,
// and a link-local one that was found. What follows are the other shapes.
func BridgePod6() identity.Identity {
	id := BridgePod()
	id.Resolver.Servers = Addrs("10.96.0.10", "fd00:10:96::a")
	id.V6 = identity.Family{
		Addresses: []identity.Address{address6("2001:db8:1::5", 64)},
		Gateway:   Addr("2001:db8:1::1"),
		Routes:    []identity.Route{OnLink("2001:db8:1::/64"), Via("::/0", "2001:db8:1::1")},
	}
	id.Routers = []identity.Router{{Gateway: Addr("2001:db8:1::1"), Address: Addr("fe80::99"), MAC: OtherMAC}}
	return id
}

// PtpPod6 has IPv6 alone, and nothing on its link but the gateway.
func PtpPod6() identity.Identity {
	id := BridgePod6()
	id.V4 = identity.Family{}
	id.V6.Routes = []identity.Route{
		OnLink("2001:db8:1::1/128"), Via("2001:db8:1::/64", "2001:db8:1::1"), Via("::/0", "2001:db8:1::1"),
	}
	return id
}

// CalicoPod6 has a gateway that is link-local, and two addresses.
func CalicoPod6() identity.Identity {
	id := BridgePod6()
	id.V6 = identity.Family{
		Addresses: []identity.Address{address6("2001:db8:1::5", 128), address6("2001:db8:2::5", 128)},
		Gateway:   Addr("fe80::1"),
		Routes:    []identity.Route{Via("::/0", "fe80::1")},
	}
	id.Routers = []identity.Router{{Gateway: Addr("fe80::1"), Address: Addr("fe80::1"), MAC: OtherMAC}}
	return id
}

// CiliumPod6 has a gateway without any link-local address that answers.
func CiliumPod6() identity.Identity {
	id := PtpPod6()
	id.Routers = []identity.Router{{Gateway: Addr("2001:db8:1::1"), Address: identity.VirtualRouter, MAC: OtherMAC, Answered: true}}
	return id
}

// AWSPod6 has a gateway that is a permanent neighbour.
func AWSPod6() identity.Identity {
	id := CalicoPod6()
	id.Routers[0].Answered = true
	id.V6.Neighbours = []identity.Neighbour{{Address: Addr("fe80::1"), MAC: OtherMAC}}
	return id
}

// IsolatedPod6 has no gateway.
func IsolatedPod6() identity.Identity {
	id := BridgePod6()
	id.V6.Gateway, id.V6.Routes, id.Routers = netip.Addr{}, []identity.Route{OnLink("2001:db8:1::/64")}, nil
	return id
}

func address6(addr string, bits int) identity.Address {
	a := Addr(addr)
	return identity.Address{Prefix: netip.PrefixFrom(a, 128), Pod: netip.PrefixFrom(a, bits)}
}

// Option6 is an option of DHCPv6.
func Option6(code uint16, data ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// Join puts bytes together.
func Join(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// ClientDUID identifies the guest, by its MAC (RFC 8415 §11.4).
func ClientDUID() []byte { return Option6(1, Join([]byte{0, 3, 0, 1}, GuestMAC[:])...) }

// ServerDUID is the server's.
func ServerDUID() []byte { return Option6(2, Join([]byte{0, 3, 0, 1}, ServerMAC[:])...) }

// IANA is an association for addresses, with those that a client has.
func IANA(id byte, addrs ...string) []byte {
	data := Join([]byte{0, 0, 0, id}, make([]byte, 8))
	for _, a := range addrs {
		data = append(data, Option6(5, Join(Addr(a).AsSlice(), make([]byte, 8))...)...)
	}
	return Option6(3, data...)
}

// Wants is what a client asks for.
func Wants(codes ...uint16) []byte {
	var data []byte
	for _, c := range codes {
		data = binary.BigEndian.AppendUint16(data, c)
	}
	return Option6(6, data...)
}

// Ask6 makes the bytes of a message of the guest.
func Ask6(kind byte, options ...[]byte) []byte {
	return append([]byte{kind, 0xc0, 0xff, 0xee}, Join(options...)...)
}

// Datagram6 wraps a DHCPv6 message as the guest's kernel would, to all servers.
func Datagram6(message []byte) []byte {
	f := link.AppendUDP6(nil, link.MulticastMAC(link.AllServers), GuestMAC, Addr(GuestLinkLocal), link.AllServers, message)
	udp := f[link.EtherLen+link.IPv6Len:]
	copy(udp, []byte{link.ClientPort6 >> 8, link.ClientPort6 & 0xff, link.ServerPort6 >> 8, link.ServerPort6 & 0xff})
	return f // a sum does not change when its parts change places
}

// Unicast6 is a frame as a client sends it that asks the server alone, from an address that it has.
func Unicast6(f []byte, from string) []byte {
	copy(f, ServerMAC[:])
	ip := f[link.EtherLen:]
	copy(ip[8:], Addr(from).AsSlice())
	copy(ip[24:], identity.ServerLinkLocal6.AsSlice())
	Finish6(f)
	return f
}

// ICMPv6 wraps an ICMPv6 message, and makes its checksum.
func ICMPv6(source, destination string, message []byte) []byte {
	to := Addr(destination)
	mac := ServerMAC
	if to.IsMulticast() {
		mac = link.MulticastMAC(to)
	}
	f := link.AppendICMPv6(nil, mac, GuestMAC, Addr(source), to, message)
	Finish6(f)
	return f
}

// Finish6 makes the checksum of a frame right, where there is one.
func Finish6(f []byte) {
	if len(f) < link.EtherLen+link.IPv6Len+8 {
		return
	}
	ip := f[link.EtherLen:]
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-link.IPv6Len))
	payload := ip[link.IPv6Len:]
	at := 2
	if ip[6] == link.ProtoUDP {
		binary.BigEndian.PutUint16(payload[4:], uint16(len(payload)))
		at = 6
	}
	payload[at], payload[at+1] = 0, 0
	sum := uint32(ip[6]) + uint32(len(payload))
	for i := 8; i < link.IPv6Len; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(payload[at:], link.Checksum(sum, payload))
}

// Solicit is a router or neighbour solicitation: of its target, where there is one, with its source's MAC, where it has one.
func Solicit(target string, mac *identity.MAC) []byte {
	m := []byte{link.NDRouterSolicitation, 0, 0, 0, 0, 0, 0, 0}
	if target != "" {
		m[0] = link.NDNeighborSolicitation
		m = append(m, Addr(target).AsSlice()...)
	}
	if mac != nil {
		m = append(append(m, 1, 1), mac[:]...)
	}
	return m
}

// Seeds6 are frames of every kind, for fuzzing.
func Seeds6() [][]byte {
	return [][]byte{
		ICMPv6(GuestLinkLocal, "ff02::2", Solicit("", &GuestMAC)),
		ICMPv6("::", "ff02::1:ff00:5", Solicit("2001:db8:1::5", nil)),
		ICMPv6(GuestLinkLocal, "ff02::1:ff63:2", Solicit("fe80::706f:646e:6963:2", &GuestMAC)),
		Datagram6(Ask6(1, ClientDUID(), IANA(1), Wants(23, 24, 39, 56, 31, 59), Option6(14), Option6(39, 1, 2, 'v', 'm', 0))),
		Datagram6(Ask6(3, ClientDUID(), ServerDUID(), IANA(1, "2001:db8:1::5"))),
		Datagram6(Ask6(4, ClientDUID(), IANA(1, "2001:db8:9::5"))),
		Datagram6(Ask6(5, ClientDUID(), ServerDUID(), IANA(1, "2001:db8:1::5", "2001:db8:9::5"), Option6(25, make([]byte, 12)...))),
		Datagram6(Ask6(6, ClientDUID(), IANA(1, "2001:db8:1::5"), Option6(4, 0, 0, 0, 2))),
		Datagram6(Ask6(8, ClientDUID(), ServerDUID(), IANA(1, "2001:db8:1::5"))),
		Datagram6(Ask6(9, ClientDUID(), ServerDUID(), IANA(1, "2001:db8:1::5"))),
		Datagram6(Ask6(11, Wants(23), Option6(61, 0, 7), Option6(15, 0, 4, 'i', 'P', 'X', 'E'))),
	}
}
