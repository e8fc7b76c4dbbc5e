package plan

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// A server without CAP_NET_RAW has a socket of UDP. Neighbor Discovery, without which no guest asks for an address, is
// ICMPv6: of what the guest solicits nftables makes datagrams for that socket, and of what the server sends, advertisements
// (identity.Carrier).

// allNodes is the group of every station of a link (RFC 4291, 2.7.1), allServers that of DHCPv6's servers (RFC 8415, 7.1).
var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allServers = netip.MustParseAddr("ff02::1:2")
)

// Places in IPv6's header (RFC 8200, 3).
var (
	ipv6Start       = networkHeader(0) // version, traffic class and flow label, four bytes
	ipv6Next        = networkHeader(6) // and the hop limit after it
	ipv6Source      = networkHeader(8)
	ipv6Destination = networkHeader(24)
	// udpRest is UDP's length and checksum, and what a solicitation has reserved there.
	udpRest = place{expr.PayloadBaseTransportHeader, 4}
)

const (
	serverPort6    = 547
	onlyOfThisLink = 255 // the hop limit of a message that was not forwarded (RFC 4861, 6.1.1)
)

// hearSolicitations makes datagrams of the guest's solicitations that the server answers, in a chain that ICMPv6 of the
// guest's is led to: to port 547, from a port that is the message's type and code, to all nodes, since a guest that asks
// whether a router is still there asks that router's MAC and address. A length of 0 is that of all that follows, and a
// checksum of 0 none, which the server's socket takes (UDP_NO_CHECK6_RX): the message's own is lost.
//
// sets are what else is set in the frame, to be one for this host.
func (f *Filter) hearSolicitations(id identity.Identity, sets ...[]expr.Any) {
	hear := func(comment string, match ...[]expr.Any) {
		match = slices.Concat([][]expr.Any{is16(ipv6Next, unix.IPPROTO_ICMPV6<<8|onlyOfThisLink), is(linkHeader(6), id.MAC[:])}, match)
		f.rule(chainCarried, comment, match, append(slices.Concat(sets...), toServer(serverPort6)...)...)
	}
	hear("the guest looks for a router", is16(icmpType, routerSolicitation<<8))
	targets := answered6(id)
	if !slices.Contains(targets, identity.VirtualRouter) { // which the server may have to answer for once a gateway has moved
		targets = append(targets, identity.VirtualRouter)
	}
	for _, target := range targets {
		hear("the guest asks for "+target.String(), is16(icmpType, neighbourSolicitation<<8), is128(solicited, target))
	}
}

// hearWhoIsLost makes datagrams of the guest's solicitations to all stations for what has a link-local address: it asks so for
// a router that has ceased to answer. first is what is done with the frame before, which goes to the pod network as well.
func (f *Filter) hearWhoIsLost(chain string, id identity.Identity, from []expr.Any, first ...expr.Any) {
	match := [][]expr.Any{
		from, is16(ipv6Next, unix.IPPROTO_ICMPV6<<8|onlyOfThisLink), is(linkHeader(6), id.MAC[:]), is(linkHeader(0), []byte{0x33, 0x33, 0xff}),
		is16(icmpType, neighbourSolicitation<<8), is(solicited, []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0}),
	}
	f.rule(chain, "the guest has lost a router", match, slices.Concat(first, toPort(serverPort6), accepts())...)
}

// toPort makes a datagram of a message of ICMPv6. Its source port is the message's type and code.
func toPort(port uint16) []expr.Any {
	return slices.Concat(put(ipv6Next, unix.IPPROTO_UDP), put(ipv6Destination, allNodes.AsSlice()...), put(transportPort, network16(port)...),
		put(udpRest, 0, 0, 0, 0))
}

// toServer does that where frames come in, which this one then does to this host.
func toServer(port uint16) []expr.Any { return slices.Concat(toPort(port), toThisHost(), accepts()) }

func accepts() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// hearAnswers makes datagrams of what gateways answer the server: they go to an address of its own. sets are what else is set
// in the frame.
func (f *Filter) hearAnswers(chain string, id identity.Identity, from []expr.Any, sets ...[]expr.Any) {
	asker := is128(ipv6Destination, identity.Asker(id.MAC))
	then := append(slices.Concat(sets...), toServer(identity.QuestionPort)...)
	f.rule(chain, "a gateway tells the server where it is", [][]expr.Any{
		from, is16(ipv6Next, unix.IPPROTO_ICMPV6<<8|onlyOfThisLink), asker, is16(icmpType, neighbourAdvertisement<<8),
	}, then...)
	f.rule(chain, "a router answers the server's echo", [][]expr.Any{
		from, is8(ipv6Next, unix.IPPROTO_ICMPV6), asker, is16(icmpType, echoReply<<8),
	}, then...)
}

