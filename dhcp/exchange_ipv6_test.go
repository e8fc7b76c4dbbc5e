package dhcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/dhcp/internal/dhcptest"
	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

// What dhcptest has of IPv6, by short names.
var (
	bridgePod6, ptpPod6, calicoPod6   = dhcptest.BridgePod6, dhcptest.PtpPod6, dhcptest.CalicoPod6
	ciliumPod6, awsPod6, isolatedPod6 = dhcptest.CiliumPod6, dhcptest.AWSPod6, dhcptest.IsolatedPod6
	ask6, wants, iaNA, option6        = dhcptest.Ask6, dhcptest.Wants, dhcptest.IANA, dhcptest.Option6
	clientDUID, serverDUID            = dhcptest.ClientDUID, dhcptest.ServerDUID
	datagram6, icmpv6, solicit        = dhcptest.Datagram6, dhcptest.ICMPv6, dhcptest.Solicit
)

const guestLinkLocal = dhcptest.GuestLinkLocal

func mustOffer6(t testing.TB, id identity.Identity, o Settings) Offer6 {
	t.Helper()
	offer, _, err := NewOffer6(id, o)
	if err != nil {
		t.Fatal(err)
	}
	return offer
}

func testHandler6(t testing.TB, id identity.Identity, o Settings) *handler6 {
	t.Helper()
	return newHandler6(mustOffer6(t, id, o), nil, guestMAC, serverMAC, Lease6{}, func() time.Time { return testTime })
}

// exchange6 is a conversation with a server of its own.
type exchange6 struct {
	name    string
	id      identity.Identity
	options Settings
	frames  [][]byte
}

