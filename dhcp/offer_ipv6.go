package dhcp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/dhcp/internal/nd"
	"github.com/podnic/podnic/network/identity"
)

// Offer6 is what the guest is told of IPv6 and how: by router advertisements and by DHCPv6. It is made by NewOffer6; its JSON
// is part of the command line's contract.
type Offer6 struct {
	// Addresses are the guest's, the first one preferred and the others deprecated, so that the guest sends from the pod's
	// first. DHCPv6 hands them out without the prefix length; what is on the link the router says.
	Addresses []netip.Prefix `json:"addresses"`
	// Router is the first one's address.
	Router netip.Addr `json:"router,omitzero"`
	// Routes are what the routers advertise: without a gateway, what is on the link, the default route last.
	Routes []identity.Route `json:"routes,omitempty"`
	// MTU in bytes; 0 when unknown, and then it is not sent.
	MTU    int          `json:"mtu,omitempty"`
	DNS    []netip.Addr `json:"dns,omitempty"`
	Search []string     `json:"search,omitempty"`
	// Hostname is the guest's with its domain.
	Hostname string       `json:"hostname,omitempty"`
	NTP      []netip.Addr `json:"ntp,omitempty"`
	// LeaseSeconds is the valid lifetime of the addresses; 0 is an infinite one.
	LeaseSeconds uint32 `json:"leaseSeconds,omitempty"`
	// BootFile is a URL for clients that no entry of BootFiles fits.
	BootFile  string     `json:"bootFile,omitempty"`
	BootFiles []BootFile `json:"bootFiles,omitempty"`
	// Routers advertise, the main one first. Of Neighbours the server answers neighbour solicitations, as it does for its own
	// address and for routers that nobody answers for.
	Routers    []identity.Router    `json:"routers"`
	Neighbours []identity.Neighbour `json:"neighbours,omitempty"`
	// Server is the address of the DHCPv6 server.
	Server netip.Addr `json:"server"`
	Socket string     `json:"socket"`
}

// MarshalJSON is that of Offer, for the same reason.
func (o Offer6) MarshalJSON() ([]byte, error) {
	type fields Offer6
	return marshal(fields(o))
}

// NewOffer6 decides what the guest of this identity is told of IPv6. It is pure, as NewOffer is, and errors and warnings are
// as there. What is wrong with names and options that IPv4 has too it does not repeat where IPv4 is served.
func NewOffer6(id identity.Identity, o Settings) (Offer6, []string, error) {
	if !id.V6.Served() {
		return Offer6{}, nil, errors.New("the interface has no IPv6 address to hand out")
	}
	if err := o.Check(); err != nil {
		return Offer6{}, nil, err
	}
	b := builder6{id: id, options: o, offer: Offer6{
		LeaseSeconds: uint32(o.LeaseTime / time.Second),
		Server:       identity.ServerLinkLocal6,
		Socket:       SocketPacket,
	}}
	if o.UDP {
		b.offer.Socket = SocketUDP
	}
	for _, a := range id.V6.Addresses {
		b.offer.Addresses = append(b.offer.Addresses, a.Prefix)
	}
	b.routers()
	b.routes()
	b.neighbours()
	b.mtu()
	b.resolver()
	b.boot()
	return b.offer, b.warnings, nil
}

// builder6 makes an offer part by part.
type builder6 struct {
	id       identity.Identity
	options  Settings
	offer    Offer6
	warnings []string
}

func (b *builder6) warn(format string, a ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, a...))
}

// routers finds out who advertises: each next hop of the pod, that of the default route first. A pod without any still
// has its server advertise, since without that no guest asks for an address.
func (b *builder6) routers() {
	var gateways []netip.Addr
	for _, gateway := range append([]netip.Addr{b.id.V6.Gateway}, gatewaysOf(b.id.V6.Routes)...) {
		if gateway.IsValid() && !slices.Contains(gateways, gateway) {
			gateways = append(gateways, gateway)
		}
	}
	for _, gateway := range gateways {
		r := b.router(gateway)
		if !slices.ContainsFunc(b.offer.Routers, func(o identity.Router) bool { return o.Address == r.Address }) {
			b.offer.Routers = append(b.offer.Routers, r)
		}
	}
	if len(b.offer.Routers) == 0 {
		b.offer.Routers = []identity.Router{{Address: b.offer.Server}}
		return
	}
	b.offer.Router = b.offer.Routers[0].Address
	for _, r := range b.offer.Routers {
		if r.Answered {
			b.warn("the router %s has no link-local address that answers: podnic answers for it, and the guest's IPv6 ends when podnic does", r.Gateway)
		}
	}
}

