package dhcp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// ServerLinkLocal is the server identifier where there is no gateway to stand in for. The server answers ARP for it on the
// guest's side, so that renewals have somewhere to go.
const ServerLinkLocal = "169.254.75.10"

// Values of Offer.Socket.
const (
	SocketPacket = "packet"
	SocketUDP    = "udp"
)

// Offer is what the guest is told and how. It is made by NewOffer; its JSON is part of the command line's contract.
type Offer struct {
	// Address is the guest's, with the mask that it is told.
	Address netip.Prefix `json:"address"`
	// Routes are option 121 as it is sent.
	Routes []identity.Route `json:"routes,omitempty"`
	// Gateway is the router option.
	Gateway netip.Addr `json:"gateway,omitzero"`
	// MTU in bytes; 0 when unknown, and then it is not sent.
	MTU              int          `json:"mtu,omitempty"`
	ServerIdentifier netip.Addr   `json:"serverIdentifier"`
	DNS              []netip.Addr `json:"dns,omitempty"`
	Search           []string     `json:"search,omitempty"`
	Hostname         string       `json:"hostname,omitempty"`
	DomainName       string       `json:"domainName,omitempty"`
	NTP              []netip.Addr `json:"ntp,omitempty"`
	// LeaseSeconds is the lease time; 0 is an infinite lease.
	LeaseSeconds uint32 `json:"leaseSeconds,omitempty"`
	TFTPServer   string `json:"tftpServer,omitempty"`
	// BootFile is for clients that no entry of BootFiles fits. These are tried in order.
	BootFile  string     `json:"bootFile,omitempty"`
	BootFiles []BootFile `json:"bootFiles,omitempty"`
	// BootAddress is the address with the mask that boot firmware is told, where that is another one: with the gateway in it,
	// since firmware ignores option 121, or where that cannot be, with one that iPXE, and it alone, is told.
	BootAddress netip.Prefix `json:"bootAddress,omitzero"`
	Options     []Option     `json:"options,omitempty"`
	// ARP is what the server answers ARP for, never the guest's own address. Always empty with SocketUDP, where the kernel
	// answers for the bridge's addresses.
	ARP    []ARPAnswer `json:"arp,omitempty"`
	Socket string      `json:"socket"`
}

// MarshalJSON writes the fields. It is there so that encoding/json, which learns all types within one when it first meets that,
// learns those of an offer when there is an offer: most starts of the program read and write states that may have one, and do
// not.
func (o Offer) MarshalJSON() ([]byte, error) {
	type fields Offer
	return marshal(fields(o))
}

// marshal leaves it to the caller whether < and > are escaped.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// ARPAnswer is a set of addresses that ARP requests of the guest are answered for.
type ARPAnswer struct {
	Destination netip.Prefix `json:"destination"`
	// MAC is the answer; the zero MAC stands for the server's own.
	MAC identity.MAC `json:"mac,omitzero"`
	// Except are those that answer for themselves.
	Except []netip.Prefix `json:"except,omitempty"`
}

// NewOffer decides what the guest of this identity is told. It is pure: the same arguments give the same offer.
//
// A part of the identity that cannot be sent (a resolver that the guest cannot reach, a search domain that is not a name)
// is left out with a warning. Errors are an identity without an IPv4 address and options that contradict themselves.
func NewOffer(id identity.Identity, o Settings) (Offer, []string, error) {
	own := id.V4.First()
	if !id.V4.Served() {
		return Offer{}, nil, errors.New("the interface has no IPv4 address: there is nothing to serve")
	}
	if !own.Prefix.Addr().Is4() {
		return Offer{}, nil, fmt.Errorf("the guest's address %s is not IPv4", own.Prefix)
	}
	if err := o.Check(); err != nil {
		return Offer{}, nil, err
	}
	b := builder{id: id, own: own, options: o, offer: Offer{
		Address:      own.Prefix,
		LeaseSeconds: uint32(o.LeaseTime / time.Second),
		TFTPServer:   o.TFTPServer,
		Socket:       SocketPacket,
	}}
	if o.UDP {
		b.offer.Socket = SocketUDP
	}
	b.server()
	b.mask()
	b.routes()
	b.boot()
	b.arp()
	b.mtu()
	b.resolver()
	b.names()
	b.extra()
	return b.offer, b.warnings, nil
}

