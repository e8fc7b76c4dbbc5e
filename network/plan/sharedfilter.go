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

// Where the pod's containers share the guest's address, the filter is that of a redirect with doors in it. Ports tell what
// is whose: those that the pod keeps, and those that its connections come from. What has none (answers to ARP and neighbour
// discovery, ICMP's errors, later fragments) is for both.
//
// Guest and containers have the same address, so that neither can reach the other by it. They do by one that nobody has,
// [identity.ServerLinkLocal] or [identity.Other6]: what a container sends there arrives on lo, and what the guest sends on
// the tap, and either is handed to the other as from that address. No state is kept, and no connection is tracked.
var (
	chainPortsToGuest   = ofPorts("%s-to-guest")   // of what the pod's link receives
	chainPortsFromGuest = ofPorts("%s-from-guest") // of what the tap receives
	chainFromPod        = ofPorts("%s-from-pod")   // of to-network
	chainPodSays        = ofPorts("pod-%s")        // of pod-ip
)

const (
	chainICMPToGuest  = "icmp-to-guest"
	chainPartsToGuest = "parts-to-guest" // fragments other than the first
	chainToPod        = "to-pod"         // what goes through the door, unless it is in a VLAN
	chainToBoth       = "to-both"
	chainFromPodsPort = "from-pods-port" // what the guest sends by ports that are not its own

	chainToContainers    = "to-containers" // what the guest sends to the other address
	chainToContainers6   = "to-containers6"
	chainContainersHear  = "containers-hear"
	chainContainersHear6 = "containers-hear6"
	chainToLocalhost     = "to-localhost" // what the guest answers to 127.0.0.1
	chainLocalhostHears  = "localhost-hears"

	chainFromContainers = "from-containers" // what arrives on lo
	chainFromLocalhost  = "from-localhost"
	chainContainersSay  = "containers-say"
	chainContainersSay6 = "containers-say6"
	chainToTap          = "to-tap"
)

const loopback = "lo"

func ofPorts(format string) map[string]string {
	return map[string]string{ProtocolTCP: fmt.Sprintf(format, ProtocolTCP), ProtocolUDP: fmt.Sprintf(format, ProtocolUDP)}
}

var protocolNumbers = map[string]byte{ProtocolTCP: unix.IPPROTO_TCP, ProtocolUDP: unix.IPPROTO_UDP}

// What the filter's comments say, by which ports are found again where the record is lost.
const (
	keptComment     = "the pod keeps "
	sourcesComment  = "the pod's connections come from "
	localhostNotice = "127.0.0.1 is the guest by "
)

// sharedPorts are the ports that a filter tells of.
func sharedPorts(f *Filter) (kept, guest Ports, sources PortRange) {
	if f == nil {
		return nil, nil, sources
	}
	for _, rule := range f.Rules {
		i := strings.LastIndex(rule, " # ")
		comment := rule[max(i, 0):]
		comment = strings.TrimPrefix(comment, " # ")
		if text, is := strings.CutPrefix(comment, keptComment); is {
			r, err := ParsePortRange(text)
			if err == nil {
				kept = append(kept, r)
			}
		}
		if text, is := strings.CutPrefix(comment, localhostNotice); is {
			r, err := ParsePortRange(text)
			if err == nil {
				guest = append(guest, r)
			}
		}
		if text, is := strings.CutPrefix(comment, sourcesComment); is {
			if r, err := ParsePortRange(text); err == nil {
				sources = r
			}
		}
	}
	return kept.normal(), guest.normal(), sources
}

// Messages of ICMP (RFC 792) and ICMPv6 (RFC 4443, RFC 2710) that are for whoever they concern, which nobody can tell: the
// errors, redirects and echo replies, and of ICMPv6 queries of multicast listeners and neighbour advertisements.
var (
	icmpForBoth  = [][2]byte{{0, 0}, {3, 5}, {11, 12}}
	icmp6ForBoth = [][2]byte{{1, 4}, {129, 130}, {neighbourAdvertisement, neighbourAdvertisement}}
	// What the pod's own stack says: echo requests and errors, and of ICMPv6 what finds and answers neighbours.
	icmpOfPod  = [][2]byte{{3, 3}, {8, 8}, {11, 12}}
	icmp6OfPod = [][2]byte{{1, 4}, {128, 128}, {neighbourSolicitation, neighbourAdvertisement}}
	// What guest and containers say to each other.
	icmpBetween  = [][2]byte{{0, 0}, {3, 3}, {8, 8}, {11, 12}}
	icmp6Between = [][2]byte{{1, 4}, {128, 129}}
)

