package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Route is a route with all that RTM_NEWROUTE can say of it and that podnic can carry.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Source      netip.Prefix `json:"source,omitzero"` // IPv6 source-specific routes ("from")
	Table       uint32       `json:"table"`
	Type        uint8        `json:"type"`     // RTN_…
	Protocol    uint8        `json:"protocol"` // RTPROT_…
	Scope       uint8        `json:"scope"`    // RT_SCOPE_…, IPv4 only
	TOS         uint8        `json:"tos,omitempty"`
	Priority    uint32       `json:"priority,omitempty"` // the metric
	PrefSrc     netip.Addr   `json:"prefsrc,omitzero"`   // RTA_PREFSRC
	Preference  uint8        `json:"preference,omitempty"`
	// Metrics are the RTAX_… values by number, RTAX_LOCK among them.
	Metrics    map[uint16]uint32 `json:"metrics,omitempty"`
	Congestion string            `json:"congestion,omitempty"` // RTAX_CC_ALGO
	Expires    Instant           `json:"expires,omitempty"`
	Hops       []Hop             `json:"hops"`
}

// Hop is a next hop. A route has one, a multipath route several.
type Hop struct {
	Link       Role       `json:"link,omitempty"`
	OtherIndex int        `json:"otherIndex,omitempty"` // a link that is none of ours, in a multipath route
	Gateway    netip.Addr `json:"gateway,omitzero"`     // may be of the other family (RTA_VIA)
	OnLink     bool       `json:"onLink,omitempty"`     // RTNH_F_ONLINK
	Weight     int        `json:"weight,omitempty"`     // 1…256; 0 is 1
	Realm      uint32     `json:"realm,omitempty"`      // RTA_FLOW
}

// Is4 reports whether the route is one of IPv4, and else it is one of IPv6.
func (r Route) Is4() bool { return r.Destination.Addr().Is4() }

// isDefault reports whether the route leads everywhere.
func (r Route) isDefault() bool { return r.Destination.Bits() == 0 }

// usesOnly reports whether every next hop is on the link.
func (r Route) usesOnly(link Role) bool {
	return len(r.Hops) > 0 && !slices.ContainsFunc(r.Hops, func(h Hop) bool { return h.Link != link })
}

// uses reports whether a next hop is on the link.
func (r Route) uses(link Role) bool {
	return slices.ContainsFunc(r.Hops, func(h Hop) bool { return h.Link == link })
}

// Direct reports whether the route needs no gateway, so that it can be added before those that do.
func (r Route) Direct() bool {
	return !slices.ContainsFunc(r.Hops, func(h Hop) bool { return h.Gateway.IsValid() })
}

// Same compares everything; moments may differ by the slack that reading them has.
func (r Route) Same(o Route) bool {
	return r.Destination == o.Destination && r.Source == o.Source && r.Table == o.Table && r.Type == o.Type &&
		r.Protocol == o.Protocol && r.Scope == o.Scope && r.TOS == o.TOS && r.Priority == o.Priority &&
		r.PrefSrc == o.PrefSrc && r.Preference == o.Preference && r.Congestion == o.Congestion &&
		r.Expires.near(o.Expires) && maps.Equal(r.Metrics, o.Metrics) && slices.Equal(r.Hops, o.Hops)
}

// clone shares no memory with r.
func (r Route) clone() Route {
	r.Metrics = maps.Clone(r.Metrics)
	r.Hops = slices.Clone(r.Hops)
	return r
}

// String is the route in the words of ip-route(8).
func (r Route) String() string {
	var b strings.Builder
	if r.Type != unix.RTN_UNICAST {
		fmt.Fprintf(&b, "%s ", routeTypes[r.Type])
	}
	if r.isDefault() {
		b.WriteString("default")
	} else {
		b.WriteString(r.Destination.String())
	}
	if r.Source.IsValid() {
		fmt.Fprintf(&b, " from %s", r.Source)
	}
	for _, h := range r.Hops {
		if len(r.Hops) > 1 {
			b.WriteString(" nexthop")
		}
		if h.Gateway.IsValid() {
			fmt.Fprintf(&b, " via %s", h.Gateway)
		}
		if h.OnLink {
			b.WriteString(" onlink")
		}
	}
	if r.PrefSrc.IsValid() {
		fmt.Fprintf(&b, " src %s", r.PrefSrc)
	}
	if r.Priority != 0 {
		fmt.Fprintf(&b, " metric %d", r.Priority)
	}
	if r.Table != unix.RT_TABLE_MAIN {
		fmt.Fprintf(&b, " table %d", r.Table)
	}
	return b.String()
}

var routeTypes = map[uint8]string{
	unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast",
	unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw",
	unix.RTN_NAT: "nat",
}

// MTU is the route's own in bytes; 0 when it has none.
func (r Route) MTU() int { return int(r.Metrics[rtaxMTU]) }
