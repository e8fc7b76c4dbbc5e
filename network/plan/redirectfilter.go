package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// Chains of a redirect. What a link receives is seen by a chain of the family netdev before the pod's own stack sees it,
// and what it sends after that. A frame is forwarded to the other link, or dropped; a few are left to the stack.
const (
	chainFromNetwork   = "from-network"    // what the pod's link receives
	chainFromGuest     = "from-guest"      // what the tap receives
	chainIPv4ToGuest   = "ipv4-to-guest"   // of from-network: IPv4, in an outermost VLAN tag or in none
	chainTagsToGuest   = "tags-to-guest"   // of from-network: two VLAN tags or more
	chainIPv6ToGuest   = "ipv6-to-guest"   // of from-network: IPv6, likewise
	chainDHCPToGuest   = "dhcp-to-guest"   // of ipv4-to-guest
	chainIPv4FromGuest = "ipv4-from-guest" // of from-guest
	chainIPv6FromGuest = "ipv6-from-guest" // of from-guest, where IPv6 is served
	chainTagsFromGuest = "tags-from-guest" // of from-guest
	chainToNetwork     = "to-network"      // what the pod's link sends, whoever made it
	chainPodARP        = "pod-arp"         // what the pod's stack sends
	chainPodIP         = "pod-ip"
)

// RedirectFamily is where the filter of a redirect is, between whatever links.
var RedirectFamily = redirectFamily("", "")

// redirectFamily is where that between two links is. The chain of the family inet comes before connection tracking
// (NF_IP_PRI_RAW): what goes nowhere is not a connection.
func redirectFamily(nic, tap string) *FilterFamily {
	return &FilterFamily{Number: unix.NFPROTO_NETDEV, prefix: "netdev ", Chains: append([]FilterChain{
		{Name: chainFromNetwork, Hook: hook(unix.NF_NETDEV_INGRESS), Device: nic, Drop: true},
		{Name: chainIPv4ToGuest},
		{Name: chainDHCPToGuest},
		{Name: chainIPv6ToGuest},
		{Name: chainTagsToGuest},
		{Name: chainFromGuest, Hook: hook(unix.NF_NETDEV_INGRESS), Device: tap, Drop: true},
		{Name: chainIPv4FromGuest},
		{Name: chainIPv6FromGuest},
		{Name: chainCarried},
		{Name: chainTagsFromGuest},
		{Name: chainPortsToGuest[ProtocolTCP]}, {Name: chainPortsToGuest[ProtocolUDP]}, {Name: chainICMPToGuest}, {Name: chainPartsToGuest},
		{Name: chainToPod}, {Name: chainToBoth},
		{Name: chainPortsFromGuest[ProtocolTCP]}, {Name: chainPortsFromGuest[ProtocolUDP]}, {Name: chainFromPodsPort},
		{Name: chainToContainers}, {Name: chainToContainers6}, {Name: chainContainersHear}, {Name: chainContainersHear6},
		{Name: chainToLocalhost}, {Name: chainLocalhostHears},
		{Name: chainFromContainers, Hook: hook(unix.NF_NETDEV_INGRESS), Device: loopback},
		{Name: chainFromLocalhost}, {Name: chainContainersSay}, {Name: chainContainersSay6}, {Name: chainToTap},
		{Name: chainToNetwork, Hook: hook(unix.NF_NETDEV_EGRESS), Device: nic, Drop: true},
		{Name: chainFromPod[ProtocolTCP]}, {Name: chainFromPod[ProtocolUDP]},
		{Name: chainPodIP, Hook: hook(unix.NF_INET_LOCAL_OUT), Priority: -300, Family: unix.NFPROTO_INET},
		{Name: chainPodSays[ProtocolTCP], Family: unix.NFPROTO_INET}, {Name: chainPodSays[ProtocolUDP], Family: unix.NFPROTO_INET},
		{Name: chainPodARP, Hook: hook(arpOut), Family: unix.NFPROTO_ARP},
	}, guardChains...)}
}

// arpOut is NF_ARP_OUT (include/uapi/linux/netfilter_arp.h).
const arpOut = 1

// RedirectFacts are what the filter of a redirect keeps of its wiring, as its comment.
type RedirectFacts struct {
	// Shared says that the pod's containers keep ports.
	Shared bool
	// Mark is what the guest's frames have on their way from the tap to the pod's link, so that they are told from what the
	// pod's own stack sends. 0: the kernel has no hook that sees what a link sends (before 5.16), and only what the pod's IP
	// stack makes is kept in, not what its packet sockets send.
	Mark uint32
	// AllMulticast says that the pod's link had the flag.
	AllMulticast bool
	// LRO says that the pod's link merged what it received.
	LRO bool
	// Guard says that there is a spoof guard, where that is not among the filter's rules, since tc has it.
	Guard bool
}

