package plan

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// ipv6Header is the length of IPv6's header. Its next header is at 6 (RFC 8200, 3).
const ipv6Header = 40

// extensionHeaders are those that the kernel looks behind for the transport protocol (ipv6_ext_hdr,
// net/ipv6/exthdrs_core.c), as ranges: hop-by-hop options, routing and fragment, authentication, destination options.
var extensionHeaders = [][2]byte{
	{unix.IPPROTO_HOPOPTS, unix.IPPROTO_HOPOPTS}, {unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT},
	{unix.IPPROTO_AH, unix.IPPROTO_AH}, {unix.IPPROTO_DSTOPTS, unix.IPPROTO_DSTOPTS},
}

// look6 leads IPv6 from a chain to the one that looks into it.
func (f *Filter) look6(from, ipv6 string) {
	f.goTo(from, ipv6, "IPv6", protocol(unix.ETH_P_IPV6))
	f.drop(from, "IPv6 behind a SNAP header", protocol(unix.ETH_P_802_2), snap(unix.ETH_P_IPV6))
}

const ipv6IsOff = "IPv6 is off"

// dropHidden6 lets no IPv6 cross in two VLAN tags or behind a SNAP header.
func (f *Filter) dropHidden6(from, tags string) {
	f.drop(from, ipv6IsOff, protocol(unix.ETH_P_802_2), snap(unix.ETH_P_IPV6))
	f.drop(tags, ipv6IsOff, is16(networkHeader(vlanHeader-2), unix.ETH_P_IPV6))
}

// keepIPv6 keeps router discovery and DHCPv6 between guest and server, in both directions: a guest that hears a router of the
// pod network makes an address of its own and never asks for the pod's, and the pod network must not hear a router that is a
// guest. The guest redirects nobody. What it asks for addresses that the server answers for stays on its side.
//
// The kernel finds the transport protocol behind extension headers, and tells it of every fragment; ports and types are in the
// first fragment, and there unless the header is in the next one, which nobody sends (RFC 7112, 5). In further fragments
// nftables takes for them what IPv6's header begins with, ports in the flow label (ipv6_find_hdr leaves their place at 0). So
// these pass before anything looks, and so does what shows that it is something else; the rest is dropped.
//
// pass is how the chain lets something through. hears are the rules for what the pod's stack hears, guests those for what
// comes from the guest, where the chain sees that.
func (f *Filter) keepIPv6(chain string, pass func(comment string, match ...[]expr.Any), hears, guests func()) {
	pass("neither UDP nor ICMPv6", isNotL4(unix.IPPROTO_UDP), isNotL4(unix.IPPROTO_ICMPV6))
	pass("a further fragment", isFurtherFragment())
	hears()
	f.drop(chain, "DHCPv6 stays between guest and server", isUDP(), toDHCPv6(transportPort))
	pass("other UDP", isUDP(), isNotDHCPv6(transportPort))
	f.drop(chain, "router discovery stays between guest and server", l4(unix.IPPROTO_ICMPV6), ofRouters(icmpType))
	guests()
	pass("other ICMPv6", l4(unix.IPPROTO_ICMPV6), notOfRouters(icmpType))
	f.drop(chain, "IPv6 that hides what it holds")
}

// keepFromGuest6 keeps the guest's redirects, and what it asks for addresses that the server answers for. from matches what
// comes from the guest, where the chain sees more than that.
func (f *Filter) keepFromGuest6(id identity.Identity, chain string, from []expr.Any) {
	f.drop(chain, "the guest redirects nobody", from, l4(unix.IPPROTO_ICMPV6), is8(icmpType, redirectMessage))
	for _, target := range answered6(id) {
		f.drop(chain, "the server answers for this neighbour", from, l4(unix.IPPROTO_ICMPV6), is8(icmpType, neighbourSolicitation), is128(solicited, target))
	}
}

// answered6 are the addresses that the server answers neighbour solicitations for: its own, routers that nobody answers for,
// and neighbours that the pod had as permanent entries.
func answered6(id identity.Identity) []netip.Addr {
	all := []netip.Addr{identity.ServerLinkLocal6}
	for _, r := range id.Routers {
		if r.Answered && !r.MAC.IsZero() {
			all = append(all, r.Address)
		}
	}
	for _, n := range id.V6.Neighbours {
		all = append(all, n.Address)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// keepTagged6 is keepIPv6 for packets in two VLAN tags, where the kernel finds no transport header.
func (f *Filter) keepTagged6(tags string) {
	ip := is16(networkHeader(vlanHeader-2), unix.ETH_P_IPV6)
	next, transport := networkHeader(vlanHeader+6), uint32(vlanHeader+ipv6Header)
	for _, kinds := range extensionHeaders {
		f.drop(tags, "IPv6 with extension headers in two VLAN tags", ip, within8(next, kinds[0], kinds[1]))
	}
	f.drop(tags, "DHCPv6 in two VLAN tags", ip, is8(next, unix.IPPROTO_UDP), toDHCPv6(networkHeader(transport+2)))
	f.drop(tags, "router discovery in two VLAN tags", ip, is8(next, unix.IPPROTO_ICMPV6), ofRouters(networkHeader(transport)))
}

// keepTaggedFromGuest6 keeps redirects in two VLAN tags.
func (f *Filter) keepTaggedFromGuest6(tags string, from []expr.Any) {
	f.drop(tags, "the guest redirects nobody, in two VLAN tags either", from, is16(networkHeader(vlanHeader-2), unix.ETH_P_IPV6),
		is8(networkHeader(vlanHeader+6), unix.IPPROTO_ICMPV6), is8(networkHeader(vlanHeader+ipv6Header), redirectMessage))
}

// solicited is where a neighbour solicitation has its target (RFC 4861, 4.3).
var solicited = place{expr.PayloadBaseTransportHeader, 8}

// isNotL4 matches what has a transport protocol that the kernel has found, and not this one.
func isNotL4(protocol byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{protocol}}}
}

func is128(p place, ip netip.Addr) []expr.Any { return []expr.Any{load(p, 16), equal(ip.AsSlice())} }

func within8(p place, from, to byte) []expr.Any {
	if from == to {
		return is8(p, from)
	}
	return []expr.Any{load(p, 1), &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{from}, ToData: []byte{to}}}
}

func ofRouters(p place) []expr.Any {
	return within8(p, routerSolicitation, routerAdvertisement)
}

func notOfRouters(p place) []expr.Any {
	return []expr.Any{load(p, 1), &expr.Range{
		Op: expr.CmpOpNeq, Register: 1, FromData: []byte{routerSolicitation}, ToData: []byte{routerAdvertisement},
	}}
}

// toDHCPv6 and isNotDHCPv6 match the ports of DHCPv6's client and server (RFC 8415, 7.2), which are neighbours.
func toDHCPv6(p place) []expr.Any {
	return []expr.Any{load(p, 2), &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: network16(546), ToData: network16(547)}}
}

func isNotDHCPv6(p place) []expr.Any {
	return []expr.Any{load(p, 2), &expr.Range{Op: expr.CmpOpNeq, Register: 1, FromData: network16(546), ToData: network16(547)}}
}

// isFurtherFragment matches a fragment header whose offset, the upper 13 bits at 2 (RFC 8200, 4.5), is not 0.
func isFurtherFragment() []expr.Any {
	return []expr.Any{
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: network16(0xfff8), Xor: network16(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: network16(0)},
	}
}
