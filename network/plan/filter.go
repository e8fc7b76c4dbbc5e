package plan

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// Filter is a table of ours in nftables, as text: a line a rule. That of a wiring is of the bridge family. It keeps the
// guest's DHCP with the server and the pod's own stack out of the guest's reach. Two filters with the same text are the
// same.
type Filter struct {
	Table string   `json:"table"`
	Rules []string `json:"rules"`

	Family   *FilterFamily `json:"-"`
	Compiled []FilterRule  `json:"-"` // what the text is of; nil in a filter that was read
}

// Same compares the tables' names and texts. Either may be nil: no filter.
func (f *Filter) Same(o *Filter) bool {
	return (f == nil) == (o == nil) && (f == nil || f.Table == o.Table && slices.Equal(f.Rules, o.Rules))
}

// Name is the table's for a message: with its family where that is not the usual one.
func (f *Filter) Name() string { return f.Family.prefix + f.Table }

// FilterTable is the name of the table, one for each interface.
func FilterTable(iface string) string { return "podnic-" + iface }

// FilterFamily is a family of nftables, and which chains a table of ours has there.
type FilterFamily struct {
	Number byte   // NFPROTO_…
	prefix string // of a table's name in messages
	Chains []FilterChain
}

// FilterChain is a chain that hangs on a hook of the kernel, or one that rules lead to.
type FilterChain struct {
	Name     string
	Hook     *uint32 // NF_BR_… or NF_INET_…; nil: rules lead to it
	Priority int32
}

// Chains of the filter.
const (
	ChainForward = "forward" // from port to port
	ChainIPv4    = "ipv4"    // of forward: IPv4, in an outermost VLAN tag or in none
	ChainTags    = "tags"    // of forward: two VLAN tags or more
	ChainInput   = "input"   // from a port to the pod's own stack
	ChainOutput  = "output"  // from the pod's own stack to a port

	chainPrerouting = "prerouting" // into the pod's own IP stack, by whatever way
)

// hook is a hook's number. Those of the bridge family (NF_BR_…, include/uapi/linux/netfilter_bridge.h) are the same.
func hook(number uint32) *uint32 { return &number }

// BridgeFilter is where the filter of a wiring is. Its priority is NF_BR_PRI_FILTER_BRIDGED
// (include/uapi/linux/netfilter_bridge.h), which nft(8) calls filter in this family. It must be below that of
// br_netfilter, which is 0: where that comes first, it takes IP packets to the hooks of its own family and goes on behind
// 0 (br_nf_hook_thresh), so that a chain of priority 0 never sees them. Which of two of the same priority comes first
// depends on whether there was a bridge before there was the table.
var BridgeFilter = &FilterFamily{Number: unix.NFPROTO_BRIDGE, Chains: []FilterChain{
	{ChainForward, hook(unix.NF_INET_FORWARD), -200},
	{ChainIPv4, nil, 0},
	{ChainTags, nil, 0},
	{ChainInput, hook(unix.NF_INET_LOCAL_IN), -200},
	{ChainOutput, hook(unix.NF_INET_LOCAL_OUT), -200},
}}

// StackFilter is where the filter before the pod's IP stack is, for a wiring that is not podnic's.
var StackFilter = &FilterFamily{Number: unix.NFPROTO_INET, prefix: "inet ", Chains: []FilterChain{
	{chainPrerouting, hook(unix.NF_INET_PRE_ROUTING), -300}, // NF_IP_PRI_RAW
}}

// IsStackFilter reports whether a table of a family (NFPROTO_…) is one of those.
func IsStackFilter(family byte, table string) bool {
	return family == StackFilter.Number && strings.HasPrefix(table, FilterTable(""))
}

// FilterRule is a rule of a chain. The comment tells people what it is for.
type FilterRule struct {
	Chain   string
	Comment string
	Exprs   []expr.Any
}

// WantedFilter is the filter of a wiring. Where the guest has no address, nobody serves it, and everything crosses.
func WantedFilter(original *Snapshot, o Options) *Filter {
	id, _ := Identify(original)
	return filterFor(id, !id.Layer2Only(), o.Names(), o.Socket, identity.ServerLinkLocal, original.Blocked())
}

