package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// The generator makes snapshots that a kernel can hold:
//
//   - an address has its connected route, unless it is noprefixroute or another of the prefix has it, or somebody took the
//     route away, as ptp networks do; a route that prefers a source has that address;
//   - gateways are reached by a route of the same table or are onlink; a link that is down has neither routes nor neighbours;
//   - of two routes of a table, destination, tos and metric, there is one; a link has an address once, link-local IPv6
//     addresses come before the others in the order of adding, and labels are as a renamed link has them.
//
// Lifetimes are far from now: that they run out is not the model's to know.

// podOf draws what a pod's link may hold.
func podOf(t *rapid.T, name string) *Snapshot {
	draw := func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(t, name+" "+what) }
	coin := func(what string) bool { return rapid.Bool().Draw(t, name+" "+what) }
	nic := Link{
		Role: NIC, Name: "eth0", Index: 7, Kind: KindVeth, MAC: identity.MAC{0x0a, 0x58, 0x0a, 0xf4, 1, byte(5 + draw("mac", 2))},
		MTU: []int{1500, 1400, 9001}[draw("mtu", 3)], Up: draw("down", 8) > 0, NoARP: draw("noarp", 8) == 0,
		Promisc: coin("promisc"), AllMulti: coin("allmulti"), Group: uint32(draw("group", 2) * 42),
		Alias: []string{"", "the-pods-own"}[draw("alias", 2)], TxQLen: []int{1000, 77}[draw("txqlen", 2)],
		AddrGenMode: AddrGenModes[draw("mode", len(AddrGenModes))],
	}
	if coin("altname") {
		nic.AltNames = []string{"pod-link"}
	}
	s := &Snapshot{Links: []Link{nic}}
	for _, a := range rapid.Permutation(podAddresses).Draw(t, name+" addresses")[:draw("address count", len(podAddresses)+1)] {
		s.Model(AddAddress{a})
	}
	relabelAll(s)
	if !nic.Up {
		return s
	}
	if len(s.Routes) > 0 && draw("no connected route", 4) == 0 {
		i := draw("which", len(s.Routes))
		s.Routes = slices.Delete(s.Routes, i, i+1)
	}
	for _, r := range podRoutes {
		if coin("route "+r.String()) && holds(s, r) {
			s.Model(AddRoute{r})
		}
	}
	for _, n := range podNeighbours {
		if coin("neighbour " + n.String()) {
			s.Model(AddNeighbour{n})
		}
	}
	for _, r := range s.RoutersWanted() {
		if !r.Address.IsValid() {
			s.Routers = append(s.Routers, identity.Router{Gateway: r.Gateway}) // nobody answered, unless it is found below
		}
	}
	for _, r := range podRouters[draw("routers", len(podRouters))] {
		if slices.ContainsFunc(s.RoutersWanted(), func(w identity.Router) bool { return w.Gateway == r.Gateway && (w.MAC.IsZero() || w.MAC == r.MAC) }) {
			s.Routers = append(slices.DeleteFunc(s.Routers, func(o identity.Router) bool { return o.Gateway == r.Gateway }), r)
		}
	}
	if len(s.Routes) > 0 { // the kernel lists them by destination
		s.Routes = rapid.Permutation(s.Routes).Draw(t, name+" order of routes")
	}
	return s
}

// relabelAll gives the IPv4 addresses the labels that the kernel gives them when a link is renamed, but for those that
// have one of their own.
func relabelAll(s *Snapshot) {
	n := 0
	for i := range s.Addresses {
		if a := &s.Addresses[i]; a.Is4() {
			if n++; n > 1 {
				a.Label = fmt.Sprintf("eth0:%d", n)
			} else {
				a.Label = "eth0"
			}
		}
	}
}