// How the comment begins.
const (
	redirectComment = "podnic redirect"
	sharedComment   = "podnic shared"
)

func (f RedirectFacts) String() string {
	facts := []string{redirectComment}
	if f.Shared {
		facts[0] = sharedComment
	}
	if f.Mark != 0 {
		facts = append(facts, fmt.Sprintf("mark %#x", f.Mark))
	}
	if f.AllMulticast {
		facts = append(facts, "allmulticast on")
	}
	if f.LRO {
		facts = append(facts, "lro on")
	}
	if f.Guard {
		facts = append(facts, "spoof guard")
	}
	return strings.Join(facts, ", ")
}

// RedirectFactsOf are those that a filter keeps that was read, which may be nil.
func RedirectFactsOf(f *Filter) (facts RedirectFacts, found bool) {
	if f == nil {
		return facts, false
	}
	return redirectFactsOf(f.Comment)
}

func redirectFactsOf(text string) (facts RedirectFacts, found bool) {
	facts.Shared = strings.HasPrefix(text, sharedComment)
	if !facts.Shared && !strings.HasPrefix(text, redirectComment) {
		return facts, false
	}
	for fact := range strings.SplitSeq(text, ", ") {
		switch words := strings.Fields(fact); {
		case len(words) == 2 && words[0] == "mark":
			fmt.Sscanf(words[1], "%v", &facts.Mark) //nolint:errcheck // one that is none is 0, and the text differs
		case fact == "allmulticast on":
			facts.AllMulticast = true
		case fact == "lro on":
			facts.LRO = true
		case fact == "spoof guard":
			facts.Guard = true
		}
	}
	return facts, true
}

// HeardRouters reports whether the pod's link has addresses or routes that router advertisements made. They expire unless
// the pod's stack hears further ones, and nobody asks for these as long as the link stays up.
func (s *Snapshot) HeardRouters() bool {
	return slices.ContainsFunc(s.AddressesOf(NIC), func(a Address) bool {
		return !a.Is4() && (a.Protocol == protocolOfRA || a.ValidUntil != 0) // older kernels do not tell the protocol
	}) || slices.ContainsFunc(s.Routes, func(r Route) bool {
		return !r.Is4() && r.Protocol == unix.RTPROT_RA && r.uses(NIC)
	})
}

// protocolOfRA is IFAPROT_KERNEL_RA (include/uapi/linux/if_addr.h).
const protocolOfRA = 2

// RedirectFilter forwards frames between the pod's link and the tap, both of which exist when it is put in place. As the
// bridge's filter does, it keeps the guest's DHCP with the server, and the pod's own stack out of the guest's reach and
// off the pod network. Where the guest has no address, nobody serves it, and everything crosses.
//
// What the pod needs to keep its addresses goes on. Its own DHCP clients reach the pod network; replies to them reach the
// pod, those of DHCPv6 the guest too. Router advertisements reach the pod where it has had some.
func RedirectFilter(original *Snapshot, o Options, facts RedirectFacts) *Filter {
	id, _ := Identify(original, o)
	f := &redirectFilter{
		Filter: &Filter{Table: FilterTable(o.Interface), Family: redirectFamily(o.Interface, o.Tap), Comment: facts.String()},
		nic:    o.Interface, tap: o.Tap, facts: facts,
		server: netip.PrefixFrom(identity.ServerLinkLocal, 32),
	}
	f.listens = id.V4.Served() && o.Socket == SocketUDP
	if facts.Shared {
		f.door = doorOf(original, o)
		f.door.open(f)
	}
	f.carries = id.V6.Served() && o.Socket == SocketUDP
	f.toGuest(id, o.IPv6For(original), original.HeardRouters())
	if o.Guarded() {
		f.guard(chainFromGuest, nil, original)
	}
	f.fromGuest(id, o.IPv6For(original), o.Socket, original.Blocked())
	f.keepPod(id)
	return f.done()
}

// redirectFilter is one in the making.
type redirectFilter struct {
	*Filter
	nic, tap string
	facts    RedirectFacts
	server   netip.Prefix
	listens  bool // the server, on the tap, with a socket of the pod's stack
	carries  bool // that of IPv6 does
	door     *door
}