// ask makes messages of the server's questions, which out matches. sets are what else is set.
func (f *Filter) ask(chain string, id identity.Identity, out []expr.Any, sets ...[]expr.Any) {
	for _, question := range []struct {
		comment     string
		class, kind byte
		rest        []byte
	}{
		{"the server asks for a gateway", identity.CarriedQuestion, neighbourSolicitation, make([]byte, 4)},
		{"the server asks routers for an echo", identity.CarriedEchoRequest, echoRequest, echoOfServer},
	} {
		f.rule(chain, question.comment, [][]expr.Any{
			out, isUDP(), is16(sourcePort, identity.QuestionPort), is128(ipv6Source, identity.Asker(id.MAC)), isClass(question.class),
		}, slices.Concat(slices.Concat(sets...), put(ipv6Next, unix.IPPROTO_ICMPV6), put(sourcePort, question.kind, 0),
			put(udpRest, question.rest...), put(ipv6Start, 6<<4, 0, 0, 0), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})...)
	}
}

// asks matches such messages.
func asks(id identity.Identity) []expr.Any {
	return slices.Concat(protocol(unix.ETH_P_IPV6), is128(ipv6Source, identity.Asker(id.MAC)), l4(unix.IPPROTO_ICMPV6))
}

// echoOfServer is the identifier and the sequence number of its echo requests.
var echoOfServer = []byte{'p', 'n', 0, 1}

// hearDHCPv6 matches what the guest asks a server of DHCPv6, by an address. Without a checksum it is none of IPv6's (RFC 8200,
// 8.1).
func hearDHCPv6(id identity.Identity, to netip.Addr) []expr.Any {
	return slices.Concat(isUDP(), is16(transportPort, serverPort6), is128(ipv6Destination, to), is(linkHeader(6), id.MAC[:]),
		isNot(place{expr.PayloadBaseTransportHeader, 6}, []byte{0, 0}))
}

// hearUnicast has all servers asked where the guest asks this one by its address, as a client may not, and busybox' does. sets
// are what else is set in the frame.
func (f *Filter) hearUnicast(chain string, id identity.Identity, from []expr.Any, sets ...[]expr.Any) {
	then := slices.Concat([]expr.Any{&expr.Immediate{Register: 1, Data: allServers.AsSlice()}, summed(ipv6Destination)}, slices.Concat(sets...),
		toThisHost(), accepts())
	f.rule(chain, "the guest asks the server alone by DHCPv6", [][]expr.Any{from, hearDHCPv6(id, identity.ServerLinkLocal6)}, then...)
}

// summed writes an address of IPv6's header, and what the datagram's checksum becomes by that.
func summed(p place) *expr.Payload {
	w := write(p, 16)
	w.CsumType, w.CsumOffset = expr.CsumTypeInet, ipv6Header+6
	return w
}

// carry makes messages of the server's datagrams, which out matches. sets are what else is set of those to one station.
func (f *Filter) carry(chain string, out []expr.Any, sets ...[]expr.Any) {
	say := func(comment string, class byte, then ...[]expr.Any) {
		match := [][]expr.Any{out, isUDP(), is16(sourcePort, serverPort6), isClass(class)}
		then = append(then, put(ipv6Start, 6<<4, 0, 0, 0), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
		f.rule(chain, comment, match, slices.Concat(then...)...)
	}
	toSource := []expr.Any{load(ipv6Source, 16), write(ipv6Destination, 16)}
	fromTarget := []expr.Any{load(solicited, 16), write(ipv6Source, 16)}
	for _, c := range identity.Carriers {
		message := [][]expr.Any{put(ipv6Next, unix.IPPROTO_ICMPV6), put(sourcePort, c.Type, 0), put(udpRest, c.Fixed[:]...)}
		what := map[byte]string{routerAdvertisement: "a router", neighbourAdvertisement: "a neighbour"}[c.Type]
		if !c.Unicast {
			say(what+" is advertised to all", c.Class, message...)
			continue
		}
		say(what+" is advertised to who asks", c.Class, slices.Concat(message, [][]expr.Any{toSource, fromTarget}, sets)...)
	}
	// The kernel has made the checksum, with the addresses that it saw.
	say("the server answers the guest by DHCPv6", identity.CarriedReply, slices.Concat([][]expr.Any{
		{load(ipv6Source, 16), summed(ipv6Destination)},
		{&expr.Immediate{Register: 1, Data: identity.ServerLinkLocal6.AsSlice()}, summed(ipv6Source)},
	}, sets)...)
}

// isClass matches IPv6 with a traffic class, which is between the version and the flow label.
func isClass(class byte) []expr.Any {
	return []expr.Any{
		load(ipv6Start, 2),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: network16(0xfff0), Xor: network16(0)},
		equal(network16(6<<12 | uint16(class)<<4)),
	}
}

