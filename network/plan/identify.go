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

// Metrics of a route (include/uapi/linux/rtnetlink.h): RTAX_MTU and RTAX_ADVMSS.
const (
	rtaxMTU    = 2
	rtaxAdvMSS = 8
)

// ServerMAC is the MAC that the DHCP server sends from: the bridge's, in either socket mode.
func ServerMAC(original *Snapshot) identity.MAC { return derivedMAC(original.Link(NIC).MAC, Bridge) }

// Identify says who the guest has to be, given what the pod's interface held and how it is wired, and warns of what the guest
// does not get. Hostname and resolver are for the serving process to fill in. It is a pure function.
func Identify(original *Snapshot, o Options) (identity.Identity, []string) {
	nic := original.Link(NIC)
	f := &identifier{from: original, id: identity.Identity{Interface: nic.Name, MAC: nic.MAC, MTU: tapMTU(nic.MTU)}}
	f.addresses()
	f.addresses6(o)
	if f.id.Layer2Only() {
		f.warn("%s has no IPv4 address: the guest gets layer 2 only, and no DHCP server", f.id.Interface)
	}
	f.link(nic)
	if f.id.V4.Served() {
		f.routes()
		f.id.V4.Neighbours = f.neighbours(netip.Addr.Is4)
		f.others(o)
	}
	if f.id.V6.Served() {
		f.id.V6.Neighbours = f.neighbours(netip.Addr.Is6)
		f.routes6()
		f.routers()
	}
	f.otherNeighbours()
	f.barriers()
	f.rules()
	return f.id, f.warnings
}

type identifier struct {
	from     *Snapshot
	id       identity.Identity
	warnings []string
}

// named is how many things of a kind a warning names.
const named = 8

// some joins the first of them and counts the rest.
func some(list []string) string {
	if len(list) <= named {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:named], ", "), len(list)-named)
}

func (f *identifier) link(nic *Link) {
	if f.id.MTU < nic.MTU {
		f.warn("%s has the MTU %d, and a tap carries %d at most: the guest is told %d", nic.Name, nic.MTU, f.id.MTU, f.id.MTU)
	}
	if !nic.Up {
		f.warn("%s was found down, and so without the routes that it may have when it is up: set it up before it is wired (ip link set %s up)", nic.Name, nic.Name)
	}
	if err := f.roomForDHCP(nic); err != nil {
		f.warn("%v", err)
	}
}

// minServedMTU is the size of a DHCP message that every client takes (RFC 2131, 2) and every host (RFC 1122, 3.3.2): what
// a server may count on. The smallest one that clients insist on is 328 bytes long, without any option to speak of.
const minServedMTU = 576

// roomForDHCP is an error where the link does not carry the messages of DHCP.
func (f *identifier) roomForDHCP(nic *Link) error {
	if !f.id.V4.Served() || nic.MTU >= minServedMTU {
		return nil
	}
	return fmt.Errorf("%s has the MTU %d, and DHCP requires at least %d: raise it in the pod network's configuration, or with `ip link set %s mtu %d`", nic.Name, nic.MTU, minServedMTU, nic.Name, minServedMTU)
}

func (f *identifier) warn(format string, args ...any) {
	f.warnings = append(f.warnings, fmt.Sprintf(format, args...))
}

// addresses picks the IPv4 address that the guest gets: the one that the pod itself sends from.
func (f *identifier) addresses() {
	primary, ok := f.from.source()
	if ok {
		own := identity.Address{Prefix: netip.PrefixFrom(primary.Local.Addr(), 32), Pod: primary.Local}
		if f.connected(primary.Local) {
			own.Prefix = primary.Local
		}
		f.id.V4.Addresses = []identity.Address{own}
	}
	for _, a := range f.from.AddressesOf(NIC) {
		if a.Is4() && a != primary {
			f.warn("%s is a further address of %s: DHCP hands out %s alone, which the pod sends from; configure it in the guest", a.Local, f.id.Interface, primary.Local.Addr())
		}
	}
}

// connected reports whether the pod reached its subnet directly. Pod networks of the ptp kind take the connected route
// away, since the neighbours do not answer ARP there: then the guest must not believe that they do.
func (f *identifier) connected(prefix netip.Prefix) bool {
	return prefix.Bits() < 32 && slices.ContainsFunc(f.from.Routes, func(r Route) bool {
		return r.usable() && r.Direct() && r.Destination == prefix.Masked()
	})
}

func (f *identifier) routes() {
	var usable []Route
	others := 0
	for _, r := range f.from.Routes {
		switch {
		case !r.Is4() || !r.uses(NIC):
		case r.usable():
			usable = append(usable, r)
		case r.TOS != 0 && r.Table == unix.RT_TABLE_MAIN && r.Type == unix.RTN_UNICAST:
			f.warn("the route %s is for one type of service, which DHCP cannot express", r)
		default:
			others++
		}
	}
	if others > 0 {
		f.warn("routes of other tables or types (%d) are not handed over: DHCP knows one table", others)
	}
	slices.SortStableFunc(usable, func(a, b Route) int { return cmp.Compare(a.Priority, b.Priority) })
	told := make(map[netip.Prefix]bool)
	var handed []Route
	split := f.defaultInHalves()
	for _, r := range usable {
		if told[r.Destination] {
			f.warn("the route %s is not handed over: another to the same destination has a lower metric", r)
			continue
		}
		if split && r.isDefault() {
			f.warn("the route %s is not handed over: %s and %s go before it", r, Halves[0], Halves[1])
			continue
		}
		if f.route(r, split && r.Destination.Bits() == 1) {
			told[r.Destination] = true
			handed = append(handed, r)
		}
	}
	for _, r := range handed { // when the guest's MTU is known
		if own := f.ownSettings(r); own != "" {
			f.warn("the route %s has settings of its own (%s), which DHCP cannot express", r, own)
		}
	}
	f.reachGateways()
	slices.SortStableFunc(f.id.V4.Routes, func(a, b identity.Route) int { return cmp.Compare(routeOrder(a), routeOrder(b)) })
}

