package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// addresses6 hands over the pod's IPv6 addresses, or says why it does not.
func (f *identifier) addresses6(o Options) {
	mode := o.IPv6For(f.from)
	if mode == IPv6Serve {
		for _, a := range f.from.global() {
			f.id.V6.Addresses = append(f.id.V6.Addresses, identity.Address{Prefix: netip.PrefixFrom(a.Local.Addr(), 128), Pod: a.Local})
			if f.from.advertised(a) {
				f.warn("%s was made of a router advertisement, and is handed over as one that lasts", a.Local)
			}
		}
		return
	}
	var list []string
	for _, a := range f.from.AddressesOf(NIC) {
		if ip := a.Local.Addr(); !a.Is4() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast() {
			list = append(list, ip.String())
		}
	}
	if len(list) == 0 {
		return
	}
	switch all := strings.Join(list, ", "); {
	case mode == IPv6Off:
		f.warn("IPv6 is off (%s): no IPv6 frame passes", all)
	case o.IPv6 == IPv6Auto && o.TC && o.Socket == SocketUDP:
		f.warn("IPv6 is not served through a UDP socket where frames are redirected by tc (%s): IPv6 frames pass, and the guest may configure it itself", all)
	case o.IPv6 == IPv6Auto:
		f.warn("IPv6 is not served, since router advertisements made the addresses (%s): IPv6 frames pass, and the guest may make such addresses of its own", all)
	default:
		f.warn("IPv6 is not served (%s): IPv6 frames pass, and the guest may configure it itself", all)
	}
}

func (f *identifier) routes6() {
	var told []Route
	others := 0
	for _, r := range f.from.Routes {
		switch to := r.Destination.Addr(); {
		case r.Is4() || !r.uses(NIC):
		case r.told6():
			told = append(told, r)
		case to.IsLinkLocalUnicast() || to.IsMulticast():
		default:
			others++
		}
	}
	if others > 0 {
		f.warn("IPv6 routes of other tables or types, or for some sources (%d), are not handed over: a router advertisement knows one table", others)
	}
	slices.SortStableFunc(told, func(a, b Route) int { return cmp.Compare(a.Priority, b.Priority) })
	gateways := make(map[netip.Addr]bool)
	for _, r := range told {
		gateways[r.hop().Gateway] = true
	}
	done := make(map[netip.Prefix]bool)
	var handed []Route
	for _, r := range told {
		gateway := r.hop().Gateway
		switch to := r.Destination; {
		case !gateway.IsValid() && to.IsSingleIP() && (gateways[to.Addr()] || f.isOwn(to.Addr())):
			continue // the guest reaches a router by its link-local address, and itself in any case
		case done[to]:
			f.warn("the route %s is not handed over: another to the same destination has a lower metric", r)
			continue
		case !gateway.IsValid() && r.isDefault():
			f.warn("the route %s has no gateway, which a router advertisement cannot express: the guest does not get it", r)
			continue
		case len(r.Hops) > 1:
			f.warn("the route %s has several next hops: the guest is told the first", r)
		}
		done[r.Destination] = true
		handed = append(handed, r)
		f.route6(r, gateway)
	}
	for _, r := range handed { // when the guest's MTU is known
		if own := f.ownSettings(r); own != "" {
			f.warn("the route %s has settings of its own (%s), which a router advertisement cannot express", r, own)
		}
	}
	slices.SortStableFunc(f.id.V6.Routes, func(a, b identity.Route) int { return cmp.Compare(routeOrder(a), routeOrder(b)) })
}

func (f *identifier) isOwn(ip netip.Addr) bool {
	return slices.ContainsFunc(f.id.V6.Addresses, func(a identity.Address) bool { return a.Prefix.Addr() == ip })
}

func (f *identifier) route6(r Route, gateway netip.Addr) {
	if r.PrefSrc.IsValid() && r.PrefSrc != f.id.V6.First().Prefix.Addr() {
		f.warn("the route %s has a source address of its own, which a router advertisement cannot express", r)
	}
	if r.isDefault() {
		f.id.V6.Gateway = gateway
		if mtu := r.MTU(); mtu > 0 && mtu < f.id.MTU {
			f.id.MTU = max(mtu, minIPv6MTU)
		}
		if r.Protocol == unix.RTPROT_RA {
			f.warn("the route %s was made by a router advertisement, and is handed over as one that lasts", r)
		}
	}
	f.id.V6.Routes = append(f.id.V6.Routes, identity.Route{Destination: r.Destination, Gateway: gateway})
}

// routers are the gateways, as they were found before the interface was wired. Without a router the guest has no use for a
// route by it.
func (f *identifier) routers() {
	lost := make(map[netip.Addr]string)
	for _, gateway := range f.id.V6.Gateways() {
		r, why := f.router(gateway)
		if why != "" {
			lost[gateway] = why
			f.warn("the guest gets no route by %s: %s", gateway, why)
			continue
		}
		f.id.Routers = append(f.id.Routers, r)
	}
	f.id.V6.Routes = slices.DeleteFunc(f.id.V6.Routes, func(r identity.Route) bool { return lost[r.Gateway] != "" })
	if lost[f.id.V6.Gateway] != "" {
		f.id.V6.Gateway = netip.Addr{}
	}
}

// router is where a gateway is, or why that is not known. Before the interface is wired, nobody has asked for it.
func (f *identifier) router(gateway netip.Addr) (identity.Router, string) {
	permanent := func(ip netip.Addr) (identity.MAC, bool) {
		for _, n := range f.id.V6.Neighbours {
			if n.Address == ip {
				return n.MAC, true
			}
		}
		return identity.MAC{}, false
	}
	r := identity.Router{Gateway: gateway, Address: gateway}
	if i := slices.IndexFunc(f.from.Routers, func(r identity.Router) bool { return r.Gateway == gateway }); i >= 0 {
		r = f.from.Routers[i]
	} else {
		r.MAC, _ = permanent(gateway)
		if !gateway.IsLinkLocalUnicast() {
			r.Address = identity.VirtualRouter
		}
	}
	_, kept := permanent(r.Address)
	r.Answered = kept || identity.IsVirtualRouter(r.Address)
	switch {
	case !r.Address.IsValid():
		return r, "nobody answered for it when the interface was wired; run `podnic prepare` once somebody does"
	case identity.IsVirtualRouter(r.Address) && slices.ContainsFunc(f.id.Routers, func(o identity.Router) bool { return o.Address == r.Address && o.MAC != r.MAC }):
		return r, fmt.Sprintf("an earlier podnic wired it, which stood in for one router, and that is %s: restore the interface and prepare it again", f.id.Routers[0].Gateway)
	}
	return r, ""
}