// builder makes an offer part by part.
type builder struct {
	id       identity.Identity
	own      identity.Address // the guest's
	options  Settings
	offer    Offer
	warnings []string
}

func (b *builder) warn(format string, a ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, a...))
}

// server picks the server identifier. The gateway is the best one: the guest knows how to reach it whatever it makes of
// option 121, so a renewal is sent to the gateway's MAC and passes the tap, where a packet socket sees it. A UDP socket
// would not: there the address must be one of the bridge's.
func (b *builder) server() {
	if b.id.V4.Gateway.Is4() {
		b.offer.Gateway = b.id.V4.Gateway
	}
	if b.offer.Gateway.IsValid() && !b.options.UDP {
		b.offer.ServerIdentifier = b.offer.Gateway
		return
	}
	b.offer.ServerIdentifier = netip.MustParseAddr(ServerLinkLocal)
	if b.options.UDP && b.options.Server.IsValid() {
		b.offer.ServerIdentifier = b.options.Server
	}
}

func (b *builder) mask() {
	if b.options.SubnetMask != MaskPod || !b.own.Pod.IsValid() {
		return
	}
	if b.own.Pod.Bits() == b.own.Prefix.Bits() {
		if b.own.Pod.IsSingleIP() {
			b.warn("subnet mask %q: the pod's own address is %s, so a client that ignores option 121 cannot use it either",
				MaskPod, b.own.Pod)
		}
		return
	}
	b.offer.Address = netip.PrefixFrom(b.own.Prefix.Addr(), b.own.Pod.Bits())
}

// routes makes option 121. It repeats the default route even where the router option says the same, since a client that
// takes option 121 must ignore the router option (RFC 3442).
func (b *builder) routes() {
	var onLink, via, defaults []identity.Route
	for _, r := range b.id.V4.Routes {
		switch {
		case !r.Destination.Addr().Is4() || r.Gateway.IsValid() && !r.Gateway.Is4():
			b.warn("route to %s by %s is not handed out: it is not IPv4", r.Destination, r.Gateway)
		case b.implied(r):
		case r.Destination.Bits() == 0:
			defaults = append(defaults, r)
		case !r.Gateway.IsValid():
			onLink = append(onLink, r)
		default:
			via = append(via, r)
		}
	}
	server := identity.Route{Destination: host(b.offer.ServerIdentifier)}
	if b.offer.ServerIdentifier != b.offer.Gateway && !slices.Contains(onLink, server) {
		onLink = append([]identity.Route{server}, onLink...)
	}
	if len(defaults) == 0 && b.offer.Gateway.IsValid() {
		defaults = []identity.Route{{Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: b.offer.Gateway}}
	}
	b.offer.Routes = slices.Concat(onLink, via, defaults)
}

// implied reports whether the mask that the guest is told already says what a route says, which only happens with MaskPod.
func (b *builder) implied(r identity.Route) bool {
	return b.offer.Address.Masked() != b.own.Prefix.Masked() && byMask(b.offer.Address, b.id.V4.Gateway, r)
}

// byMask reports whether a mask that is larger than what answers ARP says what a route says: then the whole subnet is on
// the link, and its way by the gateway is taken by ARP.
func byMask(mask netip.Prefix, gateway netip.Addr, r identity.Route) bool {
	return r.Destination.Bits() >= mask.Bits() && mask.Contains(r.Destination.Addr()) && (!r.Gateway.IsValid() || r.Gateway == gateway)
}

// boot decides what firmware is told. It ignores option 121 and takes what is outside of its mask to the gateway, which it
// must therefore reach by the mask: iPXE sends everything to everybody under a /32.
func (b *builder) boot() {
	files := sortBootFiles(b.options.BootFiles)
	if last := len(files) - 1; last >= 0 && files[last].specificity() == 0 {
		b.offer.BootFile, files = files[last].File, files[:last]
	}
	if len(files) > 0 {
		b.offer.BootFiles = files
	}
	gateway := b.offer.Gateway
	switch {
	case !gateway.IsValid() || b.offer.Address.Contains(gateway):
	case b.own.Pod.Contains(gateway):
		b.offer.BootAddress = netip.PrefixFrom(b.own.Prefix.Addr(), b.own.Pod.Bits())
	default:
		b.offer.BootAddress = maskBeside(b.own.Prefix.Addr(), gateway)
		if len(b.options.BootFiles) > 0 {
			b.warn("boot file: the gateway %s is outside of the pod's subnet: iPXE and UEFI reach it all the same, other firmware may not", gateway)
		}
	}
}