// filterFor is the filter of links of these names, which need not exist yet, and of a server at the address.
func filterFor(id identity.Identity, served bool, names Names, socket string, address netip.Addr, blocked []Blocked) *Filter {
	f := &Filter{Table: FilterTable(names.Interface), Family: BridgeFilter}
	server := netip.PrefixFrom(address, 32)
	if served {
		f.keepBarriers(blocked, names.Tap) // first: the others accept, and lead to other chains
		f.keepDHCP(names)
		f.keepARP(id, names.Tap, socket, server)
	}
	f.keepStack(names, server, served && socket == SocketUDP)
	return f.done()
}

// ProvisionFilter is the filter of a UDP server on links that somebody else makes. But for what is blocked, nothing in it
// depends on who the guest is.
func ProvisionFilter(names Names, server netip.Addr, blocked []Blocked) *Filter {
	return filterFor(identity.Identity{}, true, names, SocketUDP, server, blocked)
}

// ProvisionStackFilter keeps frames from the pod's IP stack that a bridge of somebody else hands to it past the filter:
// those to 01:80:c2:00:00:0e, which enter by the port and not by the bridge (ADR 20). Nothing else enters by a port.
func ProvisionStackFilter(names Names) *Filter {
	f := &Filter{Table: FilterTable(names.Interface), Family: StackFilter}
	for _, port := range []string{names.Tap, names.NIC} {
		f.drop(chainPrerouting, "nothing enters the pod's own stack by a port", through(expr.MetaKeyIIFNAME, port))
	}
	return f.done()
}

// keepDHCP drops DHCP in both directions: the guest must hear one server, and the pod network must not hear a client.
//
// What has to be stopped is what a receiver takes for DHCP, and receivers differ: Linux strips VLAN tags as long as the
// outer one has the VLAN 0 and gives the rest to a VLAN link (__netif_receive_skb_core); clients with a packet socket
// read frames that the IP stack would drop. The rules look where the headers must be, and drop what hides them there.
// TestDHCPDoesNotCrossInAnyShape makes such frames. Most of what passes is IPv4, so it is decided on first.
//
// A rule never matches on a VLAN tag as the protocol and on the payload: nft(8) 1.0.6 to 1.1.3 abort when they list that.
func (f *Filter) keepDHCP(names Names) {
	f.accept(ChainForward, "another bridge", notThrough(expr.MetaKeyIIFNAME, names.Tap), notThrough(expr.MetaKeyIIFNAME, names.NIC))
	// The protocol is that behind the outermost tag: the kernel keeps that tag beside the frame (skb_vlan_untag).
	f.goTo(ChainForward, ChainIPv4, "IPv4", protocol(unix.ETH_P_IP))
	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		f.goTo(ChainForward, ChainTags, "another VLAN tag", protocol(tag))
	}
	// Linux takes no IPv4 from RFC 1042's encapsulation on Ethernet; Windows does (ArpUseEtherSNAP).
	f.drop(ChainForward, "IPv4 behind a SNAP header", protocol(unix.ETH_P_802_2), snap(unix.ETH_P_IP))

	f.drop(ChainIPv4, "DHCP stays between guest and server", isUDP(), toDHCP(transportPort))
	f.accept(ChainIPv4, "IPv4 with a sound header", soundIPv4())
	f.drop(ChainIPv4, "IPv4 that hides what it holds")

	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		f.drop(ChainTags, "three VLAN tags hide what they hold", is16(networkHeader(vlanHeader-2), tag))
	}
	udp := slices.Concat(is16(networkHeader(vlanHeader-2), unix.ETH_P_IP), is8(networkHeader(vlanHeader+9), unix.IPPROTO_UDP))
	f.drop(ChainTags, "UDP with IP options in two VLAN tags", udp, isNot8(networkHeader(vlanHeader), 4<<4|20/4))
	f.drop(ChainTags, "DHCP in two VLAN tags", udp, toDHCP(networkHeader(vlanHeader+20+2)))
}

