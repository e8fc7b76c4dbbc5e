package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// usable reports whether the route is of the kind that DHCP can speak of: IPv4, unicast, of the main table.
func (r Route) usable() bool {
	return r.Is4() && r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST && r.TOS == 0 && r.uses(NIC)
}

// hop is the first next hop on the pod's link.
func (r Route) hop() Hop {
	return r.Hops[slices.IndexFunc(r.Hops, func(h Hop) bool { return h.Link == NIC })]
}

// The halves of 0.0.0.0/0. VPN clients and others set a route to each so as to go before a default route that they leave
// alone: together they are one.
var Halves = [2]netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")}

// defaultRoute is the pod's IPv4 default route: one route, or two halves by the same gateway, which the kernel prefers,
// since they are longer; none where there is none.
func (s *Snapshot) defaultRoute() []Route {
	best := func(destination netip.Prefix) (of []Route) {
		for _, r := range s.Routes {
			if r.usable() && r.Destination == destination && (of == nil || r.Priority < of[0].Priority) {
				of = []Route{r}
			}
		}
		return of
	}
	both := append(best(Halves[0]), best(Halves[1])...)
	if len(both) == 2 && both[0].hop().Gateway == both[1].hop().Gateway {
		return both
	}
	return best(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
}

// HasDefault reports whether a default route of the pod, of either family, is by its interface.
func (s *Snapshot) HasDefault() bool {
	return len(s.defaultRoute()) > 0 || slices.ContainsFunc(s.Routes, func(r Route) bool {
		return !r.Is4() && r.Destination.Bits() == 0 && r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST && r.uses(NIC)
	})
}

// source is the IPv4 address that the pod sends from by its default route, as fib_result_prefsrc has it
// (net/ipv4/fib_semantics.c). Where there is no such route, or it has an address of another link, it is the one of the
// widest scope; among these, one that lasts.
func (s *Snapshot) source() (Address, bool) {
	of := slices.DeleteFunc(s.AddressesOf(NIC), func(a Address) bool { return !a.Is4() })
	if len(of) == 0 {
		return Address{}, false
	}
	if route := s.defaultRoute(); route != nil {
		r := route[0]
		if i := slices.IndexFunc(of, func(a Address) bool { return a.Local.Addr() == r.PrefSrc }); i >= 0 {
			return of[i], true
		}
		if a, ok := selectAddress(of, r.hop().Gateway, r.Scope); ok && !r.PrefSrc.IsValid() {
			return a, true
		}
	}
	return slices.MinFunc(of, func(a, b Address) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.passing(), b.passing()))
	}), true
}

// passing is 0 for an address that lasts, 1 for one whose time will run out, and 2 for one that is deprecated.
func (a Address) passing() int {
	switch a.PreferredUntil {
	case 0:
		return 0
	case Past:
		return 2
	}
	return 1
}

// selectAddress is inet_select_addr (net/ipv4/devinet.c): the first address that is in the gateway's subnet, else the first
// one. Addresses of a narrower scope than the route's do not count, nor do secondary ones, those in the subnet of another.
func selectAddress(of []Address, gateway netip.Addr, scope uint8) (found Address, ok bool) {
	switch {
	case !gateway.IsValid():
		gateway = netip.IPv4Unspecified()
	case gateway.Is6(): // the kernel takes its first four bytes for an IPv4 one (fib_info_update_nhc_saddr)
		first := gateway.As16()
		gateway = netip.AddrFrom4([4]byte(first[:4]))
	}
	for i, a := range of {
		secondary := slices.ContainsFunc(of[:i], func(b Address) bool { return b.subnet() == a.subnet() })
		if secondary || a.Scope > scope {
			continue
		}
		if gateway.IsUnspecified() || a.subnet().Contains(gateway) {
			return a, true
		}
		if !ok {
			found, ok = a, true
		}
	}
	return found, ok
}

// subnet is the prefix that the address is in: its peer's, where it has one.
func (a Address) subnet() netip.Prefix {
	prefix, _ := a.Connected()
	return prefix
}
