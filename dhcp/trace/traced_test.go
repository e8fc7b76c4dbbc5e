package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/dhcp/internal/dhcptest"
	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// testDecoder reads frames as a tracer in the pod does.
func testDecoder(t testing.TB, id identity.Identity, o dhcp.Settings) *decoder {
	t.Helper()
	offer := mustOffer(t, id, o)
	return newDecoder(guestMAC, serverMAC, &offer, nil)
}

// ipv6Frame is a frame with an IPv6 packet.
func ipv6Frame(next byte, hops byte, source, destination string, payload []byte) []byte {
	f := append(identity.MAC{0x33, 0x33, 0, 0, 0, 1}.HardwareAddr(), guestMAC[:]...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(payload)))
	f = append(f, next, hops)
	f = append(f, netip.MustParseAddr(source).AsSlice()...)
	f = append(f, netip.MustParseAddr(destination).AsSlice()...)
	f = append(f, payload...)
	dhcptest.Finish6(f)
	return f
}

// nd is an ICMPv6 message: its type, the rest of its first eight bytes, and what follows.
func ndMessage(kind byte, first [4]byte, rest ...[]byte) []byte {
	b := append([]byte{kind, 0, 0, 0}, first[:]...)
	for _, r := range rest {
		b = append(b, r...)
	}
	return b
}