// door is what of the pod's address is the containers'. A nil one is closed.
type door struct {
	*redirectFilter
	keep, guest Ports
	sources     PortRange
	own4, own6  netip.Addr   // the guest's, by which containers reach it; the zero Addr where there is none
	all4        []netip.Addr // the pod's
	mac, tapMAC identity.MAC
}

func doorOf(original *Snapshot, o Options) *door {
	d := &door{keep: o.PodPorts, guest: o.GuestPorts, sources: o.Sources}
	d.mac = original.Link(NIC).MAC
	d.tapMAC = derivedMAC(d.mac, Tap)
	d.own4, d.own6 = original.shared(o)
	for _, a := range original.AddressesOf(NIC) {
		if a.Is4() {
			d.all4 = append(d.all4, a.Local.Addr())
		}
	}
	return d
}

// shared are the addresses that containers reach the guest by.
func (s *Snapshot) shared(o Options) (own4, own6 netip.Addr) {
	if a, ok := s.source(); ok {
		own4 = a.Local.Addr()
	}
	if of := s.global(); len(of) > 0 && o.IPv6For(s) != IPv6Off && s.Link(NIC).AddrGenMode != "" {
		own6 = of[0].Local.Addr()
	}
	return own4, own6
}

// open writes the chains that others lead to.
func (d *door) open(f *redirectFilter) {
	d.redirectFilter = f
	for _, protocol := range portProtocols {
		chain := chainPortsToGuest[protocol]
		for _, r := range d.keep.of(protocol) {
			d.goTo(chain, chainToPod, keptComment+r.with(protocol), ports(transportPort, r))
		}
		d.goTo(chain, chainToPod, sourcesComment+d.sources.String(), ports(transportPort, d.sources))
		d.rule(chain, "the guest's", [][]expr.Any{ports(transportPort, anyPort)}, &Forward{To: d.tap})

		chain = chainPortsFromGuest[protocol]
		for _, r := range d.podsPorts(protocol) {
			d.goTo(chain, chainFromPodsPort, "these are the pod's", ports(sourcePort, r))
		}
		d.passToNetwork(chain, "the guest's own", ports(sourcePort, anyPort))

		chain = chainFromPod[protocol]
		for _, r := range d.podsPorts(protocol) {
			d.accept(chain, "the pod's own", ports(sourcePort, r))
		}
		d.drop(chain, "these are the guest's")

		chain = chainPodSays[protocol]
		for _, r := range d.podsPorts(protocol) {
			d.accept(chain, "the pod's own", ports(sourcePort, r))
		}
		if protocol == ProtocolTCP {
			d.rule(chain, failsAtOnce, [][]expr.Any{l4(unix.IPPROTO_TCP)}, &expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
		}
		d.drop(chain, "these are the guest's")
	}
	d.matchTypes(icmpForBoth, func(match []expr.Any) {
		d.goTo(chainICMPToGuest, chainToBoth, "whom it concerns, nobody can tell", match)
	})
	d.rule(chainICMPToGuest, "the guest answers", nil, &Forward{To: d.tap})
	for _, number := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} {
		d.goTo(chainPartsToGuest, chainToBoth, "whose it is, the first part says", l4(number))
	}
	d.rule(chainPartsToGuest, "the guest's", nil, &Forward{To: d.tap})

	d.accept(chainToPod, "IPv4", untagged(unix.ETH_P_IP))
	d.accept(chainToPod, "IPv6", untagged(unix.ETH_P_IPV6))
	d.accept(chainToPod, "a tag of no VLAN", noVLAN())
	d.rule(chainToPod, "another network's", nil, &Forward{To: d.tap})
	d.rule(chainToBoth, "pod and guest", nil, &Forward{To: d.tap, Copy: true}, &expr.Verdict{Kind: expr.VerdictAccept})
	const notTheGuests = "the guest has not these ports"
	d.drop(chainFromPodsPort, notTheGuests, untagged(unix.ETH_P_IP))
	d.drop(chainFromPodsPort, notTheGuests, untagged(unix.ETH_P_IPV6))
	d.drop(chainFromPodsPort, notTheGuests, noVLAN())
	d.passToNetwork(chainFromPodsPort, "another network's")
	d.between()
}