// carryOnBridge is for a server on the bridge. There a frame to the gateway is for the pod network, and is none for the
// bridge until its MAC is another: that is before anything is decided.
func (f *Filter) carryOnBridge(id identity.Identity, names Names) {
	tap, ipv6 := through(expr.MetaKeyIIFNAME, names.Tap), protocol(unix.ETH_P_IPV6)
	f.jump(chainPrerouting, chainCarried, "ICMPv6 of the guest", tap, ipv6, l4(unix.IPPROTO_ICMPV6))
	toAll := put(linkHeader(0), 0x33, 0x33, 0, 0, 0, 1)
	f.hearSolicitations(id, toAll)
	nic := slices.Concat(through(expr.MetaKeyIIFNAME, names.NIC), ipv6)
	f.hearAnswers(chainPrerouting, id, slices.Concat(nic, l4(unix.IPPROTO_ICMPV6)), toAll)
	// What goes to a group is for the bridge too.
	f.hearWhoIsLost(ChainInput, id, slices.Concat(tap, ipv6, l4(unix.IPPROTO_ICMPV6)))
	f.accept(ChainInput, "the pod network answers the server", nic, answersServer())
	f.hearUnicast(chainPrerouting, id, slices.Concat(tap, ipv6), put(linkHeader(0), 0x33, 0x33, 0, 1, 0, 2))
	f.accept(ChainInput, "the guest asks the server by DHCPv6", tap, ipv6, hearDHCPv6(id, allServers))
	f.accept(ChainInput, "the guest solicits", tap, ipv6, isUDP(), is16(transportPort, serverPort6), is128(ipv6Destination, allNodes))
	f.carry(ChainOutput, slices.Concat(through(expr.MetaKeyOIFNAME, names.Tap), ipv6), put(linkHeader(0), id.MAC[:]...))
	f.ask(ChainOutput, id, slices.Concat(through(expr.MetaKeyOIFNAME, names.NIC), ipv6), put(linkHeader(6), id.MAC[:]...))
}

// answersServer matches the datagrams of answers.
func answersServer() []expr.Any {
	return slices.Concat(isUDP(), is16(transportPort, identity.QuestionPort), is128(ipv6Destination, allNodes))
}

// keepAnswers keeps them from the guest.
func (f *Filter) keepAnswers() {
	f.drop(ChainIPv6, "what the server has asked for", answersServer())
}

// carryFromGuest is for a server on the tap of a redirect. The stack asks the guest for its MAC, and hears the answer.
func (f *redirectFilter) carryFromGuest(id identity.Identity) {
	f.accept(chainIPv6FromGuest, "the guest asks the server by DHCPv6", hearDHCPv6(id, allServers))
	f.hearUnicast(chainIPv6FromGuest, id, nil)
	f.jump(chainIPv6FromGuest, chainCarried, "ICMPv6 of the guest", l4(unix.IPPROTO_ICMPV6))
	f.hearSolicitations(id)
	var copied []expr.Any
	if f.facts.Mark != 0 {
		copied = setMark(f.facts.Mark)
	}
	f.hearWhoIsLost(chainIPv6FromGuest, id, nil, append(copied, &Forward{To: f.nic, Copy: true})...)
	f.accept(chainIPv6FromGuest, "the guest tells the server its MAC",
		is128(ipv6Destination, identity.ServerLinkLocal6), l4(unix.IPPROTO_ICMPV6), is8(icmpType, neighbourAdvertisement))
}

// carryToGuest is what such a server's stack sends.
func (f *redirectFilter) carryToGuest(byTap []expr.Any) {
	f.carry(chainPodIP, byTap)
	f.accept(chainPodIP, "the server asks the guest for its MAC",
		byTap, is128(ipv6Source, identity.ServerLinkLocal6), l4(unix.IPPROTO_ICMPV6), is8(icmpType, neighbourSolicitation))
}