func address6(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

// lladdr is a link-layer address option (RFC 4861 §4.6.1).
func lladdr(kind byte, mac identity.MAC) []byte { return append([]byte{kind, 1}, mac[:]...) }

// renderTraced is all that is told of a frame.
func renderTraced(f Traced) string {
	var b strings.Builder
	direction := "<"
	if f.FromGuest {
		direction = ">"
	}
	fmt.Fprintf(&b, "%s %s %s %s", direction, f.Peer, f.Protocol, f.Message)
	if f.Transaction != "" {
		b.WriteString(" " + f.Transaction)
	}
	for _, part := range [][2]string{{"state", f.State}, {"answer", f.Answer}, {"why", f.Why}} {
		if part[1] != "" {
			fmt.Fprintf(&b, "\n    %s: %s", part[0], part[1])
		}
	}
	for _, d := range f.Details {
		fmt.Fprintf(&b, "\n    %s = %s", d.Name, d.Value)
		if d.Option != 0 {
			fmt.Fprintf(&b, " [%d]", d.Option)
		}
	}
	return b.String() + "\n"
}

// TestTraceTellsWhatIsAskedAndWhyNot compares what is told of each frame with testdata/traced.txt. What the server sends
// is read back too.
func TestTraceTellsWhatIsAskedAndWhyNot(t *testing.T) {
	const payload = link.EtherLen + link.IPLen + link.UDPLen
	bcast := func(request []byte) []byte { return fromGuest(request, "0.0.0.0", everybody) }
	discover := bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(dhclient...), withOption(12, []byte("vm-0")...), withOption(61, 1, 2, 3)))
	router := ndMessage(134, [4]byte{64, 0xc0, 0x07, 0x08}, make([]byte, 8), lladdr(1, otherMAC), []byte{5, 1, 0, 0, 0, 0, 5, 0xaa},
		append([]byte{3, 4, 64, 0xc0}, append(make([]byte, 12), address6("2001:db8:1::")...)...),
		append([]byte{25, 3, 0, 0, 0, 0, 0, 9}, address6("2001:db8::53")...))
	type sent struct {
		name  string
		frame []byte
	}
	var b strings.Builder
	for _, part := range []struct {
		title   string
		id      identity.Identity
		options dhcp.Settings
		frames  []sent
	}{
		{"a pod with a gateway", bridgePod(), dhcp.Settings{}, []sent{
			{"discover", discover},
			{"selecting", bcast(ask(dhcpv4.MessageTypeRequest, withParameters(udhcpc...), withAddr(50, "10.244.1.5"), withAddr(54, "10.244.1.1")))},
			{"a stale address", bcast(ask(dhcpv4.MessageTypeRequest, withParameters(1), withAddr(50, "10.9.9.9")))},
			{"renewing", fromGuest(ask(dhcpv4.MessageTypeRequest, withParameters(1), withCiaddr("10.244.1.5")), "10.244.1.5", "10.244.1.1")},
			{"another server's", bcast(ask(dhcpv4.MessageTypeRequest, withAddr(50, "10.9.9.9"), withAddr(54, "10.9.9.1")))},
			{"nothing wanted", bcast(ask(dhcpv4.MessageTypeRequest))},
			{"rapid commit", bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1), withOption(80)))},
			{"inform", fromGuest(ask(dhcpv4.MessageTypeInform, withParameters(6)), "10.244.1.5", everybody)},
			{"decline", bcast(ask(dhcpv4.MessageTypeDecline, withAddr(50, "10.244.1.5")))},
			{"release", fromGuest(ask(dhcpv4.MessageTypeRelease, withCiaddr("10.244.1.5")), "10.244.1.5", "10.244.1.1")},
			{"relayed", bcast(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithRelay(addr("10.244.1.9").AsSlice())))},
			{"another client", bcast(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(otherMAC.HardwareAddr())))},
			{"a server's message", bcast(ask(dhcpv4.MessageTypeOffer))},
			{"an unknown type", bcast(ask(77))},
			{"to the client's port", edit(discover, link.EtherLen+link.IPLen+3, v4.ClientPort, discover[link.EtherLen+link.IPLen+4], discover[link.EtherLen+link.IPLen+5], 0, 0)},
			{"a wrong checksum", edit(discover, payload+v4.OffXID, 9)},
			{"an option over the end", edit(edit(discover, payload+v4.OffOptions, 12, 255), payload-2, 0, 0)},
			{"a fragment", edit(discover, link.EtherLen+6, 0x20, 0, 64, 17, 0x59, 0xa6)},
			{"cut off", discover[:200]},
			{"a hostname for terminals", bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1), withOption(12, []byte("vm\x1b[2J\n")...)))},
			{"unknown options", bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1, 224, 100), withOption(224, 1, 2), withOption(100, []byte("UTC")...)))},
			{"options that are not what they are made of", bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1), withOption(3, 1), withOption(26, 1),
				withOption(51, 1), withOption(119, 0xc0), withOption(121, 33, 1), withOption(6)))},
			{"BOOTP", bcast(ask(0, func(m *dhcpv4.DHCPv4) { m.Options.Del(dhcpv4.OptionDHCPMessageType) }))},
			{"ARP for the gateway", arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.1")},
			{"ARP for itself", arpFrame(link.ARPRequest, guestMAC, "0.0.0.0", "10.244.1.5")},
			{"an announcement", arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.5")},
			{"a probe of another address", arpFrame(link.ARPRequest, guestMAC, "0.0.0.0", "10.244.1.9")},
			{"an ARP reply", arpFrame(link.ARPReply, guestMAC, "10.244.1.5", "10.244.1.1")},
			{"half an ARP packet", arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.1")[:30]},
			{"RARP", arpFrame(3, guestMAC, "10.244.1.5", "10.244.1.1")},
			{"NS", ipv6Frame(58, 255, "fe80::1", "ff02::1:ff00:2", ndMessage(135, [4]byte{}, address6("fe80::2"), lladdr(1, guestMAC)))},
			{"DAD", ipv6Frame(58, 255, "::", "ff02::1:ff00:2", ndMessage(135, [4]byte{}, address6("fe80::2")))},
			{"NA", ipv6Frame(58, 255, "fe80::2", "fe80::1", ndMessage(136, [4]byte{0xe0}, address6("fe80::2"), lladdr(2, otherMAC)))},
			{"RS", ipv6Frame(58, 255, "fe80::1", "ff02::2", ndMessage(133, [4]byte{}, lladdr(1, guestMAC)))},
			{"RA", ipv6Frame(58, 255, "fe80::99", "ff02::1", router)},
			{"a redirect", ipv6Frame(58, 255, "fe80::99", "fe80::1", ndMessage(137, [4]byte{}, address6("fe80::98"), address6("2001:db8::7")))},
			{"a forwarded NS", ipv6Frame(58, 64, "2001:db8::1", "ff02::1:ff00:2", ndMessage(135, [4]byte{}, address6("fe80::2")))},
			{"half an NS", ipv6Frame(58, 255, "fe80::1", "ff02::1", ndMessage(135, [4]byte{}, make([]byte, 8)))},
			{"an ND option of no length", ipv6Frame(58, 255, "fe80::1", "ff02::2", ndMessage(133, [4]byte{}, make([]byte, 8)))},
			{"DHCPv6", ipv6Frame(17, 1, "fe80::1", "ff02::1:2", []byte{2, 34, 2, 35, 0, 12, 0, 0, 1, 0xab, 0xcd, 0xef})},
		}},
		{"a pod without a gateway", isolatedPod(), dhcp.Settings{}, []sent{
			{"ARP for the server", arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", dhcp.ServerLinkLocal)},
		}},
		{"UDP mode", bridgePod(), dhcp.Settings{UDP: true}, []sent{
			{"ARP for the server", arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", dhcp.ServerLinkLocal)},
		}},
		{"too large for the message", bridgePod(), dhcp.Settings{}, []sent{
			{"a relay's option of 550 bytes", bcast(ask(dhcpv4.MessageTypeDiscover, withParameters(1), withOption(82, make([]byte, 550)...)))},
		}},
	} {
		d, server := testDecoder(t, part.id, part.options), dhcp.NewJudge(mustOffer(t, part.id, part.options), guestMAC, serverMAC)
		fmt.Fprintf(&b, "# %s\n", part.title)
		for _, sent := range part.frames {
			fmt.Fprintf(&b, "\n%s\n  %s", sent.name, renderTraced(d.decode(sent.frame, 0, true, link.ChecksumFinished)))
			if reply := server.Frame(sent.frame, link.ChecksumFinished).Reply; reply != nil {
				fmt.Fprintf(&b, "  %s", renderTraced(d.decode(reply, 0, false, link.ChecksumFinished)))
			}
		}
		b.WriteByte('\n')
	}
	d := testDecoder(t, bridgePod(), dhcp.Settings{})
	fmt.Fprintf(&b, "# a tag\n  %s", renderTraced(d.decode(discover, 5, true, link.ChecksumFinished)))
	foreign := dhcp.NewJudge(mustOffer(t, bridgePod(), dhcp.Settings{}), guestMAC, otherMAC)
	fmt.Fprintf(&b, "# another server\n  %s", renderTraced(d.decode(foreign.Frame(discover, link.ChecksumFinished).Reply, 0, false, link.ChecksumFinished)))
	fmt.Fprintf(&b, "# a reflection\n  %s", renderTraced(d.decode(arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.1"), 0, false, link.ChecksumFinished)))
	b.WriteString(tracedIPv6(t))
	fmt.Fprintf(&b, "# layer 2\n  %s", renderTraced(newDecoder(guestMAC, serverMAC, nil, nil).decode(discover, 0, true, link.ChecksumFinished)))
	fmt.Fprintf(&b, "# a frame of 13 bytes\n  %s", renderTraced(d.decode(discover[:13], 0, true, link.ChecksumFinished)))
	golden(t, "testdata/traced.txt", b.String())
}

// tracedIPv6 is what is told of each frame of a guest that is served with IPv6, and of what it is answered.
func tracedIPv6(t *testing.T) string {
	t.Helper()
	offer, _, err := dhcp.NewOffer6(dhcptest.CiliumPod6(), dhcp.Settings{LeaseTime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	d, server := newDecoder(guestMAC, serverMAC, nil, &offer), dhcp.NewJudge6(offer, guestMAC, serverMAC)
	rs := dhcptest.ICMPv6(dhcptest.GuestLinkLocal, "ff02::2", dhcptest.Solicit("", &guestMAC))
	frames := append(dhcptest.Seeds6(),
		dhcptest.ICMPv6(dhcptest.GuestLinkLocal, "ff02::1:ff00:9", dhcptest.Solicit("2001:db8:1::9", &guestMAC)),
		edit(rs, link.EtherLen+7, 64),
		edit(rs, link.EtherLen+link.IPv6Len+2, 0, 0),
		edit(rs, 6, otherMAC[:]...),
		dhcptest.Datagram6(dhcptest.Ask6(1, dhcptest.ClientDUID(), dhcptest.Option6(39))),
		dhcptest.Datagram6(dhcptest.Ask6(3, dhcptest.ClientDUID(), dhcptest.Option6(2, 0, 3, 0, 1, 9, 9, 9, 9, 9, 9))),
		dhcptest.Datagram6(dhcptest.Ask6(2, dhcptest.ClientDUID())),
		dhcptest.Datagram6(append([]byte{12, 0}, make([]byte, 32)...)),
		dhcptest.Datagram6(dhcptest.Ask6(1, dhcptest.ClientDUID(), dhcptest.Option6(59, []byte("\x1b[2J")...))),
	)
	var b strings.Builder
	b.WriteString("# a pod with IPv6\n")
	for _, frame := range frames {
		fmt.Fprintf(&b, "\n  %s", renderTraced(d.decode(frame, 0, true, link.ChecksumFinished)))
		for _, reply := range server.Frame(frame, link.ChecksumFinished).Replies {
			fmt.Fprintf(&b, "  %s", renderTraced(d.decode(reply.Message, 0, false, link.ChecksumFinished)))
		}
	}
	strange := ipv6Frame(58, 255, "fe80::77", "ff02::1", ndMessage(134, [4]byte{64, 0xc0, 0x07, 0x08}, make([]byte, 8)))
	copy(strange[6:], otherMAC[:])
	fmt.Fprintf(&b, "\n# another router\n  %s", renderTraced(d.decode(strange, 0, false, link.ChecksumFinished)))
	reply := ipv6Frame(17, 1, "fe80::77", dhcptest.GuestLinkLocal, []byte{2, 35, 2, 34, 0, 12, 0, 0, 7, 1, 2, 3})
	copy(reply[6:], otherMAC[:])
	fmt.Fprintf(&b, "# another DHCPv6 server\n  %s", renderTraced(d.decode(reply, 0, false, link.ChecksumFinished)))
	return b.String()
}

// TestTraceSaysWhatTheServerDoes takes every exchange that the server is tested with: what a trace says is answered is
// what the server answers, and what it drops is explained.
func TestTraceSaysWhatTheServerDoes(t *testing.T) {
	for _, request := range append(seeds(), ask(dhcpv4.MessageTypeOffer), ask(dhcpv4.MessageTypeRequest),
		ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithRelay(addr("10.244.1.9").AsSlice())),
		ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(otherMAC.HardwareAddr()))) {
		frame := fromGuest(request, "0.0.0.0", everybody)
		f := testDecoder(t, bridgePod(), dhcp.Settings{}).decode(frame, 0, true, link.ChecksumFinished)
		v := dhcp.NewJudge(mustOffer(t, bridgePod(), dhcp.Settings{}), guestMAC, serverMAC).Frame(frame, link.ChecksumFinished)
		if (v.Reply != nil) != (f.Answer != "") {
			t.Errorf("%s is answered: %t, and the trace says %q", f.Message, v.Reply != nil, f.Answer)
		}
		if v.Dropped != nil && f.Why == "" {
			t.Errorf("%s was dropped (%v), and the trace does not say why", f.Message, v.Dropped)
		}
	}
}

// TestTraceIsWokenByNothingElse asks the kernel, as the test of the server's filter does.
func TestTraceIsWokenByNothingElse(t *testing.T) {
	program, err := link.MonitorFilter()
	if err != nil {
		t.Fatal(err)
	}
	discover := fromGuest(ask(dhcpv4.MessageTypeDiscover), "0.0.0.0", everybody)
	ns := ipv6Frame(58, 255, "fe80::1", "ff02::1", ndMessage(135, [4]byte{}, make([]byte, 16)))
	for name, tt := range map[string]struct {
		frame []byte
		want  bool
	}{
		"request":        {discover, true},
		"reply":          {edit(discover, link.EtherLen+link.IPLen+3, v4.ClientPort), true},
		"first fragment": {edit(discover, link.EtherLen+6, 0x20, 0), true},
		"later fragment": {edit(discover, link.EtherLen+6, 0, 1), false},
		"DNS":            {edit(discover, link.EtherLen+link.IPLen+3, 53), false},
		"TCP":            {edit(discover, link.EtherLen+9, 6), false},
		"ARP":            {arpFrame(link.ARPReply, otherMAC, "10.244.1.1", "10.244.1.5"), true},
		"NS":             {ns, true},
		"redirect":       {edit(ns, link.EtherLen+link.IPv6Len, 137), true},
		"ICMPv6 echo":    {edit(ns, link.EtherLen+link.IPv6Len, 128), false},
		"MLD report":     {edit(ns, link.EtherLen+link.IPv6Len, 143), false},
		"TCP over IPv6":  {edit(ns, link.EtherLen+6, 6), false},
		"DHCPv6":         {ipv6Frame(17, 1, "fe80::1", "ff02::1:2", []byte{2, 34, 2, 35, 0, 12, 0, 0, 1, 0xab, 0xcd, 0xef}), true},
		"DNS over IPv6":  {ipv6Frame(17, 1, "fe80::1", "ff02::1:2", []byte{2, 34, 0, 53, 0, 12, 0, 0, 1, 0xab, 0xcd, 0xef}), false},
		"LLDP":           {edit(discover, 12, 0x88, 0xcc), false},
		"nothing":        {[]byte{0}, false},
	} {
		if got := kernelVerdict(t, program, tt.frame); got != tt.want {
			t.Errorf("%s passes: %t, want %t", name, got, tt.want)
		}
	}
}

// FuzzTrace feeds whatever a guest may send to what a trace tells of it: it must be told, within bounds, in a line that
// a terminal can be given.
func FuzzTrace(f *testing.F) {
	for _, s := range seeds() {
		f.Add(fromGuest(s, "0.0.0.0", everybody), true)
	}
	f.Add(arpFrame(link.ARPRequest, guestMAC, "0.0.0.0", "169.254.1.1"), true)
	f.Add(ipv6Frame(58, 255, "fe80::1", "ff02::1", ndMessage(134, [4]byte{}, make([]byte, 8), lladdr(1, otherMAC))), false)
	d := testDecoder(f, awsPod(), dhcp.Settings{})
	f.Fuzz(func(t *testing.T, frame []byte, fromGuest bool) {
		told := d.decode(frame, 0, fromGuest, link.ChecksumPending)
		if told.Protocol == "" || told.Message == "" {
			t.Fatalf("nothing is told: %+v", told)
		}
		for _, detail := range told.Details {
			if strings.ContainsFunc(detail.Value, unicode.IsControl) || len(detail.Value) > 16*maxValue {
				t.Fatalf("%s: %q", detail.Name, detail.Value)
			}
		}
	})
}