// with is the range with a protocol.
func (r PortRange) with(protocol string) string {
	r.Protocol = protocol
	return r.String()
}

// podsPorts are those that the pod sends from.
func (d *door) podsPorts(protocol string) []PortRange {
	return append(d.keep.of(protocol), d.sources)
}

func (d *door) matchTypes(types [][2]byte, then func(match []expr.Any)) {
	for _, t := range types {
		then(within8(icmpType, t[0], t[1]))
	}
}

// arpToBoth has both learn of neighbours, and either answer for an address of the pod: a guest that is not there yet must not
// keep the containers from being found. For others that it has, the pod's stack would answer too (arp_ignore). A sender that
// probes for an address (RFC 5227) may be the guest itself, whose frames the pod network sends back.
func (d *door) arpToBoth() {
	if d == nil {
		return
	}
	d.goTo(chainFromNetwork, chainToBoth, "both hear ARP's replies", protocol(unix.ETH_P_ARP), is16(networkHeader(6), 2))
	for _, a := range d.all4 {
		d.goTo(chainFromNetwork, chainToBoth, "either answers", protocol(unix.ETH_P_ARP),
			arpTarget(netip.PrefixFrom(a, 32)), isNot(networkHeader(14), make([]byte, 4)))
	}
}

// What has no ports, since a fragment before it has, is led elsewhere before anything looks for ports: the kernel's nftables
// take what is at their place for them (nft_payload_fast_eval, net/netfilter/nf_tables_core.c). A port that does not show in a
// first fragment matches nothing, and what has one is dropped.

// segmentsToPod leads TCP and further fragments of IPv4 to the door, and toPod4 what may be DHCP or IPv4 of other kinds.
func (d *door) segmentsToPod(chain string) {
	if d != nil {
		d.goTo(chain, chainPartsToGuest, "a further fragment", isFurtherFragment4())
		d.goTo(chain, chainPortsToGuest[ProtocolTCP], "TCP", l4(unix.IPPROTO_TCP))
	}
}

func (d *door) toPod4() {
	if d == nil {
		return
	}
	d.goTo(chainIPv4ToGuest, chainPortsToGuest[ProtocolUDP], "UDP", isUDP())
	d.goTo(chainIPv4ToGuest, chainICMPToGuest, "ICMP", l4(unix.IPPROTO_ICMP))
	d.goTo(chainIPv4ToGuest, chainToBoth, "IGMP", l4(unix.IPPROTO_IGMP))
}

// toPod6 comes before what keeps router discovery and DHCPv6. Solicitations are for both, but for those of duplicate address
// detection, which may be the guest's own.
func (d *door) toPod6() {
	if d == nil {
		return
	}
	const chain = chainIPv6ToGuest
	icmp6 := l4(unix.IPPROTO_ICMPV6)
	d.goTo(chain, chainPortsToGuest[ProtocolTCP], "TCP without extension headers", is8(ipv6Next, unix.IPPROTO_TCP))
	d.goTo(chain, chainPartsToGuest, "a further fragment", isFurtherFragment())
	d.goTo(chain, chainPortsToGuest[ProtocolTCP], "TCP", l4(unix.IPPROTO_TCP))
	d.goTo(chain, chainPortsToGuest[ProtocolUDP], "UDP", isUDP(), isNotDHCPv6(transportPort))
	d.matchTypes(icmp6ForBoth, func(match []expr.Any) { d.goTo(chain, chainToBoth, "whom it concerns, nobody can tell", icmp6, match) })
	d.goTo(chain, chainToBoth, "either answers", protocol(unix.ETH_P_IPV6), icmp6, is8(icmpType, neighbourSolicitation), isNot(networkHeader(8), make([]byte, 16)))
}

