package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// What becomes of IPv6 between the guest and the pod network.
const (
	IPv6Auto  = "auto"  // served where the pod has a global address that no router advertisement made, else passed
	IPv6Serve = "serve" // the guest is given the pod's addresses, and hears no router and no DHCPv6 server of the pod network
	IPv6Pass  = "pass"  // every frame crosses, and nobody serves
	IPv6Off   = "off"   // no frame crosses
)

var ipv6Modes = []string{IPv6Auto, IPv6Serve, IPv6Pass, IPv6Off}

// IPv6For is what becomes of IPv6 where the pod's interface held that: serve, pass or off. Records of podnics that knew no
// IPv6 say nothing: it passed.
func (o Options) IPv6For(original *Snapshot) string {
	of := original.global()
	switch {
	case o.IPv6 == IPv6Off:
		return IPv6Off
	case o.TC && o.Socket == SocketUDP: // tc's programs write nothing into frames
	case o.IPv6 == IPv6Serve && len(of) > 0:
		return IPv6Serve
	case o.IPv6 == IPv6Auto && slices.ContainsFunc(of, func(a Address) bool { return !original.advertised(a) }):
		return IPv6Serve
	}
	return IPv6Pass
}

// CheckIPv6 refuses to serve where there is nothing to serve with.
func (o Options) CheckIPv6(original *Snapshot) error {
	nic := original.Link(NIC)
	switch {
	case o.IPv6 == IPv6Serve && o.TC && o.Socket == SocketUDP:
		return Refuse("IPv6 is served through a packet socket alone where frames are redirected by tc, since this kernel's nftables cannot: leave out --socket udp, or pass --ipv6 auto")
	case o.IPv6 != IPv6Serve || len(original.global()) > 0:
		return nil
	case nic.AddrGenMode == "" && nic.MTU < minIPv6MTU:
		return Refuse("%s has no IPv6, which requires an MTU of %d; that of %[1]s is %[3]d: raise it, or pass --ipv6 auto", nic.Name, minIPv6MTU, nic.MTU)
	case nic.AddrGenMode == "":
		return Refuse("%s has no IPv6, since the kernel has none (ipv6.disable=1): pass --ipv6 auto", nic.Name)
	}
	return Refuse("%s has no global IPv6 address that could be served: give it one, or pass --ipv6 auto", nic.Name)
}

// minIPv6MTU is the least that a link of IPv6 carries (RFC 8200, 5). Linux has no IPv6 on one that carries less.
const minIPv6MTU = 1280

// global are the IPv6 addresses that a guest may be given: of global scope, unique local ones among them (RFC 4193), and not
// deprecated. The one that the pod sends from by its default route comes first, and the others as the kernel prefers them
// for a destination of the Internet (RFC 6724, 5; ipv6_get_saddr_eval, net/ipv6/addrconf.c): unique local ones last, and of
// the same kind the one that was added last first.
func (s *Snapshot) global() []Address {
	var of []Address
	for _, a := range s.AddressesOf(NIC) {
		if !a.Is4() && a.Scope == unix.RT_SCOPE_UNIVERSE && !a.Local.Addr().IsMulticast() && a.PreferredUntil != Past {
			of = append(of, a)
		}
	}
	slices.Reverse(of)
	var source netip.Addr
	if r := s.defaultRoute6(); r != nil {
		source = r.PrefSrc
	}
	rank := func(a Address) int {
		switch ip := a.Local.Addr(); {
		case ip == source:
			return 0
		case !ip.IsPrivate():
			return 1
		}
		return 2
	}
	slices.SortStableFunc(of, func(a, b Address) int { return rank(a) - rank(b) })
	return of
}

// advertised reports whether an address came from a router advertisement, by the kernel's word, or as programs make them
// that take advertisements themselves: with a lifetime, where there is a route that an advertisement made.
func (s *Snapshot) advertised(a Address) bool {
	return a.Protocol == protocolOfRA || a.Flags&unix.IFA_F_MANAGETEMPADDR != 0 ||
		a.ValidUntil != 0 && slices.ContainsFunc(s.Routes, func(r Route) bool { return !r.Is4() && r.Protocol == unix.RTPROT_RA })
}

// told6 reports whether the route is of the kind that a router advertisement can speak of: IPv6, unicast, of the main table,
// for every source. What every link has is nothing to speak of.
func (r Route) told6() bool {
	to := r.Destination.Addr()
	return !r.Is4() && r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST && !r.Source.IsValid() && r.uses(NIC) &&
		!(r.Destination.Bits() > 0 && (to.IsLinkLocalUnicast() || to.IsMulticast()))
}

// defaultRoute6 is the pod's IPv6 default route; nil where there is none.
func (s *Snapshot) defaultRoute6() *Route {
	var best *Route
	for i, r := range s.Routes {
		if r.told6() && r.isDefault() && (best == nil || r.Priority < best.Priority) {
			best = &s.Routes[i]
		}
	}
	return best
}

// The routers that were found are kept in the namespace as neighbours of the tap, by which nobody sends: a server that cannot
// read the record needs them, and they cannot be asked for as the pod once its interface is wired. A router is flagged as
// such. Its gateway, where that is another address, has an entry with the same MAC.

// signposts are those neighbours.
func (s *Snapshot) signposts(o Options) []Neighbour {
	if o.IPv6For(s) != IPv6Serve {
		return nil
	}
	var all []Neighbour
	add := func(n Neighbour) {
		if !n.MAC.IsZero() && !slices.ContainsFunc(all, func(o Neighbour) bool { return o.Address == n.Address }) {
			all = append(all, n)
		}
	}
	for _, r := range s.Routers {
		add(Neighbour{Link: Tap, Address: r.Address, MAC: r.MAC, Router: true})
	}
	for _, r := range s.Routers {
		add(Neighbour{Link: Tap, Address: r.Gateway, MAC: r.MAC})
	}
	return all
}

