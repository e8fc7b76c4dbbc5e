package plan

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// The spoof guard keeps the guest from being somebody else to the pod network. What it sends has the pod's MAC and one of
// the pod's addresses, in ARP and in neighbour discovery too, and it is not a router.
//
// What it lets through: 0.0.0.0 where an ARP probe and DHCP have it (RFC 5227, RFC 2131), the unspecified address of IPv6,
// and all link-local addresses of IPv6 but those of the pod's gateways and permanent neighbours, since nobody knows which
// one the guest makes itself. Where the pod has no address at all, the MAC is all that is looked at.
const (
	chainGuard       = "guard"        // of what comes from the guest; what it does not drop returns
	chainGuardIPv4   = "guard-ipv4"   // of guard, and so are the others
	chainGuardARP    = "guard-arp"    //
	chainGuardIPv6   = "guard-ipv6"   //
	chainGuardClaim  = "guard-claim"  // of guard-ipv6: neighbour advertisements
	chainGuardSource = "guard-source" // of guard-ipv6: the source address
)

// guardChains are in every family of filters that has guests.
var guardChains = []FilterChain{
	{Name: chainGuard}, {Name: chainGuardIPv4}, {Name: chainGuardARP},
	{Name: chainGuardIPv6}, {Name: chainGuardClaim}, {Name: chainGuardSource},
}

// isGuard reports whether a rule's text is of the guard.
func isGuard(rule string) bool { return strings.HasPrefix(rule, chainGuard) }

// IsGuardChain reports whether a chain is of the guard, which counts what it drops.
func IsGuardChain(name string) bool {
	return slices.ContainsFunc(guardChains, func(c FilterChain) bool { return c.Name == name })
}

// guarded is true where the filter, which may be nil, has a guard, for the options of a wiring without a record.
func guarded(f *Filter) *bool {
	if !f.Guards() {
		return nil
	}
	return new(true)
}

// Guards reports whether the guard is among the filter's rules, which count what it drops. f may be nil.
func (f *Filter) Guards() bool { return f != nil && slices.ContainsFunc(f.Rules, isGuard) }

// Lies is how many frames the spoof guard had dropped when the snapshot was read; false: there is none that counts. By tc
// it is what the tap's qdisc counts, which is modulo 2^32 (struct gnet_stats_queue).
func (s *Snapshot) Lies(o Options) (uint64, bool) {
	if q := s.Qdisc(Tap); o.TC && o.Guarded() && q != nil {
		return q.Dropped, true
	}
	if s.Filter.Guards() {
		return s.Filter.Lies, true
	}
	return 0, false
}

// guard has a chain look at what comes from the guest, which from matches where the chain sees more than that. It must come
// before the rules that let frames through.
func (f *Filter) guard(chain string, from []expr.Any, original *Snapshot) {
	mac := original.Link(NIC).MAC
	var own4, own6 []netip.Addr
	for _, a := range original.AddressesOf(NIC) {
		if address := a.Local.Addr(); address.Is4() {
			own4 = append(own4, address)
		} else if !address.IsLinkLocalUnicast() {
			own6 = append(own6, address)
		}
	}
	f.rule(chain, "the guest is nobody else", [][]expr.Any{from}, &expr.Verdict{Kind: expr.VerdictJump, Chain: chainGuard})
	f.drop(chainGuard, "another MAC", isNot(linkHeader(6), mac[:]))
	if len(own4)+len(own6) > 0 {
		f.goTo(chainGuard, chainGuardIPv4, "IPv4", protocol(unix.ETH_P_IP))
		f.goTo(chainGuard, chainGuardIPv6, "IPv6", protocol(unix.ETH_P_IPV6))
	}
	f.goTo(chainGuard, chainGuardARP, "ARP", protocol(unix.ETH_P_ARP))
	// Nobody can look for all of this behind two tags, and IP stacks take it from there (ADR 20).
	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		f.drop(chainGuard, "two VLAN tags hide whose it is", protocol(tag))
	}
	for _, etherType := range []uint16{unix.ETH_P_IP, unix.ETH_P_ARP, unix.ETH_P_IPV6} {
		f.drop(chainGuard, "a SNAP header hides whose it is", protocol(unix.ETH_P_802_2), snap(etherType))
	}
	f.guardARP(mac, own4, len(own4)+len(own6) > 0)
	if len(own4)+len(own6) == 0 {
		return
	}
	for _, a := range own4 {
		f.pass(chainGuardIPv4, "the pod's", is(networkHeader(12), a.AsSlice()))
	}
	none := is(networkHeader(12), make([]byte, 4))
	f.pass(chainGuardIPv4, "a client without an address asks", none, isUDP(), is16(transportPort, 67))
	f.drop(chainGuardIPv4, "another's address")
	f.guardIPv6(own6, original)
}

