package plan

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// While the guest has the interface, the pod's routes are kept on the bridge, in tables that nothing looks up. They cost
// nothing there, and a program that has lost the record, or may not read it, finds the routes in the namespace.

// ParkedTable is the routing table in which a route of the given table is kept. The map is its own inverse, and no rule
// looks up what it yields for the tables that people use.
func ParkedTable(table uint32) uint32 { return table ^ 0x706e0000 }

// The kernel accepts a gateway only if a route of the same table leads to it directly. (RTNH_F_ONLINK, which forgoes
// that, is checked against the table main for IPv6, where the pod's link still has the prefix.) Where the pod's own
// routes do not say so, a signpost does: a host route to the gateway, whose protocol tells whether the hop was onlink.
const (
	signpost       = 0xed // RTPROT_… numbers that nobody has registered (include/uapi/linux/rtnetlink.h)
	signpostOnLink = 0xee
	signpostMetric = 0x706e0000 // apart from every route of the pod to the same host
)

func isSignpost(r Route) bool {
	return r.Priority == signpostMetric && (r.Protocol == signpost || r.Protocol == signpostOnLink)
}

// park is the bridge's copy of the routes that are on the pod's link alone. One that also uses somebody else's link stays
// where it is.
func park(routes []Route) []Route {
	var own, parked []Route
	for _, r := range routes {
		if r.usesOnly(NIC) {
			own = append(own, r)
		}
	}
	for _, r := range own {
		r = r.clone()
		r.Table = ParkedTable(r.Table)
		r.Expires = 0
		for i := range r.Hops {
			h := &r.Hops[i]
			h.Link = Bridge
			protocol := uint8(signpost)
			if h.OnLink {
				protocol = signpostOnLink
			} else if !h.Gateway.IsValid() || reached(h.Gateway, ParkedTable(r.Table), own) {
				continue
			}
			h.OnLink = false
			if s := signpostTo(h.Gateway, r.Table, protocol); !slices.ContainsFunc(parked, s.Same) {
				parked = append(parked, s)
			}
		}
		parked = append(parked, r)
	}
	return parked
}

func signpostTo(gateway netip.Addr, table uint32, protocol uint8) Route {
	r := Route{
		Destination: netip.PrefixFrom(gateway, gateway.BitLen()), Table: table, Type: unix.RTN_UNICAST,
		Protocol: protocol, Priority: signpostMetric, Hops: []Hop{{Link: Bridge}},
	}
	if gateway.Is4() {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return r
}

// reached reports whether one of the routes of the table leads to the gateway directly. Link-local gateways need none.
func reached(gateway netip.Addr, table uint32, routes []Route) bool {
	return gateway.Is6() && gateway.IsLinkLocalUnicast() || slices.ContainsFunc(routes, func(r Route) bool {
		return r.Table == table && r.Direct() && r.Type == unix.RTN_UNICAST && r.Destination.Contains(gateway)
	})
}

// unpark undoes park.
func unpark(routes []Route) []Route {
	var own []Route
	for _, r := range routes {
		if !r.usesOnly(Bridge) || isSignpost(r) {
			continue
		}
		r = r.clone()
		for i := range r.Hops {
			h := &r.Hops[i]
			h.Link = NIC
			h.OnLink = h.Gateway.IsValid() && slices.ContainsFunc(routes, signpostTo(h.Gateway, r.Table, signpostOnLink).Same)
		}
		r.Table = ParkedTable(r.Table)
		own = append(own, r)
	}
	return own
}