// podAlone6 has the pod hear what is for it or for both, where no IPv6 is the guest's.
func (d *door) podAlone6() {
	if d == nil {
		return
	}
	const chain = chainIPv6ToGuest
	icmp6 := l4(unix.IPPROTO_ICMPV6)
	d.accept(chain, "a further fragment", isFurtherFragment())
	for _, protocol := range portProtocols {
		number := l4(protocolNumbers[protocol])
		for _, r := range d.podsPorts(protocol) {
			d.accept(chain, "the pod's own", number, ports(transportPort, r))
		}
	}
	d.matchTypes(icmp6ForBoth, func(match []expr.Any) { d.accept(chain, "the guest has no IPv6", icmp6, match) })
	d.accept(chain, "the pod answers", icmp6, is8(icmpType, neighbourSolicitation))
}

// segmentsFromGuest and what follows lead from a chain to those that check which ports the guest may send from.
func (d *door) segmentsFromGuest(chain string) {
	if d != nil {
		d.passToNetwork(chain, "a further fragment", isFurtherFragment4())
		d.goTo(chain, chainPortsFromGuest[ProtocolTCP], "TCP", l4(unix.IPPROTO_TCP))
	}
}

func (d *door) datagramsFromGuest(chain string) {
	if d != nil {
		d.goTo(chain, chainPortsFromGuest[ProtocolUDP], "UDP", isUDP())
	}
}

func (d *door) fromGuest6() {
	if d == nil {
		return
	}
	const chain = chainIPv6FromGuest
	d.goTo(chain, chainPortsFromGuest[ProtocolTCP], "TCP without extension headers", is8(ipv6Next, unix.IPPROTO_TCP))
	d.passToNetwork(chain, "a further fragment", isFurtherFragment())
	d.goTo(chain, chainPortsFromGuest[ProtocolTCP], "TCP", l4(unix.IPPROTO_TCP))
	d.goTo(chain, chainPortsFromGuest[ProtocolUDP], "UDP", isUDP(), isNotDHCPv6(transportPort))
}

// tagsFromGuest drops what has two tags if the first names no VLAN: Linux takes it for what it would be without that.
func (d *door) tagsFromGuest() {
	if d != nil {
		d.drop(chainTagsFromGuest, "a tag of no VLAN before another hides ports", noVLAN())
	}
}

// podToNetwork lets the pod's own stack send what is the pod's. Its reports of multicast groups are not: those of the guest
// are of the same address.
func (d *door) podToNetwork() {
	if d == nil {
		return
	}
	d.accept(chainToNetwork, "the pod finds and answers neighbours", protocol(unix.ETH_P_ARP))
	d.accept(chainToNetwork, "a further fragment", protocol(unix.ETH_P_IP), isFurtherFragment4())
	d.accept(chainToNetwork, "a further fragment", protocol(unix.ETH_P_IPV6), isFurtherFragment())
	for _, protocol := range portProtocols {
		d.goTo(chainToNetwork, chainFromPod[protocol], strings.ToUpper(protocol), l4(protocolNumbers[protocol]))
	}
	d.podMessages(chainToNetwork, nil)
}

// podSays lets processes of the pod say the same, so that others fail at once.
func (d *door) podSays(byNIC []expr.Any) {
	if d == nil {
		return
	}
	for _, protocol := range portProtocols {
		d.goTo(chainPodIP, chainPodSays[protocol], strings.ToUpper(protocol), byNIC, l4(protocolNumbers[protocol]))
	}
	d.podMessages(chainPodIP, byNIC)
}

func (d *door) podMessages(chain string, by []expr.Any) {
	const comment = "the pod asks, and says what went wrong"
	d.matchTypes(icmpOfPod, func(match []expr.Any) { d.accept(chain, comment, by, l4(unix.IPPROTO_ICMP), match) })
	d.matchTypes(icmp6OfPod, func(match []expr.Any) { d.accept(chain, comment, by, l4(unix.IPPROTO_ICMPV6), match) })
}