// toGuest forwards what the pod's link receives.
func (f *redirectFilter) toGuest(id identity.Identity, ipv6 string, heardRouters bool) {
	served := !id.Layer2Only()
	pass := func(chain, comment string, match ...[]expr.Any) {
		f.rule(chain, comment, match, &Forward{To: f.tap})
	}
	both := func(chain, comment string, match ...[]expr.Any) {
		f.rule(chain, comment, match, &Forward{To: f.tap, Copy: true}, &expr.Verdict{Kind: expr.VerdictAccept})
	}
	if served {
		f.look(chainFromNetwork, chainIPv4ToGuest, chainTagsToGuest)
		f.door.arpToBoth()
		f.door.segmentsToPod(chainIPv4ToGuest)
		f.goTo(chainIPv4ToGuest, chainDHCPToGuest, "DHCP", isDHCP())
		f.accept(chainDHCPToGuest, "the pod's own DHCP client hears replies, and the guest does not", is16(transportPort, 68))
		f.drop(chainDHCPToGuest, "DHCP stays between guest and server")
		f.door.toPod4()
		pass(chainIPv4ToGuest, "IPv4 with a sound header", soundIPv4())
		f.drop(chainIPv4ToGuest, "IPv4 that hides what it holds")
		f.keepTagged(chainTagsToGuest)
	}
	f.keepOff(ipv6, served, chainFromNetwork, chainTagsToGuest)
	if id.V6.Served() {
		f.keepTagged6(chainTagsToGuest)
	}
	if served || ipv6 == IPv6Off {
		pass(chainTagsToGuest, "two VLAN tags without DHCP")
	}
	switch {
	case id.V6.Served():
		f.look6(chainFromNetwork, chainIPv6ToGuest)
		if f.carries {
			f.hearAnswers(chainIPv6ToGuest, id, nil)
		}
		f.door.toPod6()
		f.keepIPv6(chainIPv6ToGuest, func(comment string, match ...[]expr.Any) { pass(chainIPv6ToGuest, comment, match...) },
			func() { f.keepForPod6(heardRouters) }, func() {})
	case ipv6 == IPv6Off:
		f.goTo(chainFromNetwork, chainIPv6ToGuest, "IPv6", protocol(unix.ETH_P_IPV6))
		f.keepForPod6(heardRouters)
		f.door.podAlone6()
		f.drop(chainIPv6ToGuest, ipv6IsOff)
	case served || heardRouters:
		f.goTo(chainFromNetwork, chainIPv6ToGuest, "IPv6", protocol(unix.ETH_P_IPV6))
		if heardRouters {
			both(chainIPv6ToGuest, "routers' advertisements are for the pod too",
				l4(unix.IPPROTO_ICMPV6), is8(icmpType, routerAdvertisement))
		}
		both(chainIPv6ToGuest, "the pod's own DHCPv6 client hears replies too", isUDP(), is16(transportPort, 546))
		f.door.toPod6()
		pass(chainIPv6ToGuest, "all other IPv6")
	}
	pass(chainFromNetwork, "the pod network reaches the guest")
}

// keepForPod6 leaves to the pod what its own upkeep takes, and keeps it from the guest.
func (f *redirectFilter) keepForPod6(heardRouters bool) {
	if heardRouters {
		f.accept(chainIPv6ToGuest, "routers' advertisements are for the pod", l4(unix.IPPROTO_ICMPV6), is8(icmpType, routerAdvertisement))
	}
	f.accept(chainIPv6ToGuest, "the pod's own DHCPv6 client hears replies, and the guest does not", isUDP(), is16(transportPort, 546))
}

// keepOff lets no IPv6 cross in VLAN tags or behind a SNAP header, where it is off.
func (f *redirectFilter) keepOff(ipv6 string, served bool, from, tags string) {
	if ipv6 != IPv6Off {
		return
	}
	if !served {
		f.lookTagged(from, tags)
	}
	f.dropHidden6(from, tags)
}

