package plan

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Model makes of a snapshot what the kernel would make of the namespace when asked for a change: the change itself and
// what it takes along. Diff plans with it, so that the steps that it lists are all that there will be; a test holds it
// against the kernel step by step.
func (s *Snapshot) Model(c Change) {
	switch c := c.(type) {
	case CreateLink:
		l := c.Link
		l.Up, l.Master, l.Learning, l.LocalSources, l.LoopbackSources = false, "", false, false, false
		if l.AddrGenMode != "" {
			l.AddrGenMode = AddrGenModes[0] // or what net.ipv6.conf.default says; set to what it should be in any case
		}
		s.Links = append(s.Links, l)
	case DeleteLink:
		s.removeLink(c.Role)
	case DeleteMarked:
		for _, l := range slices.Clone(s.Links) {
			if l.Role != NIC && l.Group == c.Mark {
				s.removeLink(l.Role)
			}
		}
	case SetLink:
		l := s.Link(c.Role)
		c.Setting.copy(l, &c.Want)
		switch {
		case c.Setting == SettingName:
			s.relabel(c.Role, l.Name)
		case c.Setting == SettingUp && l.Up:
			s.linkUp(c.Role)
		case c.Setting == SettingUp:
			s.linkDown(c.Role)
		case c.Setting == SettingMaster, c.Setting == SettingMTU && l.Master == Bridge:
			s.adjustBridge()
		}
	case AddAddress:
		s.addAddress(c.Address)
	case DeleteAddress:
		s.deleteAddress(c.Address)
	case ChangeAddress:
		if i := slices.IndexFunc(s.Addresses, c.Address.Same); i >= 0 {
			s.Addresses[i] = c.Address
		}
	case AddRoute:
		s.Routes = append(s.Routes, c.Route.clone())
	case DeleteRoute:
		if i := slices.IndexFunc(s.Routes, c.Route.Same); i >= 0 {
			s.Routes = slices.Delete(s.Routes, i, i+1)
		}
	case AddNeighbour:
		s.Neighbours = append(s.Neighbours, c.Neighbour)
	case DeleteNeighbour:
		s.Neighbours = slices.DeleteFunc(s.Neighbours, func(n Neighbour) bool { return n == c.Neighbour })
	case PutFilter:
		s.Filter = c.Filter
	case RemoveFilter:
		s.Filter = nil
	default:
		s.modelTC(c)
	}
}

// adjustBridge gives the bridge the MTU of the port that carries least (br_mtu_auto_adjust, net/bridge/br_if.c). A bridge
// whose own MTU somebody has set keeps it; that is not to be seen, and then another round finds nothing to do.
func (s *Snapshot) adjustBridge() {
	bridge := s.Link(Bridge)
	if bridge == nil {
		return
	}
	bridge.MTU = 0
	for _, l := range s.Links {
		if l.Master == Bridge && (bridge.MTU == 0 || l.MTU < bridge.MTU) {
			bridge.MTU = l.MTU
		}
	}
	if bridge.MTU == 0 {
		bridge.MTU = 1500 // ETH_DATA_LEN: it has no port
	}
}

// relabel gives the IPv4 addresses of a renamed link their new labels: the first one the name, the others the name with
// what they had behind the colon, or with a number (inetdev_changename, net/ipv4/devinet.c).
func (s *Snapshot) relabel(role Role, name string) {
	named := 0
	for i := range s.Addresses {
		a := &s.Addresses[i]
		if a.Link != role || !a.Is4() {
			continue
		}
		named++
		_, suffix, ok := strings.Cut(a.Label, ":")
		if !ok {
			suffix = strconv.Itoa(named)
		}
		a.Label = name
		if named > 1 {
			a.Label = name[:min(len(name), MaxName-len(suffix)-1)] + ":" + suffix
		}
	}
}

func (s *Snapshot) removeLink(role Role) {
	l := s.Link(role)
	port := l != nil && l.Master == Bridge
	s.Links = slices.DeleteFunc(s.Links, func(l Link) bool { return l.Role == role })
	s.removeQdisc(role)
	for i := range s.Links {
		if s.Links[i].Master == role {
			s.Links[i].Master, s.Links[i].MasterIndex, s.Links[i].Learning = "", 0, false
		}
	}
	if port {
		s.adjustBridge()
	}
	for _, a := range slices.Backward(s.AddressesOf(role)) {
		s.deleteAddress(a)
	}
	s.removeRoutes(func(r Route) bool { return r.uses(role) })
	s.Neighbours = slices.DeleteFunc(s.Neighbours, func(n Neighbour) bool { return n.Link == role })
}

// linkUp adds the connected routes of the addresses (fib_inetdev_event, addrconf_notify).
func (s *Snapshot) linkUp(role Role) {
	for i, a := range s.Addresses {
		if a.Link == role {
			s.addConnected(a, s.Addresses[:i])
		}
	}
}

// linkDown removes what a link that is down does not have: routes, neighbours (also permanent ones) and, unless
// keep_addr_on_down says otherwise, IPv6 addresses. IPv4 addresses stay. The addresses are kept here, so that they are
// deleted by a step of their own, which does no harm where the kernel was first.
func (s *Snapshot) linkDown(role Role) {
	s.removeRoutes(func(r Route) bool { return r.usesOnly(role) })
	s.Neighbours = slices.DeleteFunc(s.Neighbours, func(n Neighbour) bool { return n.Link == role })
}