// guestToContainers leads what the guest sends to the other address to the chains for that. It comes before what routes of
// the pod block.
func (d *door) guestToContainers() {
	if d == nil {
		return
	}
	if d.own4.IsValid() {
		d.goTo(chainFromGuest, chainToContainers, "the containers", protocol(unix.ETH_P_IP), isIn(networkHeader(16), others4))
		if d.listens && len(d.guest) > 0 {
			d.accept(chainFromGuest, "the guest looks for the pod's 127.0.0.1", protocol(unix.ETH_P_ARP), arpTarget(netip.PrefixFrom(identity.Localhost4, 32)))
		}
	}
	if d.own6.IsValid() {
		d.goTo(chainFromGuest, chainToContainers6, "the containers", protocol(unix.ETH_P_IPV6), is128(networkHeader(24), identity.Other6))
	}
}

// others4 holds the other address and that of the pod's 127.0.0.1.
var others4 = netip.PrefixFrom(identity.ServerLinkLocal, 31)

// between is what guest and containers say to each other.
func (d *door) between() {
	if d.own4.IsValid() {
		d.guestSays4()
		d.containersSay4()
	}
	if d.own6.IsValid() {
		const chain = chainToContainers6
		d.drop(chain, "not the guest's address", isNot(networkHeader(8), d.own6.AsSlice()))
		d.goTo(chain, chainContainersHear6, "a further fragment", isFurtherFragment())
		d.portsToContainers(chain, chainContainersHear6)
		d.matchTypes(icmp6Between, func(match []expr.Any) { d.goTo(chain, chainContainersHear6, "ICMPv6", l4(unix.IPPROTO_ICMPV6), match) })
		d.drop(chain, notKept)
		d.rule(chainContainersHear6, "as from the other address", nil, d.heard(write6(8, identity.Other6))...)

		ours := slices.Concat(is128(networkHeader(8), identity.Other6), is128(networkHeader(24), identity.Other6))
		d.goTo(chainFromContainers, chainContainersSay6, "the other address is the guest", protocol(unix.ETH_P_IPV6), ours)
		d.rule(chainContainersSay6, "to the guest's own", nil, append(write6(24, d.own6), toTap)...)
	}
	if d.own4.IsValid() || d.own6.IsValid() {
		macs := slices.Concat(d.mac[:], d.tapMAC[:])
		d.rule(chainToTap, "from link to link", nil, append(rewrite(linkHeader(0), macs, 0), &Forward{To: d.tap})...)
	}
}

const notKept = "the pod does not keep this port"

var toTap = &expr.Verdict{Kind: expr.VerdictGoto, Chain: chainToTap}

func (d *door) guestSays4() {
	const chain = chainToContainers
	heardParts := [][]expr.Any{isFurtherFragment4(), is(networkHeader(12), d.own4.AsSlice()), is(networkHeader(16), identity.ServerLinkLocal.AsSlice())}
	d.goTo(chain, chainContainersHear, "a further fragment", heardParts...)
	d.drop(chain, "a further fragment", isFurtherFragment4())
	if d.listens {
		d.accept(chain, "the guest asks the server", isUDP(), is16(transportPort, 67))
	}
	d.drop(chain, "DHCP stays between guest and server", isDHCP())
	d.drop(chain, "not the guest's address", isNot(networkHeader(12), d.own4.AsSlice()))
	if atLocalhost := is(networkHeader(16), identity.Localhost4.AsSlice()); len(d.guest) > 0 {
		d.goTo(chain, chainToLocalhost, "the pod's 127.0.0.1", atLocalhost)
	} else {
		d.drop(chain, "nobody has asked", atLocalhost)
	}
	d.portsToContainers(chain, chainContainersHear)
	d.matchTypes(icmpBetween, func(match []expr.Any) { d.goTo(chain, chainContainersHear, "ICMP", l4(unix.IPPROTO_ICMP), match) })
	d.drop(chain, notKept)
	d.rule(chainContainersHear, "as from the other address", nil, d.heard(write4(12, identity.ServerLinkLocal))...)
}