// holds reports whether the kernel would take the route.
func holds(s *Snapshot, r Route) bool {
	if slices.ContainsFunc(s.Routes, func(o Route) bool {
		return o.Destination == r.Destination && o.Source == r.Source && o.Table == r.Table && o.TOS == r.TOS && o.Priority == r.Priority
	}) {
		return false
	}
	if r.PrefSrc.IsValid() && !slices.ContainsFunc(s.Addresses, func(a Address) bool { return a.Local.Addr() == r.PrefSrc }) {
		return false
	}
	if r.Is4() && !slices.ContainsFunc(s.Addresses, Address.Is4) {
		return false // the last IPv4 address takes every IPv4 route along
	}
	for _, h := range r.Hops {
		if h.Link == NIC && h.Gateway.IsValid() && !h.OnLink && !reached(h.Gateway, r.Table, s.Routes) {
			return false
		}
	}
	return true
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

const farAway Instant = 1 << 40

var podAddresses = []Address{
	{Link: NIC, Local: prefix("10.244.1.5/24"), Broadcast: addr("10.244.1.255")},
	{Link: NIC, Local: prefix("10.244.1.6/24")},
	{Link: NIC, Local: prefix("10.244.2.5/32")},
	{Link: NIC, Local: prefix("10.244.3.5/24"), Flags: unix.IFA_F_NOPREFIXROUTE},
	{Link: NIC, Local: prefix("10.244.4.5/32"), Peer: addr("10.244.4.9")},
	{Link: NIC, Local: prefix("10.244.5.5/24"), Metric: 55, ValidUntil: farAway, PreferredUntil: farAway - 1000},
	{Link: NIC, Local: prefix("fe80::5/64"), Scope: unix.RT_SCOPE_LINK, Protocol: 3},
	{Link: NIC, Local: prefix("fd00:1::5/64")},
	{Link: NIC, Local: prefix("fd00:1::6/64"), Metric: 77},
	{Link: NIC, Local: prefix("2001:db8::5/128"), Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD},
	{Link: NIC, Local: prefix("fd00:2::5/64"), ValidUntil: farAway, PreferredUntil: farAway},
}

// via makes a unicast route of a table with a metric.
func via(destination, gateway string, table, metric uint32, edit func(*Route)) Route {
	r := Route{
		Destination: prefix(destination), Table: table, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_BOOT, Priority: metric,
		Hops: []Hop{{Link: NIC, Gateway: addr(gateway)}},
	}
	if r.Is4() && gateway == "" {
		r.Scope = unix.RT_SCOPE_LINK
	}
	if edit != nil {
		edit(&r)
	}
	return r
}

const mainTable = unix.RT_TABLE_MAIN

// podRoutes may be drawn in this order: those on the link come first.
var podRoutes = []Route{
	via("10.244.1.1/32", "", mainTable, 0, func(r *Route) { r.PrefSrc = addr("10.244.1.5") }),
	via("169.254.1.1/32", "", mainTable, 0, nil),
	via("10.244.1.0/24", "", 100, 0, nil),
	via("10.244.1.0/24", "10.244.1.1", mainTable, 10, nil),
	via("0.0.0.0/0", "10.244.1.1", mainTable, 0, nil),
	via("0.0.0.0/0", "169.254.1.1", mainTable, 50, func(r *Route) { r.Metrics = map[uint16]uint32{rtaxMTU: 1300} }),
	via("0.0.0.0/0", "10.244.1.1", 100, 0, nil),
	via("10.9.0.0/16", "10.244.1.1", mainTable, 0, func(r *Route) { r.TOS = 0x10 }),
	via("203.0.113.0/24", "172.31.0.1", mainTable, 0, func(r *Route) { r.Hops[0].OnLink = true }),
	via("203.0.113.7/32", "fe80::1", mainTable, 0, nil),
	via("198.51.100.0/24", "10.244.1.1", mainTable, 0, func(r *Route) {
		r.Hops = []Hop{{Link: NIC, Gateway: addr("10.244.1.1"), Weight: 3}, {Link: NIC, Gateway: addr("10.244.1.2"), Weight: 5}}
	}),
	via("198.51.100.128/25", "10.244.1.1", mainTable, 0, func(r *Route) {
		r.Hops = append(r.Hops, Hop{OtherIndex: 9, Gateway: addr("10.245.0.1"), Weight: 5})
	}),
	via("::/0", "fd00:1::1", mainTable, 1024, nil),
	via("2001:db8:1::/48", "fe80::1", mainTable, 1024, func(r *Route) { r.Preference = 1 }),
	via("2001:db8:2::/48", "fe80::1", mainTable, 1024, func(r *Route) { r.PrefSrc = addr("fd00:1::5") }),
	via("2001:db8:3::/48", "fe80::1", 100, 5, nil),
	via("2001:db8:4::/48", "fe80::1", mainTable, 1024, func(r *Route) {
		r.Hops = []Hop{{Link: NIC, Gateway: addr("fe80::1"), Weight: 1}, {Link: NIC, Gateway: addr("fe80::2"), Weight: 2}}
	}),
}

var podNeighbours = []Neighbour{
	{Link: NIC, Address: addr("10.244.1.1"), MAC: identity.MAC{0x0e, 1}},
	{Link: NIC, Address: addr("fe80::1"), MAC: identity.MAC{0x0e, 2}, Router: true},
	{Link: NIC, Address: addr("10.244.1.77"), Proxy: true},
}

// podRouters are what may have been found of the gateways: the MACs are those of podNeighbours, where these have some.
var podRouters = [][]identity.Router{
	nil,
	{{Gateway: addr("fd00:1::1"), Address: addr("fe80::a"), MAC: identity.MAC{0x0e, 3}}},
	{{Gateway: addr("fd00:1::1"), Address: identity.VirtualRouter, MAC: identity.MAC{0x0e, 3}}, {Gateway: addr("fe80::1"), Address: addr("fe80::1"), MAC: identity.MAC{0x0e, 2}}},
	{{Gateway: addr("fd00:1::1"), Address: addr("fe80::1"), MAC: identity.MAC{0x0e, 2}}, {Gateway: addr("fe80::1"), Address: addr("fe80::1"), MAC: identity.MAC{0x0e, 2}}},
	{{Gateway: addr("fe80::1"), Address: addr("fe80::b"), MAC: identity.MAC{0x0e, 2}}},
}

// stateOf draws a pod as it was, wired, or something on the way from one to the other, with drift.
func stateOf(t *rapid.T, name string, original *Snapshot, o Options) *Snapshot {
	wanted := withShared(Wired(original, o), original)
	switch rapid.IntRange(0, 4).Draw(t, name+" state") {
	case 0:
		return original.Clone()
	case 1:
		return wanted
	case 2:
		steps := Diff(bridgeBinding{}, original, wanted)
		return after(t, original, steps[:rapid.IntRange(0, len(steps)).Draw(t, name+" steps")])
	case 3:
		return drifted(t, name, wanted)
	}
	steps := Diff(bridgeBinding{}, wanted, original)
	return after(t, wanted, steps[:rapid.IntRange(0, len(steps)).Draw(t, name+" steps back")])
}

// drifted is a wiring that somebody has changed.
func drifted(t *rapid.T, name string, s *Snapshot) *Snapshot {
	s = s.Clone()
	for _, role := range []Role{Bridge, Tap, Placeholder} {
		l := s.Link(role)
		lower, renamed, enlarged := *l, *l, *l
		lower.Up, renamed.Name, enlarged.MTU = false, l.Name+"-x", l.MTU+100
		for i, c := range []Change{
			SetLink{role, SettingUp, lower}, SetLink{role, SettingName, renamed}, SetLink{role, SettingMTU, enlarged},
			SetLink{role, SettingMaster, Link{}}, DeleteLink{role},
		} {
			if rapid.IntRange(0, 5).Draw(t, fmt.Sprint(name, role, i)) == 0 {
				s.Model(c)
			}
		}
	}
	if rapid.Bool().Draw(t, name+" without the filter") {
		s.Model(RemoveFilter{})
	}
	return s
}

// withShared adds the routes of another snapshot that also use a link of somebody else. Nothing moves them while the
// interface is wired: they are there whether they are wanted or not.
func withShared(s, other *Snapshot) *Snapshot {
	s = s.Clone()
	for _, r := range other.Routes {
		if r.uses(NIC) && !r.usesOnly(NIC) {
			s.Routes = append(s.Routes, r.clone())
		}
	}
	return s
}

// refusal is why the kernel would not take a change, as far as order matters for that.
func refusal(s *Snapshot, c Change) string {
	taken := func(name string) bool {
		return slices.ContainsFunc(s.Links, func(l Link) bool { return l.Name == name })
	}
	switch c := c.(type) {
	case CreateLink:
		if taken(c.Link.Name) {
			return "the name is taken"
		}
	case SetLink:
		if c.Setting == SettingName && (taken(c.Want.Name) || s.Link(c.Role).Up) {
			return "the name is taken, or the link is up"
		}
		if c.Setting == SettingMaster && c.Want.Master != "" && s.Link(c.Want.Master) == nil {
			return "there is no such master"
		}
	case AddAddress:
		if s.Link(c.Address.Link) == nil || slices.ContainsFunc(s.AddressesOf(c.Address.Link), func(a Address) bool { return a.Local == c.Address.Local }) {
			return "there is no link, or it has the address"
		}
	case AddRoute:
		for _, h := range c.Route.Hops {
			if h.OtherIndex != 0 {
				continue // not ours to know
			}
			if l := s.Link(h.Link); l == nil || !l.Up {
				return "the link is not up"
			}
			if h.Gateway.IsValid() && !h.OnLink && !reached(h.Gateway, c.Route.Table, s.Routes) {
				return "the gateway is not reached"
			}
		}
	}
	return ""
}

// after is what a snapshot becomes by steps, none of which the kernel may refuse.
func after(t *rapid.T, s *Snapshot, steps []Step) *Snapshot {
	t.Helper()
	s = s.Clone()
	for i, step := range steps {
		if why := refusal(s, step.Change); why != "" {
			t.Fatalf("step %d of %v: %s", i, steps, why)
		}
		s.Model(step.Change)
	}
	return s
}

func reaches(t *rapid.T, from, to *Snapshot) *Snapshot {
	t.Helper()
	steps := Diff(bridgeBinding{}, from, to)
	got := after(t, from, steps)
	if left := Diff(bridgeBinding{}, got, to); len(left) > 0 {
		t.Fatalf("the steps %v\nleave %v\nfrom\n%v\nto\n%v", steps, left, Comparable(from), Comparable(to))
	}
	want := to
	if to.Link(Bridge) != nil {
		want = withShared(to, from)
	}
	if d := cmp.Diff(Comparable(want), Comparable(got)); d != "" {
		t.Fatalf("the steps %v lead elsewhere:\n%s", steps, d)
	}
	return got
}

func optionsFor(t *rapid.T) Options {
	o := Options{Interface: "eth0", Queues: rapid.IntRange(1, 2).Draw(t, "queues")}
	o.Socket = rapid.SampledFrom([]string{SocketPacket, SocketUDP}).Draw(t, "socket")
	o.IPv6 = rapid.SampledFrom(ipv6Modes).Draw(t, "ipv6")
	o, err := o.Normal()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestDiffLeadsFromAnyStateToAnyOther goes from one state of a pod to one of another pod on the same link, which includes
// all that people may have changed in between.
func TestDiffLeadsFromAnyStateToAnyOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := optionsFor(t)
		x := stateOf(t, "from", podOf(t, "from"), o)
		original := podOf(t, "to")
		y := original
		if rapid.Bool().Draw(t, "wired") {
			y = Wired(original, o)
		}
		if steps := Diff(bridgeBinding{}, y, y); len(steps) > 0 {
			t.Fatalf("what is as wanted takes steps: %v", steps)
		}
		reaches(t, x, y)
	})
}