func gatewaysOf(routes []identity.Route) []netip.Addr {
	var all []netip.Addr
	for _, r := range routes {
		all = append(all, r.Gateway)
	}
	return all
}

// router is what is known of a next hop. Of one that nobody has looked for, a link-local address is its own.
func (b *builder6) router(gateway netip.Addr) identity.Router {
	for _, r := range b.id.Routers {
		if r.Gateway == gateway {
			return r
		}
	}
	r := identity.Router{Gateway: gateway, Address: gateway.WithZone("")}
	if i := slices.IndexFunc(b.id.V6.Neighbours, func(n identity.Neighbour) bool { return n.Address == gateway }); i >= 0 {
		r.MAC, r.Answered = b.id.V6.Neighbours[i].MAC, true
	}
	if !gateway.IsLinkLocalUnicast() {
		r.Address, r.Answered = identity.VirtualRouter, true
	}
	return r
}

// routes turns next hops into their link-local addresses. What is on the link is what the pod found there, but for routes to
// a router, which the guest reaches by its link-local address.
func (b *builder6) routes() {
	var onLink, via, defaults []identity.Route
	add := func(list *[]identity.Route, r identity.Route) {
		if !slices.Contains(*list, r) {
			*list = append(*list, r)
		}
	}
	gateways := append(gatewaysOf(b.id.V6.Routes), b.id.V6.Gateway)
	for _, r := range b.id.V6.Routes {
		to := r.Destination.Masked()
		switch {
		case !to.Addr().Is6():
			b.warn("route to %s by %s is not handed out: it is not IPv6", r.Destination, r.Gateway)
		case to.Addr().IsLinkLocalUnicast() || to.Addr().IsMulticast():
		case !r.Gateway.IsValid() && to.IsSingleIP() && slices.Contains(gateways, to.Addr()):
		case !r.Gateway.IsValid():
			add(&onLink, identity.Route{Destination: to})
		case to.Bits() == 0:
			add(&defaults, identity.Route{Destination: to, Gateway: b.router(r.Gateway).Address})
		default:
			add(&via, identity.Route{Destination: to, Gateway: b.router(r.Gateway).Address})
		}
	}
	if len(defaults) == 0 && b.id.V6.Gateway.IsValid() {
		defaults = []identity.Route{{Destination: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Gateway: b.offer.Router}}
	}
	b.offer.Routes = slices.Concat(onLink, via, defaults)
}

// neighbours are those that were permanent entries because nobody answers for them. A router among them that somebody does
// answer for is not.
func (b *builder6) neighbours() {
	for _, n := range b.id.V6.Neighbours {
		switch {
		case !n.Address.Is6() || n.MAC.IsZero() || b.own(n.Address):
		case slices.ContainsFunc(b.id.Routers, func(r identity.Router) bool { return r.Address == n.Address && !r.Answered }):
		default:
			b.offer.Neighbours = append(b.offer.Neighbours, n)
		}
	}
}