// maskBeside is the narrowest mask under which iPXE takes a gateway outside of it for a station: it sends to everybody what
// goes to a next hop whose bits outside of the mask are all ones (ipv4_tx in net/ipv4.c), as under a /32 all are. The
// address must not look like that of a network or of a broadcast either.
func maskBeside(address, gateway netip.Addr) netip.Prefix {
	for bits := 30; bits > 0; bits-- {
		host := ^uint32(0) >> bits
		if own := number(address) & host; own != 0 && own != host && number(gateway)&host != host {
			return netip.PrefixFrom(address, bits)
		}
	}
	return netip.Prefix{}
}

// forBoot is the offer as firmware gets it.
func (o Offer) forBoot() Offer {
	if o.BootAddress.IsValid() {
		o.Address = o.BootAddress
		o.Routes = slices.DeleteFunc(slices.Clone(o.Routes), func(r identity.Route) bool { return byMask(o.Address, o.Gateway, r) })
	}
	return o
}

// bootFile is the file for a client; empty is none.
func (o Offer) bootFile(c bootClient) string {
	if i := slices.IndexFunc(o.BootFiles, c.wants); i >= 0 {
		return o.BootFiles[i].File
	}
	return o.BootFile
}

// arp lists what must be answered for: the server where no machine has its address, the neighbours that were permanent
// entries because nobody answers for them, and every address of a subnet that the guest, or its firmware, is told to be on
// the link without being it. What is on the link answers for itself; the wiring's filter lets just that through (keepARP
// in package network).
func (b *builder) arp() {
	if b.options.UDP {
		for _, n := range b.id.V4.Neighbours {
			b.warn("ARP for the neighbour %s cannot be answered through a UDP socket", n.Address)
		}
		if b.offer.Address != b.own.Prefix {
			b.warn("ARP for %s cannot be answered through a UDP socket", b.offer.Address.Masked())
		} else if len(b.options.BootFiles) > 0 && b.offer.BootAddress.Contains(b.offer.Gateway) {
			b.warn("boot file: through a UDP socket firmware reaches nothing of %s but its gateway", b.offer.BootAddress.Masked())
		}
		return
	}
	gatewayMAC := b.options.GatewayMAC
	if b.offer.ServerIdentifier != b.offer.Gateway {
		b.offer.ARP = append(b.offer.ARP, ARPAnswer{Destination: host(b.offer.ServerIdentifier)})
	}
	for _, n := range b.id.V4.Neighbours {
		if !n.Address.Is4() || n.Address == b.offer.Address.Addr() || n.MAC.IsZero() {
			continue
		}
		if n.Address == b.id.V4.Gateway && gatewayMAC.IsZero() {
			gatewayMAC = n.MAC
		}
		b.offer.ARP = append(b.offer.ARP, ARPAnswer{Destination: host(n.Address), MAC: n.MAC})
	}
	subnet := b.offer.BootAddress.Masked()
	if b.offer.Address != b.own.Prefix {
		subnet = b.offer.Address.Masked()
	}
	switch {
	case !subnet.IsValid():
	case !gatewayMAC.IsZero():
		answer := ARPAnswer{Destination: subnet, MAC: gatewayMAC}
		for _, r := range b.id.V4.Routes {
			if !r.Gateway.IsValid() && r.Destination.Bits() > subnet.Bits() && subnet.Contains(r.Destination.Addr()) {
				answer.Except = append(answer.Except, r.Destination)
			}
		}
		b.offer.ARP = append(b.offer.ARP, answer)
	case b.offer.Address != b.own.Prefix:
		b.warn("subnet mask %q: the gateway's MAC is not known, so ARP for %s is not answered", MaskPod, subnet)
	case len(b.options.BootFiles) > 0 && subnet.Contains(b.offer.Gateway):
		b.warn("boot file: the gateway's MAC is not known, so firmware reaches nothing of %s but the gateway", subnet)
	}
}