// keepARP keeps those of the guest's ARP requests on its side that the server answers itself, so that there is one answer:
// for the server's own address, for neighbours that the pod had as permanent entries, and, where the pod had no connected
// route, for those of its subnet that it reached by its gateway. (A guest asks for the latter only if it was told the
// pod's own mask.) What is on the link, and the guest's own address, is asked of the pod network.
//
// A UDP server answers no ARP but for its own address, by the bridge. Then the rest is left to whoever answers it.
func (f *Filter) keepARP(id identity.Identity, tap, socket string, server netip.Prefix) {
	f.drop(ChainForward, "this is the server", through(expr.MetaKeyIIFNAME, tap), arpRequest(), arpTarget(server))
	if socket == SocketUDP {
		return
	}
	for _, n := range id.Neighbours {
		f.drop(ChainForward, "the server answers for this neighbour", through(expr.MetaKeyIIFNAME, tap), arpRequest(), arpTarget(netip.PrefixFrom(n.Address, 32)))
	}
	if id.PodAddress.Bits() == id.Address.Bits() {
		return
	}
	asked := []netip.Prefix{netip.PrefixFrom(id.Address.Addr(), 32)}
	for _, r := range id.Routes {
		if !r.Gateway.IsValid() && r.Destination.Bits() > 0 {
			asked = append(asked, r.Destination)
		}
	}
	for _, p := range asked {
		f.accept(ChainForward, "this is on the link", through(expr.MetaKeyIIFNAME, tap), arpRequest(), arpTarget(p))
	}
	f.drop(ChainForward, "the server answers for the subnet", through(expr.MetaKeyIIFNAME, tap), arpRequest(), arpTarget(id.PodAddress.Masked()))
}

// keepStack keeps guest and pod network apart from the pod's own stack, but for a server that listens there and its client.
func (f *Filter) keepStack(names Names, server netip.Prefix, listens bool) {
	if listens {
		f.accept(ChainInput, "the guest asks the server", through(expr.MetaKeyIIFNAME, names.Tap), protocol(unix.ETH_P_IP), isUDP(), is16(transportPort, 67))
		f.accept(ChainInput, "the guest looks for the server", through(expr.MetaKeyIIFNAME, names.Tap), protocol(unix.ETH_P_ARP), arpTarget(server))
		f.accept(ChainOutput, "the server answers the guest", through(expr.MetaKeyOIFNAME, names.Tap), protocol(unix.ETH_P_IP), isUDP(), is16(sourcePort, 67))
		f.accept(ChainOutput, "the server is here", through(expr.MetaKeyOIFNAME, names.Tap), protocol(unix.ETH_P_ARP), arpSender(server))
	}
	for _, port := range []string{names.Tap, names.NIC} {
		f.drop(ChainInput, "nothing else reaches the pod's own stack", through(expr.MetaKeyIIFNAME, port))
		f.drop(ChainOutput, "nor leaves it", through(expr.MetaKeyOIFNAME, port))
	}
}

func (f *Filter) drop(chain, comment string, matches ...[]expr.Any) {
	// Drops are counted, for whoever looks for a frame; what passes pays for no counter.
	f.rule(chain, comment, matches, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
}

func (f *Filter) accept(chain, comment string, matches ...[]expr.Any) {
	f.rule(chain, comment, matches, &expr.Verdict{Kind: expr.VerdictAccept})
}

// goTo leads what matches to another chain, and not back.
func (f *Filter) goTo(chain, to, comment string, matches ...[]expr.Any) {
	f.rule(chain, comment, matches, &expr.Verdict{Kind: expr.VerdictGoto, Chain: to})
}

func (f *Filter) rule(chain, comment string, matches [][]expr.Any, then ...expr.Any) {
	f.Compiled = append(f.Compiled, FilterRule{chain, comment, append(slices.Concat(matches...), then...)})
}

// done writes the text, in the order in which a table is read: chain by chain.
func (f *Filter) done() *Filter {
	order := func(r FilterRule) int {
		return slices.IndexFunc(f.Family.Chains, func(c FilterChain) bool { return c.Name == r.Chain })
	}
	slices.SortStableFunc(f.Compiled, func(a, b FilterRule) int { return order(a) - order(b) })
	for _, r := range f.Compiled {
		f.Rules = append(f.Rules, RuleText(r.Chain, r.Comment, r.Exprs))
	}
	return f
}