func exchanges6() []exchange6 {
	rs := icmpv6(guestLinkLocal, "ff02::2", solicit("", &guestMAC))
	unanswered := edit(rs, link.EtherLen+7, 64) // the hop limit is not part of the checksum
	solicitation := func(options ...[]byte) []byte {
		return datagram6(ask6(1, append([][]byte{clientDUID(), wants(23, 24)}, options...)...))
	}
	toServer := func(kind byte, options ...[]byte) []byte {
		return datagram6(ask6(kind, append([][]byte{clientDUID(), serverDUID(), wants(23, 24)}, options...)...))
	}
	short := Settings{LeaseTime: 100 * time.Second}
	return []exchange6{
		{"solicit and request", bridgePod6(), Settings{}, [][]byte{rs, solicitation(iaNA(1)), toServer(3, iaNA(1, "2001:db8:1::5"))}},
		{"rapid commit of several addresses", calicoPod6(), short, [][]byte{rs, solicitation(iaNA(1), option6(14))}},
		{"a gateway off the subnet", ptpPod6(), Settings{}, [][]byte{rs}},
		{"a router that nobody answers for", ciliumPod6(), Settings{}, [][]byte{
			rs,
			icmpv6(guestLinkLocal, "ff02::1:ff63:1", solicit("fe80::706f:646e:6963:1", &guestMAC)),
			icmpv6(guestLinkLocal, "fe80::706f:646e:6963:1", solicit("fe80::706f:646e:6963:1", nil)),
			icmpv6("2001:db8:1::5", "fe80::706f:646e:6963:1", solicit("fe80::706f:646e:6963:1", nil)),
			icmpv6(guestLinkLocal, "ff02::1:ff00:1", solicit("2001:db8:1::1", &guestMAC)),
		}},
		{"a router that is a permanent neighbour", awsPod6(), Settings{}, [][]byte{
			rs, icmpv6(guestLinkLocal, "ff02::1:ff00:1", solicit("fe80::1", &guestMAC)),
		}},
		{"no router", isolatedPod6(), Settings{}, [][]byte{rs}},
		{"several routers", severalRouters(), Settings{}, [][]byte{rs}},
		{"the server's address", bridgePod6(), Settings{}, [][]byte{
			icmpv6(guestLinkLocal, "ff02::1:ff63:2", solicit("fe80::706f:646e:6963:2", &guestMAC)),
			icmpv6("::", "ff02::1:ff63:2", solicit("fe80::706f:646e:6963:2", nil)),
		}},
		{"the guest's own address", bridgePod6(), Settings{}, [][]byte{icmpv6("::", "ff02::1:ff00:5", solicit("2001:db8:1::5", nil))}},
		{"renewing", bridgePod6(), short, [][]byte{toServer(5, iaNA(1, "2001:db8:1::5"))}},
		{"renewing and releasing by unicast", bridgePod6(), short, [][]byte{
			dhcptest.Unicast6(toServer(5, iaNA(1, "2001:db8:1::5")), "2001:db8:1::5"),
			dhcptest.Unicast6(toServer(8, iaNA(1, "2001:db8:1::5")), "2001:db8:1::5"),
		}},
		{"rebinding with a stale address", bridgePod6(), short, [][]byte{
			datagram6(ask6(6, clientDUID(), iaNA(1, "2001:db8:9::5", "2001:db8:1::5"))),
		}},
		{"confirm", bridgePod6(), Settings{}, [][]byte{
			datagram6(ask6(4, clientDUID(), iaNA(1, "2001:db8:1::5"))),
			datagram6(ask6(4, clientDUID(), iaNA(1, "2001:db8:9::5"))),
			datagram6(ask6(4, clientDUID(), iaNA(1))),
		}},
		{"release", bridgePod6(), Settings{}, [][]byte{toServer(3, iaNA(1)), toServer(8, iaNA(1, "2001:db8:1::5"))}},
		{"decline", bridgePod6(), Settings{}, [][]byte{toServer(3, iaNA(1)), toServer(9, iaNA(1, "2001:db8:1::5"))}},
		{"information request", bridgePod6(), Settings{NTP: addrs("2001:db8::123", "10.0.0.1")}, [][]byte{
			datagram6(ask6(11, clientDUID(), wants(23, 24, 31, 56))),
			datagram6(ask6(11)),
		}},
		{"a second association, temporary addresses and a prefix", bridgePod6(), Settings{}, [][]byte{
			solicitation(option6(25, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0), iaNA(1), iaNA(2), option6(4, 0, 0, 0, 4)),
		}},
		{"the guest's name", bridgePod6(), Settings{}, [][]byte{
			solicitation(iaNA(1), option6(39, 1, 2, 'v', 'm')),
			datagram6(ask6(1, clientDUID(), iaNA(1), wants(39))),
		}},
		{"boot files", bridgePod6(), Settings{TFTPServer: "2001:db8::69", BootFiles: []BootFile{
			{File: "boot/other.efi"}, {File: "http://[2001:db8::69]/boot.ipxe", UserClass: "iPXE"}, {File: "arm.efi", Architectures: []uint16{11}},
		}}, [][]byte{
			datagram6(ask6(1, clientDUID(), iaNA(1), wants(59), option6(61, 0, 7))),
			datagram6(ask6(1, clientDUID(), iaNA(1), wants(59), option6(61, 0, 11))),
			datagram6(ask6(1, clientDUID(), iaNA(1), wants(59), option6(61, 0, 7), option6(15, 0, 4, 'i', 'P', 'X', 'E'))),
		}},
		{"not answered", bridgePod6(), Settings{}, [][]byte{
			unanswered,
			edit(rs, link.EtherLen+link.IPv6Len+2, 0, 0),
			edit(solicitation(iaNA(1)), link.EtherLen+link.IPv6Len+6, 1, 1),
			edit(rs, 6, otherMAC[:]...),
			datagram6(ask6(2, clientDUID(), serverDUID())),
			datagram6(append([]byte{12, 0}, make([]byte, 32)...)),
			datagram6(ask6(3, clientDUID(), iaNA(1))),
			datagram6(ask6(3, clientDUID(), option6(2, 0, 3, 0, 1, 9, 9, 9, 9, 9, 9), iaNA(1))),
			solicitation(serverDUID(), iaNA(1)),
			datagram6(ask6(1, iaNA(1))),
			datagram6(ask6(11, clientDUID(), iaNA(1))),
			datagram6(ask6(1, clientDUID(), iaNA(1), option6(39))),
			datagram6(ask6(1, clientDUID(), option6(3, 0, 0))),
			datagram6(ask6(1, clientDUID(), iaNA(1), []byte{0, 23, 0, 99, 1})),
			datagram6(ask6(1)[:3]),
			icmpv6("::", "ff02::2", solicit("", &guestMAC)),
			icmpv6(guestLinkLocal, "ff02::2", []byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}),
			icmpv6(guestLinkLocal, "ff02::1", append([]byte{136, 0, 0, 0, 0, 0, 0, 0}, addr("fe80::1").AsSlice()...)),
		}},
		{"an option that cannot be read", bridgePod6(), Settings{}, [][]byte{datagram6(ask6(1, clientDUID(), iaNA(1), option6(39)))}},
		{"too many options for the message", bridgePod6(), Settings{
			MTU: 1280, DNS: slices.Repeat(addrs("2001:db8::53"), 1), Search: longNames(6),
		}, [][]byte{rs, solicitation(iaNA(1))}},
	}
}

