package plan

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// Filter is a table of ours in nftables, as text: a line a rule. It keeps the guest's DHCP with the server and the pod's
// own stack out of the guest's reach. One whose chains are of several families is a table of that name in each, and they
// are put in place and removed together. Two filters with the same text are the same.
type Filter struct {
	Table string   `json:"table"`
	Rules []string `json:"rules"`
	// Comment is that of the first table: facts of the wiring that nothing else carries. Kernels have it since 5.10.
	Comment string `json:"comment,omitempty"`

	// Lies is how many frames the spoof guard had dropped when the filter was read.
	Lies uint64 `json:"-"`

	Family   *FilterFamily `json:"-"`
	Compiled []FilterRule  `json:"-"` // what the text is of; nil in a filter that was read
}

// Same compares the tables' names and texts. Either may be nil: no filter.
func (f *Filter) Same(o *Filter) bool {
	if f == nil || o == nil {
		return f == o
	}
	return f.Table == o.Table && f.Comment == o.Comment && slices.Equal(f.Rules, o.Rules)
}

// Name is the table's for a message: with its family where that is not the usual one.
func (f *Filter) Name() string { return f.Family.prefix + f.Table }

// FilterTable is the name of the table, one for each interface.
func FilterTable(iface string) string { return "podnic-" + iface }

// RedirectedInterface is the interface that a table of a redirect is of, and the binding, given its family (NFPROTO_…) and
// comment. Both are empty where it is none.
func RedirectedInterface(family byte, table, comment string) (iface, binding string) {
	facts, redirects := redirectFactsOf(comment)
	iface, ours := strings.CutPrefix(table, FilterTable(""))
	switch {
	case !ours || family != unix.NFPROTO_NETDEV && !redirects:
		return "", ""
	case facts.Shared:
		return iface, BindingShared
	}
	return iface, BindingRedirect
}

// FilterFamily is a family of nftables, and which chains a table of ours has there.
type FilterFamily struct {
	Number byte   // NFPROTO_…
	prefix string // of a table's name in messages
	Chains []FilterChain
}

// FilterChain is a chain that hangs on a hook of the kernel, or one that rules lead to.
type FilterChain struct {
	Name     string
	Hook     *uint32 // NF_BR_…, NF_INET_… or NF_NETDEV_…; nil: rules lead to it
	Priority int32
	Family   byte   // NFPROTO_…; 0: the number of the others
	Device   string // of the family netdev: the link whose frames the chain sees; it is part of the text
	Drop     bool   // what no rule decides on
}

// Families are those that the chains are of (NFPROTO_…), the one with the comment first.
func (f *FilterFamily) Families() []byte {
	families := []byte{f.Number}
	for _, c := range f.Chains {
		if n := f.FamilyOf(c.Name); !slices.Contains(families, n) {
			families = append(families, n)
		}
	}
	return families
}

// place is what the text calls a chain: one that hangs on a link is not the same on another.
func (c FilterChain) place() string {
	if c.Device == "" {
		return c.Name
	}
	return c.Name + "@" + c.Device
}

// FamilyOf is the family of a chain.
func (f *FilterFamily) FamilyOf(chain string) byte {
	for _, c := range f.Chains {
		if c.Name == chain && c.Family != 0 {
			return c.Family
		}
	}
	return f.Number
}

// Chains of the filter.
const (
	ChainForward = "forward" // from port to port
	ChainIPv4    = "ipv4"    // of forward: IPv4, in an outermost VLAN tag or in none
	ChainIPv6    = "ipv6"    // of forward: IPv6 likewise, where that is served
	ChainTags    = "tags"    // of forward: two VLAN tags or more
	ChainInput   = "input"   // from a port to the pod's own stack
	ChainOutput  = "output"  // from the pod's own stack to a port

	chainPrerouting = "prerouting" // from a port, or into the pod's own IP stack, by whatever way
	chainCarried    = "carried"    // what a server without CAP_NET_RAW hears of Neighbor Discovery
)

// hook is a hook's number. Those of the bridge family (NF_BR_…, include/uapi/linux/netfilter_bridge.h) are the same.
func hook(number uint32) *uint32 { return &number }

// BridgeFilter is where the filter of a wiring is. Its priority is NF_BR_PRI_FILTER_BRIDGED
// (include/uapi/linux/netfilter_bridge.h), which nft(8) calls filter in this family. It must be below that of
// br_netfilter, which is 0: where that comes first, it takes IP packets to the hooks of its own family and goes on behind
// 0 (br_nf_hook_thresh), so that a chain of priority 0 never sees them. Which of two of the same priority comes first
// depends on whether there was a bridge before there was the table.
var BridgeFilter = &FilterFamily{Number: unix.NFPROTO_BRIDGE, Chains: append([]FilterChain{
	{Name: ChainForward, Hook: hook(unix.NF_INET_FORWARD), Priority: -200},
	{Name: ChainIPv4},
	{Name: ChainIPv6},
	{Name: ChainTags},
	{Name: ChainInput, Hook: hook(unix.NF_INET_LOCAL_IN), Priority: -200},
	{Name: ChainOutput, Hook: hook(unix.NF_INET_LOCAL_OUT), Priority: -200},
	{Name: chainPrerouting, Hook: hook(unix.NF_INET_PRE_ROUTING), Priority: -200},
	{Name: chainCarried},
}, guardChains...)}