// guardARP looks at ARP for IPv4 over Ethernet (RFC 826) and drops any other kind.
func (f *Filter) guardARP(mac identity.MAC, own []netip.Addr, addressed bool) {
	f.drop(chainGuardARP, "ARP of another kind", isNot(networkHeader(0), []byte{0, 1, 8, 0, 6, 4}))
	f.drop(chainGuardARP, "another MAC", isNot(networkHeader(8), mac[:]))
	if !addressed {
		return
	}
	for _, a := range own {
		f.pass(chainGuardARP, "the pod's", arpSender(netip.PrefixFrom(a, 32)))
	}
	f.pass(chainGuardARP, "a probe", arpSender(netip.PrefixFrom(netip.IPv4Unspecified(), 32)), arpRequest())
	f.drop(chainGuardARP, "another's address")
}

// icmpv6Target is where messages of neighbour discovery have the address that they are about (RFC 4861, 4.4).
var icmpv6Target = place{expr.PayloadBaseTransportHeader, 8}

func (f *Filter) guardIPv6(own []netip.Addr, original *Snapshot) {
	message := func(kind byte) []expr.Any { return slices.Concat(l4(unix.IPPROTO_ICMPV6), is8(icmpType, kind)) }
	f.goTo(chainGuardIPv6, chainGuardClaim, "who claims an address", message(neighbourAdvertisement))
	f.drop(chainGuardIPv6, "the guest is no router", message(routerAdvertisement))
	f.drop(chainGuardIPv6, "the guest is no router", message(redirectMessage))
	f.drop(chainGuardIPv6, "the guest is no DHCPv6 server", isUDP(), is16(transportPort, 546))
	f.goTo(chainGuardIPv6, chainGuardSource, "the source")
	others := original.linkLocalOthers()
	for _, way := range []struct {
		chain string
		at    place
		then  func(chain, comment string, match []expr.Any)
	}{
		{chainGuardClaim, icmpv6Target, func(chain, comment string, match []expr.Any) {
			f.goTo(chain, chainGuardSource, comment, match)
		}},
		{chainGuardSource, networkHeader(8), func(chain, comment string, match []expr.Any) { f.pass(chain, comment, match) }},
	} {
		for _, a := range others {
			f.drop(way.chain, "a neighbour's of the pod", is(way.at, a.AsSlice()))
		}
		for _, a := range own {
			way.then(way.chain, "the pod's", is(way.at, a.AsSlice()))
		}
		way.then(way.chain, "link-local", isIn(way.at, netip.MustParsePrefix("fe80::/10")))
		if way.chain == chainGuardSource {
			way.then(way.chain, "none yet", is(way.at, make([]byte, 16)))
		}
		f.drop(way.chain, "another's address")
	}
}

// linkLocalOthers are link-local addresses of IPv6 that the pod knows to be somebody else's: its gateways, and its
// permanent neighbours.
func (s *Snapshot) linkLocalOthers() (others []netip.Addr) {
	add := func(a netip.Addr) {
		if a.Is6() && a.IsLinkLocalUnicast() && !slices.Contains(others, a) {
			others = append(others, a)
		}
	}
	for _, r := range s.Routes {
		for _, h := range r.Hops {
			if h.Link == NIC {
				add(h.Gateway)
			}
		}
	}
	for _, n := range s.Neighbours {
		if n.Link == NIC {
			add(n.Address)
		}
	}
	slices.SortFunc(others, netip.Addr.Compare)
	return others
}

// pass ends a chain that was jumped to: what matches goes on behind the jump.
func (f *Filter) pass(chain, comment string, matches ...[]expr.Any) {
	f.rule(chain, comment, matches, &expr.Verdict{Kind: expr.VerdictReturn})
}