// TestExchangesIPv6 compares what is answered to each frame with testdata/exchanges-ipv6/*.txt.
func TestExchangesIPv6(t *testing.T) {
	for _, tt := range exchanges6() {
		t.Run(tt.name, func(t *testing.T) {
			h := testHandler6(t, tt.id, tt.options)
			var b strings.Builder
			for _, request := range tt.frames {
				b.WriteString("guest  " + render6(request))
				for _, r := range h.packet(link.Packet{Data: request, Sum: link.ChecksumFinished}) {
					b.WriteString("server " + render6(r.Message))
				}
				for _, e := range h.takeEvents() {
					b.WriteString("event  " + renderEvent6(e) + "\n")
				}
				for reason := range h.stats.Dropped {
					b.WriteString("drop   " + reason + "\n")
				}
				clear(h.stats.Dropped)
				b.WriteString("\n")
			}
			golden(t, filepath.Join("testdata", "exchanges-ipv6", strings.ReplaceAll(tt.name, " ", "-")+".txt"), b.String())
		})
	}
}

// severalRouters has a second gateway for a route of its own, and a subnet that is on the link besides.
func severalRouters() identity.Identity {
	id := bridgePod6()
	id.V6.Routes = []identity.Route{
		onLink("2001:db8:1::/64"), onLink("2001:db8:7::/64"), via("2001:db8:8::/48", "2001:db8:1::2"), via("2001:db8:9::/48", "2001:db8:1::1"), via("::/0", "2001:db8:1::1"),
	}
	id.Routers = append(id.Routers, identity.Router{Gateway: addr("2001:db8:1::2"), Address: addr("fe80::98"), MAC: identity.MAC{2, 0, 0, 0, 0, 0x98}})
	return id
}

// longNames are search domains of 230 characters.
func longNames(n int) []string {
	var all []string
	for i := range n {
		label := strings.Repeat(string(rune('a'+i)), 56)
		all = append(all, strings.Join([]string{label, label, label, label, "d"}, "."))
	}
	return all
}

func renderEvent6(e Event) string {
	text := string(e.Kind)
	if e.Address.IsValid() {
		text += " " + e.Address.String()
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Changed {
		text += ", lease " + e.Lease6.State
		if !e.Lease6.Expires.IsZero() {
			text += " for " + e.Lease6.Expires.Sub(testTime).String()
		}
		if !e.Lease6.Seen.IsZero() {
			text += ", seen"
		}
	}
	return text
}

// render6 makes a frame text. It shares no code with the encoders, nor with the libraries that they use.
func render6(f []byte) string {
	var b strings.Builder
	ip := f[link.EtherLen:]
	fmt.Fprintf(&b, "%s > %s %s > %s", identity.MAC(f[6:]), identity.MAC(f), netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:])))
	payload := ip[40:]
	if int(binary.BigEndian.Uint16(ip[4:])) != len(payload) {
		b.WriteString(", wrong length")
	}
	if !rightSum(ip) {
		b.WriteString(", wrong checksum")
	}
	if ip[6] == 17 {
		fmt.Fprintf(&b, " UDP %d > %d, %d bytes\n", binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:]), len(payload)-8)
		if message := payload[8:]; len(message) >= 4 {
			fmt.Fprintf(&b, "  type %d, transaction %x\n", message[0], message[1:4])
			renderOptions6(&b, "  ", message[4:])
		}
		return b.String()
	}
	fmt.Fprintf(&b, " ICMPv6 type %d, hop limit %d", payload[0], ip[7])
	rest := payload[8:]
	switch payload[0] {
	case 134:
		fmt.Fprintf(&b, ", hop limit %d, flags %08b, lifetime %d, reachable %d, retransmit %d", payload[4], payload[5], binary.BigEndian.Uint16(payload[6:]),
			binary.BigEndian.Uint32(payload[8:]), binary.BigEndian.Uint32(payload[12:]))
		rest = payload[16:]
	case 135, 136:
		fmt.Fprintf(&b, ", flags %03b, target %s", payload[4]>>5, netip.AddrFrom16([16]byte(payload[8:])))
		rest = payload[24:]
	}
	b.WriteString("\n")
	for len(rest) >= 8 {
		n := int(rest[1]) * 8
		if n == 0 || n > len(rest) {
			b.WriteString("  options without an end\n")
			break
		}
		renderNeighborOption(&b, rest[:n])
		rest = rest[n:]
	}
	return b.String()
}