// containersSay4 also leads what is sent to 127.0.0.1 by a port of the guest, as from an address that tells it from the
// rest. By that the guest reaches what has asked it, and no listener.
func (d *door) containersSay4() {
	other := identity.ServerLinkLocal.AsSlice()
	d.goTo(chainFromContainers, chainContainersSay, "the other address is the guest", protocol(unix.ETH_P_IP), is(networkHeader(12), slices.Concat(other, other)))
	d.rule(chainContainersSay, "to the guest's own", nil, append(write4(16, d.own4), toTap)...)
	if len(d.guest) == 0 {
		return
	}
	localhost := netip.AddrFrom4([4]byte{127, 0, 0, 1}).AsSlice()
	both := slices.Concat(localhost, localhost)
	d.drop(chainToLocalhost, "nobody connects to the pod's 127.0.0.1", opensConnection())
	for _, protocol := range portProtocols {
		number := l4(protocolNumbers[protocol])
		for _, r := range d.guest.of(protocol) {
			d.goTo(chainFromContainers, chainFromLocalhost, localhostNotice+r.with(protocol), is(networkHeader(12), both), number, ports(transportPort, r))
			d.goTo(chainToLocalhost, chainLocalhostHears, "the guest answers", number, ports(sourcePort, r), ports(transportPort, d.sources))
		}
	}
	d.drop(chainToLocalhost, "nobody has asked")
	d.rule(chainFromLocalhost, "to the guest's own", nil,
		append(rewrite(networkHeader(12), slices.Concat(identity.Localhost4.AsSlice(), d.own4.AsSlice()), ipv4Sums), toTap)...)
	d.rule(chainLocalhostHears, "as from 127.0.0.1", nil, d.heard(rewrite(networkHeader(12), both, ipv4Sums))...)
}

// portsToContainers leads to the pod what the guest sends to ports that it keeps, and answers to its connections.
func (d *door) portsToContainers(chain, to string) {
	for _, protocol := range portProtocols {
		number := l4(protocolNumbers[protocol])
		for _, r := range d.keep.of(protocol) {
			d.goTo(chain, to, "the pod keeps this port", number, ports(transportPort, r))
		}
		if protocol == ProtocolTCP {
			d.drop(chain, notKept, opensConnection())
		}
		d.goTo(chain, to, "the pod has asked", number, ports(transportPort, d.sources))
	}
}

// heard has the pod's stack take a frame that the guest sent to its gateway.
func (d *door) heard(rewritten []expr.Any) []expr.Any {
	return slices.Concat(rewritten, toThisHost(), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
}

// anyPort is every port, so that a rule matches what shows one.
var anyPort = PortRange{First: 0, Last: 65535}

func ports(at place, r PortRange) []expr.Any {
	if r.First == r.Last {
		return is16(at, r.First)
	}
	return []expr.Any{load(at, 2), &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: network16(r.First), ToData: network16(r.Last)}}
}

// opensConnection matches TCP's SYN without ACK, the bits 1 and 4 at 13 (RFC 9293, 3.1).
func opensConnection() []expr.Any {
	return slices.Concat(l4(unix.IPPROTO_TCP), []expr.Any{
		load(place{expr.PayloadBaseTransportHeader, 13}, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x12}, Xor: []byte{0}},
		equal([]byte{0x02}),
	})
}

// untagged matches a frame of that EtherType without a VLAN tag, and noVLAN one whose outermost tag is of VLAN 0, which is
// none (IEEE 802.1Q, 9.6): Linux strips it.
func untagged(etherType uint16) []expr.Any { return is16(linkHeader(12), etherType) }

func noVLAN() []expr.Any {
	return []expr.Any{
		load(linkHeader(14), 2),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: network16(0x0fff), Xor: network16(0)},
		equal(network16(0)),
	}
}

// sums are the checksums that a write to a header changes.
type sums int

const (
	ipv4Sums sums = iota + 1
	ipv6Sums
)

// rewrite puts data into the packet, and mends its checksums.
func rewrite(at place, data []byte, of sums) []expr.Any {
	p := write(at, uint32(len(data)))
	if of != 0 {
		p.CsumFlags = unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR
	}
	if of == ipv4Sums {
		p.CsumType, p.CsumOffset = expr.CsumTypeInet, 10 // RFC 791, 3.1
	}
	return []expr.Any{&expr.Immediate{Register: 1, Data: data}, p}
}

func write4(offset uint32, a netip.Addr) []expr.Any {
	return rewrite(networkHeader(offset), a.AsSlice(), ipv4Sums)
}

func write6(offset uint32, a netip.Addr) []expr.Any {
	return rewrite(networkHeader(offset), a.AsSlice(), ipv6Sums)
}