func (s *Snapshot) removeRoutes(gone func(Route) bool) { s.Routes = slices.DeleteFunc(s.Routes, gone) }

func (s *Snapshot) addAddress(a Address) {
	at := len(s.Addresses)
	if !a.Is4() {
		// Link-local addresses come behind the global ones in the kernel's list, whenever they are added, and so in front in
		// the order of adding.
		if i := slices.IndexFunc(s.Addresses, func(b Address) bool {
			return b.Link == a.Link && !b.Is4() && scopeOrder(b.Local.Addr()) > scopeOrder(a.Local.Addr())
		}); i >= 0 {
			at = i
		}
	}
	s.Addresses = slices.Insert(s.Addresses, at, a)
	if l := s.Link(a.Link); l != nil && l.Up {
		s.addConnected(a, s.Addresses[:at])
	}
}

// scopeOrder sorts IPv6 addresses as ipv6_link_dev_addr does (net/ipv6/addrconf.c), last first.
func scopeOrder(a netip.Addr) int {
	if a.IsLinkLocalUnicast() {
		return 0
	}
	return 1
}

// addConnected adds the route to the address's prefix. An earlier IPv4 address of the link may have it (this one is
// secondary then).
func (s *Snapshot) addConnected(a Address, earlier []Address) {
	prefix, ok := a.Connected()
	if !ok {
		return
	}
	if !a.Is4() {
		s.addPrefixRoute(a, prefix)
		return
	}
	if slices.ContainsFunc(earlier, func(b Address) bool {
		p, _ := b.Connected()
		return b.Link == a.Link && b.Is4() && p == prefix
	}) {
		return
	}
	r := connectedBy(a, prefix)
	r.Scope, r.PrefSrc = unix.RT_SCOPE_LINK, a.Local.Addr()
	if !slices.ContainsFunc(s.Routes, r.Same) {
		s.Routes = append(s.Routes, r)
	}
}

func connectedBy(a Address, prefix netip.Prefix) Route {
	return Route{
		Destination: prefix, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_KERNEL,
		Priority: a.Metric, Hops: []Hop{{Link: a.Link}},
	}
}

// addPrefixRoute adds a route for an IPv6 address. One serves all addresses of a prefix, and lasts as long as the address
// that was added last, unless it lasts for ever (fib6_add_rt2node). That to a peer comes later, by a work queue
// (addrconf_dad_completed): it is planned as a step, which finds it there or not.
func (s *Snapshot) addPrefixRoute(a Address, prefix netip.Prefix) {
	r := connectedBy(a, prefix)
	r.Expires = a.ValidUntil
	if r.Priority == 0 {
		r.Priority = ip6PrioAddrconf
	}
	i := slices.IndexFunc(s.Routes, r.sameDirect)
	switch {
	case i < 0:
		s.Routes = append(s.Routes, r)
	case s.Routes[i].Expires != 0:
		s.Routes[i].Expires = a.ValidUntil
	}
}

// sameDirect reports whether the kernel takes two IPv6 routes without a gateway for one (rt6_duplicate_nexthop).
func (r Route) sameDirect(o Route) bool {
	return r.Destination == o.Destination && r.Source == o.Source && r.Table == o.Table && r.Priority == o.Priority &&
		len(o.Hops) == 1 && !o.Hops[0].Gateway.IsValid() && r.Hops[0].Link == o.Hops[0].Link
}

// ip6PrioAddrconf is IP6_RT_PRIO_ADDRCONF (include/net/ip6_route.h), the metric of connected IPv6 routes.
const ip6PrioAddrconf = 256

func (s *Snapshot) deleteAddress(a Address) {
	i := slices.IndexFunc(s.Addresses, a.Same)
	if i < 0 {
		return
	}
	s.Addresses = slices.Delete(s.Addresses, i, i+1)
	ip := a.Local.Addr()
	remove := func(prefix netip.Prefix) {
		s.removeRoutes(func(r Route) bool {
			return r.Destination == prefix && r.Protocol == unix.RTPROT_KERNEL && r.Table == unix.RT_TABLE_MAIN && r.usesOnly(a.Link)
		})
	}
	if peer, ok := a.toPeer(); ok {
		remove(peer)
	}
	if prefix, ok := a.Connected(); ok && !slices.ContainsFunc(s.Addresses, func(b Address) bool {
		p, ok := b.Connected()
		return ok && b.Link == a.Link && p == prefix
	}) {
		remove(prefix)
	}
	if slices.ContainsFunc(s.Addresses, func(b Address) bool { return b.Local.Addr() == ip }) {
		return // another link has it still
	}
	if a.Is4() {
		s.removeRoutes(func(r Route) bool { return r.PrefSrc == ip }) // fib_sync_down_addr
		if !slices.ContainsFunc(s.Addresses, func(b Address) bool { return b.Link == a.Link && b.Is4() }) {
			s.removeRoutes(func(r Route) bool { return r.Is4() && r.usesOnly(a.Link) }) // fib_disable_ip
		}
		return
	}
	for i := range s.Routes { // fib6_remove_prefsrc keeps the route
		if s.Routes[i].PrefSrc == ip {
			s.Routes[i].PrefSrc = netip.Addr{}
		}
	}
}