// recallRouters reads them. A link-local router may be the gateway itself, and for gateways without an entry nobody answered.
func (s *Snapshot) recallRouters(wired *Snapshot) {
	var all []identity.Router
	for _, router := range s.signpostsOf(wired) {
		if !identity.IsVirtualRouter(router.Address) {
			all = append(all, identity.Router{Gateway: router.Address, Address: router.Address, MAC: router.MAC})
		}
		for _, n := range wired.Neighbours {
			if n.Link == Tap && !n.Router && n.Address.Is6() && n.MAC == router.MAC {
				all = append(all, identity.Router{Gateway: n.Address, Address: router.Address, MAC: router.MAC})
			}
		}
	}
	s.knowRouters(all)
}

// signpostsOf are the routers among the neighbours of the tap. Of those with one MAC the first is a gateway's that is none of them
// itself: the one that is made of the MAC, which answers first when it is asked for. The kernel lists them in no order.
func (s *Snapshot) signpostsOf(wired *Snapshot) []Neighbour {
	routers := slices.DeleteFunc(slices.Clone(wired.Neighbours), func(n Neighbour) bool {
		return n.Link != Tap || !n.Router || !n.Address.IsLinkLocalUnicast()
	})
	rank := func(n Neighbour) int {
		switch {
		case n.Address == identity.LinkLocalOf(n.MAC):
			return 0
		case !slices.ContainsFunc(s.Routes, func(r Route) bool { return r.hop().Gateway == n.Address }):
			return 1
		}
		return 2
	}
	slices.SortFunc(routers, func(a, b Neighbour) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Address.Compare(b.Address))
	})
	return routers
}

// RoutersWanted are the gateways that no router has been found for yet, as Gateways has them.
func (s *Snapshot) RoutersWanted() []identity.Router {
	return slices.DeleteFunc(s.Gateways(), func(r identity.Router) bool {
		return slices.ContainsFunc(s.Routers, func(k identity.Router) bool { return k.Gateway == r.Gateway && k.Address.IsValid() })
	})
}

// Gateways are the next hops of the pod's IPv6 routes, with what is known of them without asking: the MAC of those that the
// pod had a permanent entry for, and the address of those that are link-local and have none, since they answer for it.
func (s *Snapshot) Gateways() []identity.Router {
	f := &identifier{from: s}
	for _, a := range s.global() {
		f.id.V6.Addresses = append(f.id.V6.Addresses, identity.Address{Prefix: a.Local})
	}
	f.routes6()
	var wanted []identity.Router
	for _, gateway := range f.id.V6.Gateways() {
		r := identity.Router{Gateway: gateway}
		i := slices.IndexFunc(s.Neighbours, func(n Neighbour) bool { return n.Link == NIC && n.Address == gateway && !n.Proxy && !n.MAC.IsZero() })
		if i >= 0 {
			r.MAC = s.Neighbours[i].MAC
		} else if gateway.IsLinkLocalUnicast() {
			r.Address = gateway
		}
		wanted = append(wanted, r)
	}
	return wanted
}

// Asking is the address that the pod asks its neighbours from: a link-local one, where it has one.
func (s *Snapshot) Asking() netip.Addr {
	var from netip.Addr
	for _, a := range s.AddressesOf(NIC) {
		if ip := a.Local.Addr(); !a.Is4() && (!from.IsValid() || ip.IsLinkLocalUnicast()) {
			from = ip
		}
	}
	return from
}

// serverAddresses are those that a UDP server sends from, on its link. By the second one, a server that may not read the
// filter also knows that IPv6 is served. It makes no route.
func (o Options) serverAddresses(original *Snapshot, on Role, name string) (all []Address) {
	if o.Socket != SocketUDP {
		return nil
	}
	if slices.ContainsFunc(original.Addresses, Address.Is4) {
		all = append(all, Address{Link: on, Local: netip.PrefixFrom(identity.ServerLinkLocal, 32), Label: name, Scope: unix.RT_SCOPE_LINK})
	}
	if o.IPv6For(original) == IPv6Serve {
		all = append(all, Address{
			Link: on, Local: netip.PrefixFrom(identity.ServerLinkLocal6, 128), Scope: unix.RT_SCOPE_LINK,
			Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE,
		})
	}
	return all
}

// ipv6Of tells what becomes of IPv6 in a wiring that has lost its record. It goes by the filter, or by tc's on the pod's
// link, which is another for each way; where it is none of them, podnic decides anew. Without permission to read the filter it goes by
// what is there only where IPv6 is served: the server's address, or a router.
func ipv6Of(b Binding, wired *Snapshot, o Options) string {
	if wired.Link(NIC) == nil {
		return ""
	}
	original := b.Rebuild(wired, o.Names())
	for _, mode := range ipv6Modes {
		if o.IPv6 = mode; fencesAs(b, original, wired, o) {
			return mode
		}
	}
	if wired.Filter == nil &&
		(slices.ContainsFunc(wired.Addresses, func(a Address) bool { return a.Local.Addr() == identity.ServerLinkLocal6 }) ||
			slices.ContainsFunc(wired.Neighbours, func(n Neighbour) bool { return n.Link == Tap && n.Router })) {
		return IPv6Serve
	}
	return ""
}
