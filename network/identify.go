package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// rtaxMTU is RTAX_MTU (include/uapi/linux/rtnetlink.h).
const rtaxMTU = 2

// ServerMAC is the MAC that the DHCP server sends from: the bridge's, in either socket mode.
func ServerMAC(original *Snapshot) identity.MAC { return derivedMAC(original.Link(NIC).MAC, Bridge) }

// Identify says who the guest has to be, given what the pod's interface held, and warns of what the guest does not get.
// Hostname and resolver are for the serving process to fill in. It is a pure function.
func Identify(original *Snapshot) (identity.Identity, []string) {
	nic := original.Link(NIC)
	f := &identifier{from: original, id: identity.Identity{Interface: nic.Name, MAC: nic.MAC, MTU: nic.MTU}}
	f.addresses()
	if !f.id.Layer2Only() {
		f.routes()
		f.neighbours()
	}
	f.rules()
	return f.id, f.warnings
}

type identifier struct {
	from     *Snapshot
	id       identity.Identity
	warnings []string
}

func (f *identifier) warn(format string, args ...any) {
	f.warnings = append(f.warnings, fmt.Sprintf(format, args...))
}

// addresses picks the primary IPv4 address, the first one: what the pod's own connections would come from.
func (f *identifier) addresses() {
	var v6 []string
	for _, a := range f.from.Addresses {
		ip := a.Local.Addr()
		switch {
		case a.Link != NIC:
		case !a.is4():
			if !ip.IsLinkLocalUnicast() {
				v6 = append(v6, ip.String())
			}
		case !f.id.PodAddress.IsValid():
			f.id.PodAddress = a.Local
			f.id.Address = netip.PrefixFrom(ip, 32)
			if f.connected(a.Local) {
				f.id.Address = a.Local
			}
		default:
			f.warn("%s is a further address of %s: DHCP hands out the first alone; configure it in the guest", a.Local, f.id.Interface)
		}
	}
	if len(v6) > 0 {
		f.warn("IPv6 is not handed over yet (%s): IPv6 frames pass, and the guest may configure it itself", strings.Join(v6, ", "))
	}
	if f.id.Layer2Only() {
		f.warn("%s has no IPv4 address: the guest gets layer 2 only, and no DHCP server", f.id.Interface)
	}
}

// connected reports whether the pod reached its subnet directly. Pod networks of the ptp kind take the connected route
// away, since the neighbours do not answer ARP there: then the guest must not believe that they do.
func (f *identifier) connected(prefix netip.Prefix) bool {
	return prefix.Bits() < 32 && slices.ContainsFunc(f.from.Routes, func(r Route) bool {
		return f.usable(r) && r.direct() && r.Destination == prefix.Masked()
	})
}

// usable reports whether the route is of the kind that DHCP can speak of: IPv4, unicast, of the main table.
func (f *identifier) usable(r Route) bool {
	return r.is4() && r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST && r.uses(NIC)
}

func (f *identifier) routes() {
	var usable []Route
	others := 0
	for _, r := range f.from.Routes {
		switch {
		case !r.is4() || !r.uses(NIC):
		case !f.usable(r):
			others++
		case r.TOS != 0:
			f.warn("the route %s is for one type of service, which DHCP cannot say", r)
		default:
			usable = append(usable, r)
		}
	}
	if others > 0 {
		f.warn("routes of other tables or types (%d) are not handed over: DHCP knows one table", others)
	}
	slices.SortStableFunc(usable, func(a, b Route) int { return cmp.Compare(a.Priority, b.Priority) })
	told := make(map[netip.Prefix]bool)
	for _, r := range usable {
		if told[r.Destination] {
			f.warn("the route %s is not handed over: another to the same destination has a lower metric", r)
			continue
		}
		if f.route(r) {
			told[r.Destination] = true
		}
	}
	f.reachGateways()
	slices.SortStableFunc(f.id.Routes, func(a, b identity.Route) int { return cmp.Compare(routeOrder(a), routeOrder(b)) })
}

// routeOrder puts what is on the link first, since gateways are reached by it, and the default last.
func routeOrder(r identity.Route) int {
	switch {
	case !r.Gateway.IsValid():
		return 0
	case r.Destination.Bits() > 0:
		return 1
	}
	return 2
}

func (f *identifier) route(r Route) bool {
	i := slices.IndexFunc(r.Hops, func(h Hop) bool { return h.Link == NIC })
	gateway := r.Hops[i].Gateway
	if len(r.Hops) > 1 {
		f.warn("the route %s has several next hops: the guest is told the first", r)
	}
	if gateway.Is6() {
		f.warn("the route %s has an IPv6 gateway, which DHCP cannot say: the guest does not get it", r)
		return false
	}
	if r.PrefSrc.IsValid() && r.PrefSrc != f.id.Address.Addr() {
		f.warn("the route %s has a source address of its own, which DHCP cannot say", r)
	}
	if r.isDefault() {
		f.id.Gateway = gateway
		if mtu := int(r.Metrics[rtaxMTU]); mtu > 0 && mtu < f.id.MTU {
			f.id.MTU = mtu
		}
	}
	if f.id.Address.Bits() < 32 && r.direct() && r.Destination == f.id.Address.Masked() {
		return true // follows from the mask
	}
	f.id.Routes = append(f.id.Routes, identity.Route{Destination: r.Destination, Gateway: gateway})
	return true
}

// reachGateways adds a route to each gateway that the pod reached by decree (onlink) and not by a route.
func (f *identifier) reachGateways() {
	for _, r := range slices.Clone(f.id.Routes) {
		if !r.Gateway.IsValid() || f.id.Address.Bits() < 32 && f.id.Address.Contains(r.Gateway) {
			continue
		}
		if !slices.ContainsFunc(f.id.Routes, func(o identity.Route) bool {
			return !o.Gateway.IsValid() && o.Destination.Bits() > 0 && o.Destination.Contains(r.Gateway)
		}) {
			f.id.Routes = append(f.id.Routes, identity.Route{Destination: netip.PrefixFrom(r.Gateway, 32)})
		}
	}
}

func (f *identifier) neighbours() {
	for _, n := range f.from.Neighbours {
		if n.Link == NIC && n.Address.Is4() && !n.Proxy && !n.MAC.IsZero() {
			f.id.Neighbours = append(f.id.Neighbours, identity.Neighbour{Address: n.Address, MAC: n.MAC})
		}
	}
	// The kernel lists them in the order of a hash table.
	slices.SortFunc(f.id.Neighbours, func(a, b identity.Neighbour) int { return a.Address.Compare(b.Address) })
}

func (f *identifier) rules() {
	custom := 0
	for _, r := range f.from.Rules {
		if r.custom() {
			custom++
		}
	}
	if custom > 0 {
		f.warn("policy routing rules of the pod (%d) are not handed over: DHCP cannot say them", custom)
	}
}
