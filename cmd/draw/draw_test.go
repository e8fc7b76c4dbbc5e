package draw

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
)

var (
	prefix = netip.MustParsePrefix
	addr   = netip.MustParseAddr
	start  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func after(milliseconds int) time.Time {
	return start.Add(time.Duration(milliseconds) * time.Millisecond)
}

// wired is a look at a guest that has its lease.
func wired() status.View {
	link := func(role plan.Role, name string, last byte) status.LinkReport {
		return status.LinkReport{Role: role, Name: name, MAC: identity.MAC{0x7a, 0x23, 6, 0x28, 0xd6, last}, MTU: 1500, Up: true, Carrier: true}
	}
	timeline := statefile.Timeline{}
	for i, event := range []string{
		statefile.EventStarted, statefile.EventDiscovered, statefile.EventWired, statefile.EventServing, statefile.EventDomainStart,
		statefile.EventDomainRunning, statefile.EventFirstFrame, statefile.EventDiscover, statefile.EventLease,
	} {
		timeline.Add(event, after([]int{0, 42, 64, 68, 69, 1223, 9005, 9061, 9106}[i]))
	}
	return status.View{
		At: after(20_000),
		Seen: []*network.Inspection{{
			Wired: true, Attached: true,
			Names:   plan.Names{Interface: "eth0", NIC: "eth0-nic", Bridge: "eth0-br", Tap: "tap0"},
			Current: &plan.Snapshot{Filter: &plan.Filter{Table: "podnic-eth0", Rules: make([]string, 15)}},
		}},
		Report: &status.Report{
			Interfaces: []status.InterfaceReport{{
				Phase: status.PhaseReady, Domain: &statefile.Domain{Name: "vm", State: "running"}, Timeline: timeline,
				Name: "eth0", MAC: identity.MAC{0x56, 0xec, 0x8e, 0xd9, 0x9d, 6}, MTU: 1500,
				Gateways: []netip.Addr{addr("10.244.1.1")},
				Links: []status.LinkReport{
					link(plan.NIC, "eth0-nic", 1), link(plan.Bridge, "eth0-br", 2), link(plan.Tap, "tap0", 3),
					{Role: plan.Placeholder, Name: "eth0", MTU: 1500, Addresses: []netip.Prefix{prefix("10.244.1.2/24")}},
				},
				Lease: dhcp.Lease{State: dhcp.LeaseBound, Since: after(9106)},
				Offer: &dhcp.Offer{
					Address: prefix("10.244.1.2/32"), Gateway: addr("10.244.1.1"), Hostname: "vm-0", MTU: 1500,
					ServerIdentifier: addr("10.244.1.1"), Socket: dhcp.SocketPacket,
					Routes: []identity.Route{
						{Destination: prefix("10.244.1.1/32")}, {Destination: prefix("0.0.0.0/0"), Gateway: addr("10.244.1.1")},
					},
					DNS:    []netip.Addr{addr("10.96.0.10")},
					Search: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local", "a-zone-of-the-site.example"},
				},
			}},
		},
	}
}

func text(t *testing.T, v status.View, color bool) string {
	t.Helper()
	var b strings.Builder
	if err := Text(&b, v, color); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDrawing(t *testing.T) {
	v := wired()
	r := &v.Report.Interfaces[0]
	r.Links = append(r.Links[:1:1], r.Links[2:]...) // no bridge
	r.Links[1].Received, r.Links[1].Sent, r.Links[1].Dropped = 1_234_567, 9_999, 12
	r.Deviations = []status.Deviation{
		{Where: plan.Bridge, What: "eth0-br is missing", Remedy: "run `podnic prepare` to mend it"},
		{Where: plan.Tap, What: "tap0 is not a port of eth0-br", Remedy: "run `podnic prepare` to mend it"},
	}
	r.Warnings = []string{r.Deviations[0].String(), "a warning that is so long that it does not fit into one line of eighty columns"}
	const want = `eth0: ready, the guest has 10.244.1.2  ✗ 2 not as it should be

  pod network gateway 10.244.1.1
      │
  eth0-nic   7a:23:06:28:d6:01  up    mtu 1500  in 0  out 0
      │
✗ eth0-br    is missing
      │      filter podnic-eth0, 15 rules
      │
✗ tap0       7a:23:06:28:d6:03  up    mtu 1500  in 1.2M  out 9999  lost 12
             ✗ tap0 is not a port of eth0-br
      │      DHCP server 10.244.1.1, packet socket
      │      guest attached
  guest      vm (running)
             56:ec:8e:d9:9d:06 mtu 1500
             10.244.1.2/32 gateway 10.244.1.1
             route 10.244.1.1/32
             route default via 10.244.1.1
             dns 10.96.0.10
             search default.svc.cluster.local svc.cluster.local cluster.local
             a-zone-of-the-site.example
             hostname vm-0
             lease bound since 03:04:14 UTC

  eth0       00:00:00:00:00:00  down  mtu 1500
             10.244.1.2/24
             the placeholder: keeps the pod's name, MAC, MTU and addresses

  timeline                at        gap
  started             0.0 ms
  discovered         42.0 ms    42.0 ms
  wired              64.0 ms    22.0 ms
  serving            68.0 ms     4.0 ms
  domain start       69.0 ms     1.0 ms
  domain running      1.22 s     1.15 s
  first frame         9.01 s     7.78 s  longest: the guest's firmware, kernel
  DISCOVER            9.06 s    56.0 ms
  lease               9.11 s    45.0 ms
  From the domain's start to the lease 9.04 s: 1.15 s to the running domain,
  7.78 s to the guest's first frame, 56.0 ms to the first DISCOVER, 45.0 ms to
  the lease (ACK).

not as it should be:
✗ eth0-br is missing: run ` + "`podnic prepare`" + ` to mend it
✗ tap0 is not a port of eth0-br: run ` + "`podnic prepare`" + ` to mend it
warning: a warning that is so long that it does not fit into one line of eighty
         columns
`
	if diff := cmp.Diff(want, text(t, v, false)); diff != "" {
		t.Error(diff)
	}
}

// TestEachInterfaceIsDrawn: one drawing after the other, as each would be drawn alone.
func TestEachInterfaceIsDrawn(t *testing.T) {
	one, other := wired(), wired()
	other.Report.Interfaces[0].Name, other.Report.Interfaces[0].Phase = "net1", status.PhaseWired
	both := status.View{At: one.At, Seen: append(one.Seen, other.Seen...), Report: &status.Report{
		Interfaces: append(one.Report.Interfaces, other.Report.Interfaces...),
	}}
	if diff := cmp.Diff(text(t, one, false)+"\n"+text(t, other, false), text(t, both, false)); diff != "" {
		t.Error(diff)
	}
	var graph strings.Builder
	if err := Dot(&graph, both); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"eth0: ready", "net1: wired", "i0_network -> i0_nic;", "i1_network -> i1_nic;", "i1_tap -> i1_guest;"} {
		if !strings.Contains(graph.String(), want) {
			t.Errorf("%q is not in\n%s", want, graph.String())
		}
	}
}

// TestColorsSayNothingAlone: without its colours, a drawing is the one that has none.
func TestColorsSayNothingAlone(t *testing.T) {
	v := wired()
	v.Report.Interfaces[0].Deviations = []status.Deviation{{Where: status.PlaceServer, What: "nobody serves eth0", Remedy: "serve it"}}
	colored := text(t, v, true)
	if !strings.Contains(colored, string(bad)+"eth0: ready") {
		t.Errorf("no colour: %q", colored)
	}
	for _, s := range []style{strong, good, bad, quiet, endStyle} {
		colored = strings.ReplaceAll(colored, string(s), "")
	}
	if diff := cmp.Diff(text(t, v, false), colored); diff != "" {
		t.Error(diff)
	}
}

// TestNoLineIsWiderThanATerminal draws what is as long as it can be.
func TestNoLineIsWiderThanATerminal(t *testing.T) {
	long := strings.Repeat("x", 300)
	v := wired()
	r := &v.Report.Interfaces[0]
	r.Domain.Name = long
	r.Name = "fifteen-letters"
	for i := range r.Links {
		l := &r.Links[i]
		l.Name, l.Received, l.Sent, l.Dropped, l.MTU = "fifteen-letters", 1<<63, 1<<63, 1<<63, 65535
		for range 20 {
			l.Addresses = append(l.Addresses, prefix("2001:db8:1234:5678:9abc:def0:1234:5678/128"))
		}
		r.Deviations = append(r.Deviations, status.Deviation{Where: l.Role, What: "fifteen-letters " + long, Remedy: long})
	}
	r.Links[0].Up, r.Links[1].Carrier = false, false
	for _, place := range []plan.Role{status.PlaceGuest, status.PlaceNetwork, status.PlaceServer, plan.FilterPlace} {
		r.Deviations = append(r.Deviations, status.Deviation{Where: place, What: long, Remedy: long})
	}
	r.Offer.Search, r.Offer.Hostname = []string{long, long}, strings.Repeat("h", 63)
	for i := range 300 {
		r.Offer.Routes = append(r.Offer.Routes, identity.Route{Destination: prefix(fmt.Sprintf("10.%d.0.0/16", i%256)), Gateway: addr("10.244.1.1")})
		r.Offer.DNS = append(r.Offer.DNS, addr("2001:db8:1234:5678:9abc:def0:1234:5678"))
	}
	r.Warnings = []string{long}
	wide := text(t, v, false)
	v.Seen[0].Wired = false
	for i := range 300 {
		r.Routes = append(r.Routes, status.PodRoute{Destination: prefix("2001:db8:1234:5678:9abc:def0:1234:5678/128"), Gateway: addr("2001:db8:1234:5678:9abc:def0:1234:5678"), Metric: uint32(i)})
	}
	for line := range strings.Lines(wide + text(t, v, false)) {
		if columns(strings.TrimSuffix(line, "\n")) > Width {
			t.Errorf("%d columns: %s", columns(line), line)
		}
	}
	if n := strings.Count(wide, "route 10."); n > most {
		t.Errorf("%d routes are drawn", n)
	}
}

func TestWaitingSaysForWhat(t *testing.T) {
	for event, want := range map[string]string{
		statefile.EventServing:       `Waiting for the guest's first frame: 5.00 s since "serving"`,
		statefile.EventDomainRunning: `Waiting for the guest's first frame: 5.00 s since "domain running"`,
		statefile.EventFirstFrame:    `Waiting for the guest's first DISCOVER: 5.00 s since "first frame"`,
		statefile.EventDiscover:      `Waiting for the guest to take what it was offered: 5.00 s since "DISCOVER"`,
	} {
		v := wired()
		r := &v.Report.Interfaces[0]
		r.Phase = status.PhaseServing
		t0 := r.Timeline
		for i := range t0 {
			if t0[i].Event == event {
				r.Timeline, v.At = t0[:i+1], t0[i].At.Add(5*time.Second)
			}
		}
		if got := text(t, v, false); !strings.Contains(got, want) {
			t.Errorf("%s: %q is not in\n%s", event, want, got)
		}
	}
}

func TestScreenDrawsInPlaceAndNeverScrolls(t *testing.T) {
	v := wired()
	for rows := range 60 {
		s := &Screen{Terminal: true, Rows: func() int { return rows }}
		var b strings.Builder
		for range 2 {
			if err := s.Show(&b, v, nil); err != nil {
				t.Fatal(err)
			}
		}
		drawings := strings.Split(b.String(), home)
		if len(drawings) != 3 || drawings[0] != "" || drawings[1] != drawings[2] {
			t.Fatalf("%q", drawings)
		}
		if n := strings.Count(drawings[1], "\n"); rows > 1 && n >= rows {
			t.Errorf("%d lines on a screen of %d", n, rows)
		}
	}
}

func TestScreenOfAFileDrawsWhatIsNew(t *testing.T) {
	v, s := wired(), &Screen{}
	var b strings.Builder
	for _, failed := range []error{nil, nil, fmt.Errorf("the namespace is gone"), nil} {
		if err := s.Show(&b, v, failed); err != nil {
			t.Fatal(err)
		}
	}
	drawing := text(t, v, false)
	if diff := cmp.Diff(drawing+"\n✗ the namespace is gone\n\n"+drawing, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 9_999: "9999", 10_000: "10.0k", 99_949: "99.9k", 99_960: "100k", 999_499: "999k", 999_500: "1.0M", 1 << 63: "9.2E",
	} {
		if got := count(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

// TestDrawingOfBothFamilies has what a guest is told of IPv6 below what it is told of IPv4, or alone.
func TestDrawingOfBothFamilies(t *testing.T) {
	v := wired()
	r := &v.Report.Interfaces[0]
	r.Offer6 = &dhcp.Offer6{
		Addresses: []netip.Prefix{prefix("2001:db8:1::5/128"), prefix("2001:db8:2::5/128")}, Router: addr("fe80::99"),
		Routes: []identity.Route{{Destination: prefix("2001:db8:1::/64")}, {Destination: prefix("::/0"), Gateway: addr("fe80::99")}},
		DNS:    []netip.Addr{addr("fd00:10:96::a")}, Hostname: "vm-0.example", Search: []string{"example"}, Server: identity.ServerLinkLocal6, Socket: dhcp.SocketPacket,
	}
	since := r.Lease.Since
	r.Lease6 = &dhcp.Lease6{State: dhcp.LeaseBound, Addresses: []netip.Addr{addr("2001:db8:1::5"), addr("2001:db8:2::5")}, Since: since, Expires: since.Add(time.Hour)}
	const six = `
             address 2001:db8:1::5/128 router fe80::99
             address 2001:db8:2::5/128 deprecated
             route 2001:db8:1::/64
             route default via fe80::99
             dns fd00:10:96::a
`
	for _, want := range []string{
		"eth0: ready, the guest has 10.244.1.2 and 2001:db8:1::5 and 2001:db8:2::5\n",
		"      │      DHCP server 10.244.1.1, packet socket\n      │      DHCPv6 server fe80::706f:646e:6963:2, packet socket\n",
		"lease bound since 03:04:14 UTC" + six + "             lease of IPv6 bound since 03:04:14 UTC, until 04:04:14 UTC\n",
	} {
		if got := text(t, v, false); !strings.Contains(got, want) {
			t.Errorf("the drawing is\n%s\nwithout\n%s", got, want)
		}
	}
	r.Offer, r.Lease6.State = nil, dhcp.LeaseReleased
	want := "             56:ec:8e:d9:9d:06 mtu 1500" + six + "             search example\n             hostname vm-0.example\n             lease of IPv6 released since 03:04:14 UTC, until 04:04:14 UTC\n"
	if got := text(t, v, false); !strings.Contains(got, want) {
		t.Errorf("the drawing of IPv6 alone is\n%s\nwithout\n%s", got, want)
	}
	var b strings.Builder
	if err := Dot(&b, v); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2001:db8:1::5/128 2001:db8:2::5/128", "lease of IPv6 released", "DHCPv6 server fe80::706f:646e:6963:2"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the graph has no %q:\n%s", want, b.String())
		}
	}
}
