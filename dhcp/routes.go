package dhcp

import (
	"net/netip"
	"slices"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

func newRouteForms(o Offer) v4.RouteForms {
	next := make(map[netip.Prefix]netip.Addr, len(o.Routes)+1)
	if !o.Address.IsSingleIP() {
		next[o.Address.Masked()] = netip.Addr{} // on the link by the mask
	}
	for _, r := range o.Routes {
		next[r.Destination.Masked()] = r.Gateway
	}
	without := func(drop func(identity.Route) bool) []byte {
		return v4.EncodeRoutes(slices.DeleteFunc(slices.Clone(o.Routes), drop))
	}
	return v4.RouteForms{
		Whole: v4.EncodeRoutes(o.Routes),
		Lean:  without(func(r identity.Route) bool { return follows(next, r) }),
		Bare:  without(func(r identity.Route) bool { return !reaches(o, r) }),
	}
}

// follows reports whether a route follows from the narrowest other one that its destination is inside of, given the next
// hops of all.
func follows(next map[netip.Prefix]netip.Addr, r identity.Route) bool {
	for bits := r.Destination.Bits() - 1; bits >= 0; bits-- {
		if gateway, ok := next[netip.PrefixFrom(r.Destination.Addr(), bits).Masked()]; ok {
			return gateway == r.Gateway
		}
	}
	return false
}

// reaches reports whether a route is the default, or leads to its gateway or to the server over the link.
func reaches(o Offer, r identity.Route) bool {
	if r.Destination.Bits() == 0 {
		return true
	}
	return !r.Gateway.IsValid() && (r.Destination.Contains(o.ServerIdentifier) || o.Gateway.IsValid() && r.Destination.Contains(o.Gateway))
}
