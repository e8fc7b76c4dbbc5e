package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

// ndHopLimit shows that a message was not forwarded; any other one is ignored (RFC 4861 §6.1.1).
const ndHopLimit = 255

// decodeIPv6 reads Neighbor Discovery and the type of DHCPv6 messages. Neither is podnic's to answer: IPv6 passes.
func decodeIPv6(f *Traced, b []byte) {
	f.Protocol, f.Message = ProtocolND, unreadable
	if len(b) < link.IPv6Len+4 || b[0]>>4 != 6 {
		return
	}
	source, destination := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	length := int(binary.BigEndian.Uint16(b[4:]))
	payload := b[link.IPv6Len:]
	if length < len(payload) {
		payload = payload[:length]
	}
	switch b[6] {
	case link.ProtoUDP:
		decodeDHCPv6(f, payload)
	case link.ProtoICMPv6:
		decodeND(f, payload, source, destination)
		if b[7] != ndHopLimit {
			f.add("ignored", fmt.Sprintf("its hop limit is %d", b[7]))
		}
	}
}

// ndForms are where the options of each message begin.
var ndForms = map[byte]struct {
	name    string
	options int
}{
	link.NDRouterSolicitation:    {"RS", 8},
	link.NDRouterAdvertisement:   {"RA", 16},
	link.NDNeighborSolicitation:  {"NS", 24},
	link.NDNeighborAdvertisement: {"NA", 24},
	link.NDRedirect:              {"REDIRECT", 40},
}

func decodeND(f *Traced, b []byte, source, destination netip.Addr) {
	if len(b) < 4 {
		return
	}
	form, ok := ndForms[b[0]]
	if !ok || len(b) < form.options {
		return
	}
	f.Message = form.name
	switch b[0] {
	case link.NDRouterSolicitation:
		f.add("from", source.String())
	case link.NDRouterAdvertisement:
		routerAdvertisement(f, b, source)
	case link.NDNeighborSolicitation:
		target := netip.AddrFrom16([16]byte(b[8:]))
		if source.IsUnspecified() {
			f.add("does anybody have", target.String()) // duplicate address detection (RFC 4862 §5.4)
		} else {
			f.add("who has", target.String())
			f.add("tell", source.String())
		}
	case link.NDNeighborAdvertisement:
		neighborAdvertisement(f, b, destination)
	case link.NDRedirect:
		f.add("to", netip.AddrFrom16([16]byte(b[24:])).String())
		f.add("by", netip.AddrFrom16([16]byte(b[8:])).String())
	}
	ndOptions(f, b[form.options:])
}

func routerAdvertisement(f *Traced, b []byte, source netip.Addr) {
	f.add("router", source.String())
	f.add("lifetime", fmt.Sprintf("%d s", binary.BigEndian.Uint16(b[6:])))
	for _, flag := range []struct {
		bit  byte
		name string
	}{{0x80, "managed"}, {0x40, "other"}} {
		if b[5]&flag.bit != 0 {
			f.add(flag.name, "")
		}
	}
}

func neighborAdvertisement(f *Traced, b []byte, destination netip.Addr) {
	f.add("of", netip.AddrFrom16([16]byte(b[8:])).String())
	if b[4]&0x80 != 0 {
		f.add("router", "")
	}
	if b[4]&0x40 != 0 {
		f.add("to", destination.String())
	}
}

// ndOptions adds the options that say where something is and what is on the link (RFC 4861 §4.6, RFC 8106).
func ndOptions(f *Traced, b []byte) {
	for len(b) >= 8 {
		size := int(b[1]) * 8
		if size == 0 || size > len(b) {
			f.add("options", "malformed")
			return
		}
		switch o := b[:size]; {
		case o[0] == 1:
			f.add("sender at", identity.MAC(o[2:]).String())
		case o[0] == 2:
			f.add("at", identity.MAC(o[2:]).String())
		case o[0] == 3 && size == 32:
			f.add("prefix", netip.PrefixFrom(netip.AddrFrom16([16]byte(o[16:])), int(min(o[2], 128))).String())
		case o[0] == 5:
			f.add("mtu", fmt.Sprint(binary.BigEndian.Uint32(o[4:])))
		case o[0] == 25:
			var servers []string
			for a := o[8:]; len(a) >= 16; a = a[16:] {
				servers = append(servers, netip.AddrFrom16([16]byte(a)).String())
			}
			f.add("dns", strings.Join(servers, " "))
		}
		b = b[size:]
	}
}

// dhcpv6Types are the names of the message types (RFC 8415 §7.3).
var dhcpv6Types = []string{
	"TYPE 0", "SOLICIT", "ADVERTISE", "REQUEST", "CONFIRM", "RENEW", "REBIND", "REPLY", "RELEASE", "DECLINE", "RECONFIGURE",
	"INFORMATION-REQUEST", "RELAY-FORW", "RELAY-REPL",
}

func decodeDHCPv6(f *Traced, b []byte) {
	f.Protocol = ProtocolDHCPv6
	if len(b) < link.UDPLen+4 {
		return
	}
	m := b[link.UDPLen:]
	f.Message = fmt.Sprintf("TYPE %d", m[0])
	if int(m[0]) < len(dhcpv6Types) {
		f.Message = dhcpv6Types[m[0]]
	}
	f.Transaction = fmt.Sprintf("%x", m[1:4])
	if f.FromGuest {
		f.Why = "podnic serves IPv4 alone, and IPv6 is left to the pod network"
	}
}