func renderNeighborOption(b *strings.Builder, o []byte) {
	word := func(at int) string {
		if n := binary.BigEndian.Uint32(o[at:]); n != 0xffffffff {
			return fmt.Sprint(n)
		}
		return "infinite"
	}
	fmt.Fprintf(b, "  option %d: ", o[0])
	switch o[0] {
	case 1, 2:
		b.WriteString(identity.MAC(o[2:]).String())
	case 3:
		fmt.Fprintf(b, "prefix %s/%d flags %08b valid %s preferred %s", netip.AddrFrom16([16]byte(o[16:])), o[2], o[3], word(4), word(8))
	case 5:
		b.WriteString("mtu " + word(4))
	case 24:
		var a [16]byte
		copy(a[:], o[8:])
		fmt.Fprintf(b, "route %s/%d preference %02b lifetime %s", netip.AddrFrom16(a), o[2], o[3]>>3&3, word(4))
	case 25:
		b.WriteString("dns lifetime " + word(4))
		for a := o[8:]; len(a) >= 16; a = a[16:] {
			b.WriteString(" " + netip.AddrFrom16([16]byte(a)).String())
		}
	case 31:
		b.WriteString("search lifetime " + word(4) + " " + names6(o[8:]))
	default:
		fmt.Fprintf(b, "%x", o[2:])
	}
	b.WriteString("\n")
}

// names6 are names without compression, each with its final dot.
func names6(b []byte) string {
	var text strings.Builder
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 {
			text.WriteString(" ")
			b = b[1:]
			continue
		}
		if n > 63 || n >= len(b) {
			return text.String() + "!"
		}
		text.WriteString(string(b[1:1+n]) + ".")
		b = b[1+n:]
	}
	return strings.TrimSpace(text.String())
}

func renderOptions6(b *strings.Builder, indent string, options []byte) {
	for len(options) >= 4 {
		code, n := binary.BigEndian.Uint16(options), int(binary.BigEndian.Uint16(options[2:]))
		options = options[4:]
		if n > len(options) {
			fmt.Fprintf(b, "%soption %d over the end\n", indent, code)
			return
		}
		data := options[:n]
		options = options[n:]
		fmt.Fprintf(b, "%soption %d: ", indent, code)
		head := map[uint16]int{3: 12, 4: 4, 5: 24, 25: 12}[code]
		switch {
		case head > 0 && n >= head:
			switch code {
			case 5:
				fmt.Fprintf(b, "%s preferred %d valid %d\n", netip.AddrFrom16([16]byte(data)), int32(binary.BigEndian.Uint32(data[16:])), int32(binary.BigEndian.Uint32(data[20:])))
			case 4:
				fmt.Fprintf(b, "%x\n", data[:4])
			default:
				fmt.Fprintf(b, "%x t1 %d t2 %d\n", data[:4], int32(binary.BigEndian.Uint32(data[4:])), int32(binary.BigEndian.Uint32(data[8:])))
			}
			renderOptions6(b, indent+"  ", data[head:])
			continue
		case code == 13 && n >= 2:
			fmt.Fprintf(b, "status %d %s", binary.BigEndian.Uint16(data), data[2:])
		case code == 23 || code == 31:
			for a := data; len(a) >= 16; a = a[16:] {
				fmt.Fprintf(b, "%s ", netip.AddrFrom16([16]byte(a)))
			}
		case code == 24:
			b.WriteString(names6(data))
		case code == 39 && n > 0:
			fmt.Fprintf(b, "flags %03b %s", data[0], names6(data[1:]))
		case code == 59:
			b.Write(data)
		default:
			fmt.Fprintf(b, "%x", data)
		}
		b.WriteString("\n")
	}
	if len(options) > 0 {
		fmt.Fprintf(b, "%s%x is no option\n", indent, options)
	}
}

// rightSum adds up what a checksum covers, as RFC 1071 has it.
func rightSum(ip []byte) bool {
	sum := uint32(ip[6]) + uint32(len(ip)-40)
	covered := append(slices.Clone(ip[8:]), make([]byte, len(ip)%2)...)
	for i := 0; i < len(covered); i += 2 {
		sum += uint32(covered[i])<<8 + uint32(covered[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}