// defaultInHalves reports whether the default route is two routes. The guest is told of one: only then has it a router.
func (f *identifier) defaultInHalves() bool { return len(f.from.defaultRoute()) == 2 }

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

// route hands a route over. A half of a default route counts as all of it.
func (f *identifier) route(r Route, half bool) bool {
	gateway := r.hop().Gateway
	if len(r.Hops) > 1 {
		f.warn("the route %s has several next hops: the guest is told the first", r)
	}
	if gateway.Is6() {
		f.warn("the route %s has an IPv6 gateway, which DHCP cannot express: the guest does not get it", r)
		return false
	}
	if r.PrefSrc.IsValid() && r.PrefSrc != f.id.V4.First().Prefix.Addr() {
		f.warn("the route %s has a source address of its own, which DHCP cannot express", r)
	}
	to := identity.Route{Destination: r.Destination, Gateway: gateway}
	if r.isDefault() || half {
		to.Destination = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		f.id.V4.Gateway = gateway
		if mtu := r.MTU(); mtu > 0 && mtu < f.id.MTU {
			f.id.MTU = mtu
		}
	}
	if f.id.V4.First().Prefix.Bits() < 32 && r.Direct() && r.Destination == f.id.V4.First().Prefix.Masked() {
		return true // follows from the mask
	}
	if !slices.Contains(f.id.V4.Routes, to) {
		f.id.V4.Routes = append(f.id.V4.Routes, to)
	}
	return true
}

// ownSettings are what decides how large the packets on a route may be, and is not what the guest is told: that is the
// MTU of the default route.
func (f *identifier) ownSettings(r Route) string {
	var own []string
	if mtu := r.MTU(); mtu > 0 && mtu < f.id.MTU {
		own = append(own, fmt.Sprintf("mtu %d", mtu))
	}
	if mss := r.Metrics[rtaxAdvMSS]; mss > 0 {
		own = append(own, fmt.Sprintf("advmss %d", mss))
	}
	return strings.Join(own, ", ")
}

// reachGateways adds a route to each gateway that the pod reached by decree (onlink) and not by a route.
func (f *identifier) reachGateways() {
	for _, r := range slices.Clone(f.id.V4.Routes) {
		if !r.Gateway.IsValid() || f.id.V4.First().Prefix.Bits() < 32 && f.id.V4.First().Prefix.Contains(r.Gateway) {
			continue
		}
		if !slices.ContainsFunc(f.id.V4.Routes, func(o identity.Route) bool {
			return !o.Gateway.IsValid() && o.Destination.Bits() > 0 && o.Destination.Contains(r.Gateway)
		}) {
			f.id.V4.Routes = append(f.id.V4.Routes, identity.Route{Destination: netip.PrefixFrom(r.Gateway, 32)})
		}
	}
}

// neighbours are the permanent ones of a family.
func (f *identifier) neighbours(family func(netip.Addr) bool) (all []identity.Neighbour) {
	for _, n := range f.from.Neighbours {
		if n.Link == NIC && family(n.Address) && !n.Proxy && !n.MAC.IsZero() {
			all = append(all, identity.Neighbour{Address: n.Address, MAC: n.MAC})
		}
	}
	// The kernel lists them in the order of a hash table.
	slices.SortFunc(all, func(a, b identity.Neighbour) int { return a.Address.Compare(b.Address) })
	return all
}

// others are the addresses by which the guest reaches containers that share its own. A guest that takes link-local addresses
// to be on the link asks for them. In UDP mode the pod's stack answers.
func (f *identifier) others(o Options) {
	if o.Binding == BindingShared && o.Socket != SocketUDP {
		for _, a := range []netip.Addr{identity.ServerLinkLocal, identity.Localhost4} {
			f.id.V4.Neighbours = append(f.id.V4.Neighbours, identity.Neighbour{Address: a, MAC: derivedMAC(f.id.MAC, Tap)})
		}
	}
}

// otherNeighbours warns of entries that nobody answers for on the guest's side.
func (f *identifier) otherNeighbours() {
	var proxied, v6 []string
	for _, n := range f.from.Neighbours {
		switch {
		case n.Link != NIC:
		case n.Proxy:
			proxied = append(proxied, n.Address.String())
		case n.Address.Is6() && !n.MAC.IsZero() && !f.id.V6.Served():
			v6 = append(v6, n.String())
		}
	}
	if len(proxied) > 0 {
		slices.Sort(proxied)
		f.warn("the pod answered for further addresses (proxy neighbours %s): the guest does not, unless it is configured to", some(proxied))
	}
	if len(v6) > 0 {
		slices.Sort(v6)
		f.warn("permanent IPv6 neighbours are not handed over (%s): configure in the guest what it needs of them", some(v6))
	}
}

func (f *identifier) rules() {
	custom, blocking := 0, 0
	for _, r := range f.from.Rules {
		if r.custom() {
			custom++
			blocking += int(boolByte(r.blocks()))
		}
	}
	if custom > 0 {
		f.warn("policy routing rules of the pod (%d) are not handed over: DHCP cannot express them", custom)
	}
	if blocking > 0 {
		f.warn("some of these rules (%d) block what they match: the guest is not held to them", blocking)
	}
}

// CheckMTU refuses a link that the guest could not be served on.
func CheckMTU(original *Snapshot) error {
	f := &identifier{from: original}
	f.addresses()
	if err := f.roomForDHCP(original.Link(NIC)); err != nil {
		return Refuse("%w", err)
	}
	return nil
}