// fromGuest forwards what the tap receives.
func (f *redirectFilter) fromGuest(id identity.Identity, ipv6, socket string, blocked []Blocked) {
	served := !id.Layer2Only()
	pass := f.passToNetwork
	f.door.guestToContainers()
	if served {
		f.keepBarriers(blocked, chainFromGuest, chainTagsFromGuest, nil)
		f.look(chainFromGuest, chainIPv4FromGuest, chainTagsFromGuest)
		if f.listens {
			f.accept(chainIPv4FromGuest, "the guest asks the server", isUDP(), is16(transportPort, 67), isFirstFragment4())
			f.accept(chainFromGuest, "the guest looks for the server", protocol(unix.ETH_P_ARP), arpTarget(f.server))
			f.drop(chainIPv4FromGuest, "what else is for the server stays in the pod", is(networkHeader(16), f.server.Addr().AsSlice()))
		}
		f.door.segmentsFromGuest(chainIPv4FromGuest)
		f.drop(chainIPv4FromGuest, "DHCP stays between guest and server", isDHCP())
		f.door.datagramsFromGuest(chainIPv4FromGuest)
		pass(chainIPv4FromGuest, "IPv4 with a sound header", soundIPv4())
		f.drop(chainIPv4FromGuest, "IPv4 that hides what it holds")
		f.door.tagsFromGuest()
		f.keepTagged(chainTagsFromGuest)
	}
	switch {
	case id.V6.Served():
		f.look6(chainFromGuest, chainIPv6FromGuest)
		f.door.fromGuest6()
		f.keepIPv6(chainIPv6FromGuest, func(comment string, match ...[]expr.Any) { pass(chainIPv6FromGuest, comment, match...) },
			func() {
				if socket == SocketUDP {
					f.carryFromGuest(id)
				}
			}, func() { f.keepFromGuest6(id, chainIPv6FromGuest, nil) })
		f.keepTagged6(chainTagsFromGuest)
		f.keepTaggedFromGuest6(chainTagsFromGuest, nil)
	case ipv6 == IPv6Off:
		f.keepOff(ipv6, served, chainFromGuest, chainTagsFromGuest)
		f.drop(chainFromGuest, ipv6IsOff, protocol(unix.ETH_P_IPV6))
	case f.door != nil:
		f.goTo(chainFromGuest, chainIPv6FromGuest, "IPv6", protocol(unix.ETH_P_IPV6))
		f.door.fromGuest6()
		pass(chainIPv6FromGuest, "all other IPv6")
	}
	if served || ipv6 == IPv6Off {
		pass(chainTagsFromGuest, "two VLAN tags without DHCP")
	}
	if id.V4.Served() {
		f.keepARP(id, chainFromGuest, nil, socket, f.server, func(comment string, match []expr.Any) {
			pass(chainFromGuest, comment, match)
		})
	}
	pass(chainFromGuest, "the guest reaches the pod network")
}

// passToNetwork forwards what comes from the guest.
func (f *redirectFilter) passToNetwork(chain, comment string, match ...[]expr.Any) {
	var then []expr.Any
	if f.facts.Mark != 0 {
		then = setMark(f.facts.Mark)
	}
	f.rule(chain, comment, match, append(then, &Forward{To: f.nic})...)
}

// keepPod keeps in what the pod's own stack would send by either link. A process of the pod shall fail at once and not
// after a time-out: what is dropped is an error for its sender, unless it is TCP.
func (f *redirectFilter) keepPod(id identity.Identity) {
	served := !id.Layer2Only()
	if f.facts.Mark != 0 {
		// The mark is not for those who see the frame after this: that of a macvlan goes on through the node's own link.
		f.rule(chainToNetwork, "the guest's frames", [][]expr.Any{marked(f.facts.Mark)},
			append(setMark(0), &expr.Verdict{Kind: expr.VerdictAccept})...)
		if f.carries {
			f.accept(chainToNetwork, "the server asks for a gateway", asks(id))
		}
		f.keepSilent(served)
	} else {
		f.drop(chainPodARP, "nothing leaves the pod's own stack", through(expr.MetaKeyOIFNAME, f.nic))
	}
	f.keepIP(id)
}

const failsAtOnce = "connections of the pod fail at once"

// The pod's own DHCP clients, which go on.
var (
	podDHCP  = slices.Concat(isUDP(), is16(sourcePort, 68), is16(transportPort, 67))
	podDHCP6 = slices.Concat(isUDP(), is16(sourcePort, 546), is16(transportPort, 547))
)

// keepSilent ends the chain of what the pod's link sends, with what the guest has not.
func (f *redirectFilter) keepSilent(served bool) {
	if served {
		f.accept(chainToNetwork, "the pod's own DHCP client renews", protocol(unix.ETH_P_IP), podDHCP)
		f.accept(chainToNetwork, "the pod's own DHCPv6 client renews", protocol(unix.ETH_P_IPV6), podDHCP6)
	}
	f.door.podToNetwork()
	f.drop(chainToNetwork, "nothing else leaves the pod's own stack")
}

// keepIP keeps in what the pod's IP stack would send.
func (f *redirectFilter) keepIP(id identity.Identity) {
	served := !id.Layer2Only()
	byNIC, byTap := through(expr.MetaKeyOIFNAME, f.nic), through(expr.MetaKeyOIFNAME, f.tap)
	if served {
		f.accept(chainPodIP, "the pod's own DHCP client renews", byNIC, podDHCP)
		f.accept(chainPodIP, "the pod's own DHCPv6 client renews", byNIC, podDHCP6)
	}
	if f.listens {
		f.accept(chainPodIP, "the server answers the guest", byTap, isUDP(), is16(sourcePort, 67))
	}
	if f.carries {
		f.carryToGuest(byTap)
		f.ask(chainPodIP, id, byNIC)
	}
	f.door.podSays(byNIC)
	f.rule(chainPodIP, failsAtOnce, [][]expr.Any{byNIC, l4(unix.IPPROTO_TCP)},
		&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	f.drop(chainPodIP, "nothing else leaves the pod's own stack", byNIC)
	f.drop(chainPodIP, "nothing leaves the pod's own stack by the tap", byTap)
}