func TestDiffThereAndBackIsTheOriginal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		original := podOf(t, "pod")
		wired := reaches(t, original, Wired(original, optionsFor(t)))
		reaches(t, wired, original)
	})
}

func TestWiredCarriesTheIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		original, o := podOf(t, "pod"), optionsFor(t)
		want, _ := Identify(original, o)
		wired := withShared(Wired(original, o), original)
		rebuilt := bridgeBinding{}.Options(wired, o.Names())
		if got, want := rebuilt.IPv6For(original), o.IPv6For(original); got != want {
			t.Fatalf("IPv6: %s became %s", want, got)
		}
		got, _ := Identify(bridgeBinding{}.Rebuild(wired, o.Names()), rebuilt)
		inOrder := cmpopts.SortSlices(func(a, b identity.Route) bool { return fmt.Sprint(a) < fmt.Sprint(b) })
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), inOrder); d != "" {
			t.Fatal(d)
		}
	})
}

func TestUnparkIsTheInverseOfPark(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		routes := slices.DeleteFunc(podOf(t, "pod").Routes, func(r Route) bool { return !r.usesOnly(NIC) })
		for i := range routes {
			routes[i].Expires = 0 // parked routes stay: the kernel must not take them
		}
		if got := unpark(park(routes)); !slices.EqualFunc(routes, got, Route.Same) {
			t.Fatalf("%v became %v", routes, got)
		}
	})
}