// mtu never promises more than the pod's interface carries.
func (b *builder) mtu() {
	b.offer.MTU = b.id.MTU
	switch {
	case b.options.MTU == 0:
	case b.id.MTU != 0 && b.options.MTU > b.id.MTU:
		b.warn("mtu %d is more than the pod's interface carries: %d is handed out", b.options.MTU, b.id.MTU)
	default:
		b.offer.MTU = b.options.MTU
	}
}

func (b *builder) resolver() {
	servers := b.id.Resolver.Servers
	if len(b.options.DNS) > 0 {
		servers = b.options.DNS
	}
	b.offer.DNS = b.usable("resolver", servers)
	b.offer.NTP = b.usable("ntp server", b.options.NTP)

	search, warnings := cleanSearch(b.id.Resolver, b.options)
	b.offer.Search, b.warnings = search, append(b.warnings, warnings...)
}

// cleanSearch is the search list as it is sent, whatever the family.
func cleanSearch(r identity.Resolver, o Settings) (search, warnings []string) {
	domains := r.Search
	if len(o.Search) > 0 {
		domains = o.Search
	}
	for _, domain := range domains {
		name, err := v4.CleanName(domain)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("search domain %.80q is not handed out: %v", domain, err))
			continue
		}
		if !slices.Contains(search, name) {
			search = append(search, name)
		}
	}
	return search, warnings
}

// usable keeps the addresses that the guest can reach and that an option of IPv4 addresses can hold.
func (b *builder) usable(what string, addrs []netip.Addr) []netip.Addr {
	var kept []netip.Addr
	for _, addr := range addrs {
		addr = addr.Unmap()
		switch {
		case addr.IsLoopback():
			b.warn("%s %s is not handed out: it is the pod's loopback, which the guest cannot reach", what, addr)
		case addr.Is6() && b.id.V6.Served():
		case addr.Is6():
			b.warn("%s %s is not handed out: only IPv4 is served", what, addr)
		case addr.IsUnspecified() || addr.IsMulticast() || addr == link.LimitedBroadcast():
			b.warn("%s %s is not handed out: it is not the address of a host", what, addr)
		case !slices.Contains(kept, addr):
			kept = append(kept, addr)
		}
	}
	return kept
}

func (b *builder) names() {
	var warnings []string
	b.offer.Hostname, b.offer.DomainName, warnings = cleanNames(b.id.Hostname, b.offer.Search, b.options)
	b.warnings = append(b.warnings, warnings...)
}

// cleanNames are the host name and the domain name as they are sent, whatever the family. Without one given, the first
// search domain is the domain name: that is what resolv.conf(5) means by the "domain" keyword, and all that a client learns
// that does not know option 119.
func cleanNames(pod string, search []string, o Settings) (hostname, domain string, warnings []string) {
	if o.Hostname != "" {
		pod = o.Hostname
	}
	if pod != "" {
		name, err := v4.CleanName(pod)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("hostname %.80q is not handed out: %v", pod, err))
		}
		hostname = name
	}
	switch {
	case o.DomainName != "":
		name, err := v4.CleanName(o.DomainName)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("domain name %.80q is not handed out: %v", o.DomainName, err))
		}
		domain = name
	case len(search) > 0:
		domain = search[0]
	}
	return hostname, domain, warnings
}

// extra keeps the last option of each code, so that what is said last (a flag after the configuration file) counts.
func (b *builder) extra() {
	for _, o := range b.options.Extra {
		if i := slices.IndexFunc(b.offer.Options, func(p Option) bool { return p.Code == o.Code }); i >= 0 {
			b.warn("option %d is given more than once: the last one counts", o.Code)
			b.offer.Options = slices.Delete(b.offer.Options, i, i+1)
		}
		b.offer.Options = append(b.offer.Options, o)
	}
}

// host is the prefix of one address.
func host(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

func number(addr netip.Addr) uint32 {
	b := addr.As4()
	return binary.BigEndian.Uint32(b[:])
}

// service is what a socket of a server for a client is opened for.
func (o Offer) service(client identity.MAC) link.Service {
	s := link.Service{Client: client, Address: o.Address.Addr(), Server: o.ServerIdentifier, Finite: o.LeaseSeconds != 0}
	for _, a := range o.ARP {
		s.Answers = append(s.Answers, link.ARPSet{Destination: a.Destination, Except: a.Except})
	}
	return s
}