func (b *builder6) own(addr netip.Addr) bool {
	return slices.ContainsFunc(b.offer.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// mtu never promises more than the pod's interface carries.
func (b *builder6) mtu() {
	b.offer.MTU = b.id.MTU
	if b.options.MTU != 0 && (b.id.MTU == 0 || b.options.MTU < b.id.MTU) {
		b.offer.MTU = b.options.MTU
	}
	if b.offer.MTU != 0 && b.offer.MTU < nd.MinMTU {
		b.warn("the MTU %d is not handed out by IPv6, which requires at least %d: raise it in the pod network's configuration, or leave IPv6 to the guest with --ipv6 off",
			b.offer.MTU, nd.MinMTU)
		b.offer.MTU = 0
	}
}

func (b *builder6) resolver() {
	servers := b.id.Resolver.Servers
	if len(b.options.DNS) > 0 {
		servers = b.options.DNS
	}
	b.offer.DNS = b.usable("resolver", servers)
	b.offer.NTP = b.usable("ntp server", b.options.NTP)

	search, warnings := cleanSearch(b.id.Resolver, b.options)
	hostname, domain, more := cleanNames(b.id.Hostname, search, b.options)
	if !b.id.V4.Served() {
		b.warnings = slices.Concat(b.warnings, warnings, more)
	}
	b.offer.Search = search
	if b.offer.Hostname = hostname; hostname != "" && domain != "" && len(hostname)+1+len(domain) <= maxHostname {
		b.offer.Hostname += "." + domain
	}
}

// maxHostname is that of a name in the DNS, in characters (RFC 1035 §2.3.4).
const maxHostname = 253

// usable keeps the addresses that the guest can reach by IPv6. Those of IPv4 it has by DHCPv4, where there is that.
func (b *builder6) usable(what string, addrs []netip.Addr) []netip.Addr {
	var kept []netip.Addr
	for _, addr := range addrs {
		addr = addr.Unmap().WithZone("")
		switch {
		case addr.Is4() && b.id.V4.Served():
		case addr.Is4():
			b.warn("%s %s is not handed out: only IPv6 is served", what, addr)
		case addr.IsLoopback():
			b.warn("%s %s is not handed out: it is the pod's loopback, which the guest cannot reach", what, addr)
		case addr.IsUnspecified() || addr.IsMulticast():
			b.warn("%s %s is not handed out: it is not the address of a host", what, addr)
		case !slices.Contains(kept, addr):
			kept = append(kept, addr)
		}
	}
	return kept
}

// boot makes URLs of the boot files (RFC 5970 §3.1): a path is one on the TFTP server, if that can be reached by IPv6.
func (b *builder6) boot() {
	server := b.options.TFTPServer
	if addr, err := netip.ParseAddr(server); err == nil {
		if server = ""; addr.Is6() {
			server = "[" + addr.String() + "]"
		}
	}
	for _, f := range sortBootFiles(b.options.BootFiles) {
		if !strings.Contains(f.File, "://") {
			if server == "" {
				b.warn("boot file %q is not handed out by IPv6: it is not a URL, and no TFTP server with IPv6 is named", f.File)
				continue
			}
			f.File = "tftp://" + server + "/" + strings.TrimPrefix(f.File, "/")
		}
		if f.specificity() == 0 {
			b.offer.BootFile = f.File
		} else {
			b.offer.BootFiles = append(b.offer.BootFiles, f)
		}
	}
}

// bootFile is the file for a client; empty is none.
func (o Offer6) bootFile(c bootClient) string {
	if i := slices.IndexFunc(o.BootFiles, c.wants); i >= 0 {
		return o.BootFiles[i].File
	}
	return o.BootFile
}

// guest is the guest's addresses.
func (o Offer6) guest() []netip.Addr {
	all := make([]netip.Addr, len(o.Addresses))
	for i, p := range o.Addresses {
		all[i] = p.Addr()
	}
	return all
}

// answers are the addresses whose neighbour solicitations are answered, and what is said of them. server is the MAC of the
// server.
func (o Offer6) answers(server identity.MAC) []nd.Neighbor {
	all := []nd.Neighbor{{Target: o.Server, MAC: server}}
	add := func(n nd.Neighbor) {
		if !n.MAC.IsZero() && !slices.ContainsFunc(all, func(h nd.Neighbor) bool { return h.Target == n.Target }) {
			all = append(all, n)
		}
	}
	for _, r := range o.Routers {
		if r.Answered {
			add(nd.Neighbor{Target: r.Address, MAC: r.MAC, Router: true})
		}
	}
	for _, n := range o.Neighbours {
		router := slices.ContainsFunc(o.Routers, func(r identity.Router) bool { return r.Address == n.Address || r.Gateway == n.Address })
		add(nd.Neighbor{Target: n.Address, MAC: n.MAC, Router: router})
	}
	return all
}

// advertisements are what each router tells of.
func (o Offer6) advertisements(server identity.MAC) []nd.Router {
	all := make([]nd.Router, len(o.Routers))
	for i, r := range o.Routers {
		a := nd.Router{Source: r.Address, MTU: o.MTU, Lifetime: routerLifetime}
		if identity.IsVirtualRouter(r.Address) {
			a.MAC = r.MAC
		}
		if i == 0 {
			a.DNS, a.Search = o.DNS, o.Search
		}
		for _, route := range o.Routes {
			switch {
			case !route.Gateway.IsValid() && i == 0:
				a.OnLink = append(a.OnLink, route.Destination)
			case route.Gateway == r.Address:
				a.Routes = append(a.Routes, route.Destination)
				a.Default = a.Default || route.Destination.Bits() == 0
			}
		}
		all[i] = a
	}
	return all
}

// routerLifetime in seconds is the longest that there is. The route to everything that is advertised besides does not end.
const routerLifetime = 65535

// service is what a socket of a server for a client is opened for.
func (o Offer6) service(client, server identity.MAC) link.Service {
	s := link.Service{Client: client, Server: o.Server, Finite: o.LeaseSeconds != 0, Addresses6: o.guest()}
	for _, a := range o.answers(server) {
		s.Answers6 = append(s.Answers6, a.Target)
	}
	for _, r := range o.Routers {
		if !slices.Contains(s.Answers6, r.Address) {
			s.Routers6 = append(s.Routers6, r.Address)
		}
	}
	return s
}