// StackFilter is where the filter before the pod's IP stack is, for a wiring that is not podnic's.
var StackFilter = &FilterFamily{Number: unix.NFPROTO_INET, prefix: "inet ", Chains: []FilterChain{
	{Name: chainPrerouting, Hook: hook(unix.NF_INET_PRE_ROUTING), Priority: -300}, // NF_IP_PRI_RAW
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

// WantedFilter is the filter of a wiring.
func WantedFilter(original *Snapshot, o Options) *Filter { return o.binding().Filter(original, o) }

// Filter is that of a bridge. Where the guest is served nothing, everything crosses, unless IPv6 is off.
func (bridgeBinding) Filter(original *Snapshot, o Options) *Filter {
	id, _ := Identify(original, o)
	names, ipv6 := o.Names(), o.IPv6For(original)
	f := bridgeFilter(names)
	server := netip.PrefixFrom(identity.ServerLinkLocal, 32)
	fromGuest := through(expr.MetaKeyIIFNAME, names.Tap)
	if o.Guarded() {
		f.guard(ChainForward, fromGuest, original)
	}
	if !id.Layer2Only() {
		f.keepBarriers(original.Blocked(), ChainForward, ChainTags, fromGuest) // first: the others accept, and lead to other chains
	}
	if !id.Layer2Only() || ipv6 == IPv6Off {
		f.keepToBridge(names)
	}
	if !id.Layer2Only() {
		f.keepDHCP()
	}
	f.keepIPv6OnBridge(id, ipv6, o.Socket, fromGuest)
	if id.V4.Served() {
		f.keepARP(id, ChainForward, fromGuest, o.Socket, server, func(comment string, match []expr.Any) {
			f.accept(ChainForward, comment, match)
		})
	}
	if id.V6.Served() && o.Socket == SocketUDP {
		f.carryOnBridge(id, names)
	}
	f.keepStack(names, server, id.V4.Served() && o.Socket == SocketUDP)
	return f.done()
}

// keepIPv6OnBridge keeps what of IPv6 does not cross.
func (f *Filter) keepIPv6OnBridge(id identity.Identity, ipv6, socket string, fromGuest []expr.Any) {
	switch {
	case id.V6.Served():
		f.look6(ChainForward, ChainIPv6)
		f.keepIPv6(ChainIPv6, func(comment string, match ...[]expr.Any) { f.accept(ChainIPv6, comment, match...) },
			func() {
				if socket == SocketUDP {
					f.keepAnswers()
				}
			}, func() { f.keepFromGuest6(id, ChainIPv6, fromGuest) })
		f.keepTagged6(ChainTags)
		f.keepTaggedFromGuest6(ChainTags, fromGuest)
	case ipv6 == IPv6Off:
		if id.Layer2Only() {
			f.lookTagged(ChainForward, ChainTags)
		}
		f.drop(ChainForward, ipv6IsOff, protocol(unix.ETH_P_IPV6))
		f.dropHidden6(ChainForward, ChainTags)
	}
}

// ProvisionFilter is the filter of a UDP server on links that somebody else makes, which need not exist yet. server is the
// address that it answers IPv4 from, guest who the guest will be. Of that it depends on which families are served, and with
// IPv6 on the MAC and on what the server answers neighbour solicitations for.
func ProvisionFilter(names Names, server netip.Addr, guest identity.Identity, ipv6 string, blocked []Blocked) *Filter {
	f := bridgeFilter(names)
	address := netip.PrefixFrom(server, 32)
	fromGuest := through(expr.MetaKeyIIFNAME, names.Tap)
	if !guest.Layer2Only() {
		f.keepBarriers(blocked, ChainForward, ChainTags, fromGuest)
	}
	f.keepToBridge(names)
	if !guest.Layer2Only() {
		f.keepDHCP()
	}
	f.keepIPv6OnBridge(guest, ipv6, SocketUDP, fromGuest)
	if guest.V4.Served() {
		f.keepARP(identity.Identity{}, ChainForward, fromGuest, SocketUDP, address, nil)
	}
	if guest.V6.Served() {
		f.carryOnBridge(guest, names)
	}
	f.keepStack(names, address, guest.V4.Served())
	return f.done()
}

func bridgeFilter(names Names) *Filter {
	return &Filter{Table: FilterTable(names.Interface), Family: BridgeFilter}
}

// keepToBridge leaves other bridges alone.
func (f *Filter) keepToBridge(names Names) {
	f.accept(ChainForward, "another bridge", notThrough(expr.MetaKeyIIFNAME, names.Tap), notThrough(expr.MetaKeyIIFNAME, names.NIC))
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
func (f *Filter) keepDHCP() {
	f.look(ChainForward, ChainIPv4, ChainTags)
	f.drop(ChainIPv4, "DHCP stays between guest and server", isDHCP())
	f.accept(ChainIPv4, "IPv4 with a sound header", soundIPv4())
	f.drop(ChainIPv4, "IPv4 that hides what it holds")
	f.keepTagged(ChainTags)
}

// look leads frames from a chain to those that look into them, and drops what nobody can look into.
func (f *Filter) look(from, ipv4, tags string) {
	// The protocol is that behind the outermost tag: the kernel keeps that tag beside the frame (skb_vlan_untag).
	f.goTo(from, ipv4, "IPv4", protocol(unix.ETH_P_IP))
	f.lookTagged(from, tags)
	// Linux takes no IPv4 from RFC 1042's encapsulation on Ethernet; Windows does (ArpUseEtherSNAP).
	f.drop(from, "IPv4 behind a SNAP header", protocol(unix.ETH_P_802_2), snap(unix.ETH_P_IP))
}

// lookTagged leads frames with two VLAN tags to a chain, and drops those with three.
func (f *Filter) lookTagged(from, tags string) {
	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		f.goTo(from, tags, "another VLAN tag", protocol(tag))
	}
	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		f.drop(tags, "three VLAN tags hide what they hold", is16(networkHeader(vlanHeader-2), tag))
	}
}

// keepTagged drops DHCP in two VLAN tags, and what may hide it there.
func (f *Filter) keepTagged(tags string) {
	udp := slices.Concat(is16(networkHeader(vlanHeader-2), unix.ETH_P_IP), is8(networkHeader(vlanHeader+9), unix.IPPROTO_UDP))
	f.drop(tags, "UDP with IP options in two VLAN tags", udp, isNot8(networkHeader(vlanHeader), 4<<4|20/4))
	f.drop(tags, "DHCP in two VLAN tags", udp, toDHCP(networkHeader(vlanHeader+20+2)))
}

// keepARP keeps those of the guest's ARP requests on its side that the server answers itself, so that there is one answer:
// for the server's own address, for neighbours that the pod had as permanent entries, and, where the pod had no connected
// route, for those of its subnet that it reached by its gateway. (A guest asks for the latter only if it was told the
// pod's own mask.) What is on the link, and the guest's own address, is asked of the pod network.
//
// A UDP server answers no ARP but for its own address, by the bridge. The rest is left to those who answer it.
//
// The chain is the one that decides, and from matches what comes from the guest, where the chain sees more than that. What
// is asked of the pod network although it is in the subnet, pass lets through.
func (f *Filter) keepARP(
	id identity.Identity, chain string, from []expr.Any, socket string, server netip.Prefix,
	pass func(comment string, match []expr.Any),
) {
	f.drop(chain, "this is the server", from, arpRequest(), arpTarget(server))
	if socket == SocketUDP {
		return
	}
	for _, n := range id.V4.Neighbours {
		asked := arpTarget(netip.PrefixFrom(n.Address, 32))
		f.drop(chain, "the server answers for this neighbour", from, arpRequest(), asked)
	}
	own := id.V4.First()
	if own.Pod.Bits() == own.Prefix.Bits() {
		return
	}
	asked := []netip.Prefix{netip.PrefixFrom(own.Prefix.Addr(), 32)}
	for _, r := range id.V4.Routes {
		if !r.Gateway.IsValid() && r.Destination.Bits() > 0 {
			asked = append(asked, r.Destination)
		}
	}
	for _, p := range asked {
		pass("this is on the link", slices.Concat(from, arpRequest(), arpTarget(p)))
	}
	f.drop(chain, "the server answers for the subnet", from, arpRequest(), arpTarget(own.Pod.Masked()))
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
	// Drops are counted, for those who miss a frame; what passes pays for no counter.
	f.rule(chain, comment, matches, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
}

func (f *Filter) accept(chain, comment string, matches ...[]expr.Any) {
	f.rule(chain, comment, matches, &expr.Verdict{Kind: expr.VerdictAccept})
}

// goTo leads what matches to another chain, and not back.
func (f *Filter) goTo(chain, to, comment string, matches ...[]expr.Any) {
	f.rule(chain, comment, matches, &expr.Verdict{Kind: expr.VerdictGoto, Chain: to})
}

// jump leads what matches to another chain, and back if nothing is decided there.
func (f *Filter) jump(chain, to, comment string, matches ...[]expr.Any) {
	f.rule(chain, comment, matches, &expr.Verdict{Kind: expr.VerdictJump, Chain: to})
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
		f.Rules = append(f.Rules, RuleText(f.Family.Chains[order(r)], r.Comment, r.Exprs))
	}
	return f
}

// Unfiltered is the warning where a filter should be and cannot. tc needs it for the pod's own processes alone.
func Unfiltered(o Options) string {
	if o.TC {
		return "the kernel has no nftables for what processes send (CONFIG_NF_TABLES_INET), so nobody tells those of the pod at once that they have no network: what they send is lost, and they wait for a time-out"
	}
	return "the kernel has no nftables for bridges (CONFIG_NF_TABLES_BRIDGE), so there is no filter: the guest's DHCP requests are seen on the pod network, a DHCP server there may answer the guest, and the guest can reach sockets of the pod and what its routes block"
}
