package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// Filter is our nftables table of the bridge family, as text: a line a rule. It keeps the guest's DHCP with the server and
// the pod's own stack out of the guest's reach. Two filters with the same text are the same.
type Filter struct {
	Table string   `json:"table"`
	Rules []string `json:"rules"`

	rules []filterRule // what the text is of; nil in a filter that was read
}

func (f *Filter) same(o *Filter) bool {
	return (f == nil) == (o == nil) && (f == nil || f.Table == o.Table && slices.Equal(f.Rules, o.Rules))
}

// filterTable is the name of the table, one for each interface.
func filterTable(iface string) string { return "podnic-" + iface }

// Chains of the filter; each hangs on the hook of its name.
const (
	chainForward = "forward" // from port to port
	chainInput   = "input"   // from a port to the pod's own stack
	chainOutput  = "output"  // from the pod's own stack to a port
)

var filterChains = []string{chainForward, chainInput, chainOutput}

type filterRule struct {
	chain   string
	comment string
	exprs   []expr.Any
}

// wantedFilter is the filter of a wiring, and nil where there is nothing to keep apart: at layer 2 only.
func wantedFilter(original *Snapshot, o Options) *Filter {
	id, _ := Identify(original)
	if id.Layer2Only() {
		return nil
	}
	return filterFor(id, o.Names(), o.Socket, original.blocked())
}

// filterFor is the filter of links of these names, which need not exist yet.
func filterFor(id identity.Identity, names Names, socket string, blocked []Blocked) *Filter {
	f := &Filter{Table: filterTable(names.Interface)}
	f.keepBarriers(blocked, names.Tap)
	ports := []string{names.Tap, names.NIC}

	// DHCP never crosses, in either direction: the guest must hear one server, and the pod network must not hear a client.
	// The header is matched by what the kernel parsed and not by the frame's EtherType, which is another one in a frame with
	// a VLAN tag. A second tag hides the header from the kernel, but not from a look at where it must be.
	for _, from := range ports {
		f.add(chainForward, "DHCP stays between guest and server", through(expr.MetaKeyIIFNAME, from), isIPv4(), isUDP(), toDHCP(transportPort))
		for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
			for tags := 1; tags <= nestedTags; tags++ {
				f.add(chainForward, "DHCP in nested VLAN tags", through(expr.MetaKeyIIFNAME, from), protocol(tag), nestedUDP(tags), toDHCP(nestedPort(tags)))
			}
		}
	}
	f.keepARP(id, names.Tap, socket)
	if socket == SocketUDP {
		server := netip.PrefixFrom(identity.ServerLinkLocal, 32)
		f.accept(chainInput, "the guest asks the server", through(expr.MetaKeyIIFNAME, names.Tap), isIPv4(), isUDP(), portIs(transportPort, 67))
		f.accept(chainInput, "the guest looks for the server", through(expr.MetaKeyIIFNAME, names.Tap), isARP(), arpTarget(server))
		f.accept(chainOutput, "the server answers the guest", through(expr.MetaKeyOIFNAME, names.Tap), isIPv4(), isUDP(), portIs(sourcePort, 67))
		f.accept(chainOutput, "the server is here", through(expr.MetaKeyOIFNAME, names.Tap), isARP(), arpSender(server))
	}
	for _, from := range ports {
		f.add(chainInput, "nothing else reaches the pod's own stack", through(expr.MetaKeyIIFNAME, from))
	}
	for _, to := range ports {
		f.add(chainOutput, "nor leaves it", through(expr.MetaKeyOIFNAME, to))
	}
	// A table is read chain by chain, so the text has that order too.
	slices.SortStableFunc(f.rules, func(a, b filterRule) int {
		return slices.Index(filterChains, a.chain) - slices.Index(filterChains, b.chain)
	})
	for _, r := range f.rules {
		f.Rules = append(f.Rules, ruleText(r.chain, r.comment, r.exprs))
	}
	return f
}

// keepARP keeps those of the guest's ARP requests on its side that the server answers itself, so that there is one answer:
// for the server's own address, for neighbours that the pod had as permanent entries, and, where the pod had no connected
// route, for those of its subnet that it reached by its gateway. (A guest asks for the latter only if it was told the
// pod's own mask.) What is on the link, and the guest's own address, is asked of the pod network.
//
// A UDP server answers no ARP but for its own address, by the bridge. Then the rest is left to whoever answers it.
func (f *Filter) keepARP(id identity.Identity, tap, socket string) {
	server := netip.PrefixFrom(identity.ServerLinkLocal, 32)
	f.add(chainForward, "this is the server", through(expr.MetaKeyIIFNAME, tap), arpRequest(), arpTarget(server))
	if socket == SocketUDP {
		return
	}
	for _, n := range id.Neighbours {
		f.add(chainForward, "the server answers for this neighbour", through(expr.MetaKeyIIFNAME, tap), arpRequest(), arpTarget(netip.PrefixFrom(n.Address, 32)))
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
		f.accept(chainForward, "this is on the link", through(expr.MetaKeyIIFNAME, tap), arpRequest(), arpTarget(p))
	}
	f.add(chainForward, "the server answers for the subnet", through(expr.MetaKeyIIFNAME, tap), arpRequest(), arpTarget(id.PodAddress.Masked()))
}

func (f *Filter) add(chain, comment string, matches ...[]expr.Any) {
	f.rule(chain, comment, expr.VerdictDrop, matches)
}

func (f *Filter) accept(chain, comment string, matches ...[]expr.Any) {
	f.rule(chain, comment, expr.VerdictAccept, matches)
}

func (f *Filter) rule(chain, comment string, verdict expr.VerdictKind, matches [][]expr.Any) {
	exprs := append(slices.Concat(matches...), &expr.Counter{}, &expr.Verdict{Kind: verdict})
	f.rules = append(f.rules, filterRule{chain, comment, exprs})
}

// nestedTags is how many VLAN tags below the outermost one the filter looks through. The outermost is always out of the
// way: the kernel keeps it beside the frame (skb_vlan_untag).
const nestedTags = 2

// place is where in a packet a number of two bytes stands.
type place struct {
	base   expr.PayloadBase
	offset uint32
}

var (
	sourcePort    = place{expr.PayloadBaseTransportHeader, 0}
	transportPort = place{expr.PayloadBaseTransportHeader, 2}
)

// nestedPort is the UDP destination port behind so many tags of 4 bytes and an IPv4 header without options. The network
// header then begins with the first of these tags' TCI (IEEE 802.1Q, 9.6).
func nestedPort(tags int) place {
	return place{expr.PayloadBaseNetworkHeader, uint32(4*tags + 20 + 2)}
}

func through(key expr.MetaKey, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, equal(padded)}
}

func equal(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func load(p place, size uint32) *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: p.base, Offset: p.offset, Len: size}
}

func network16(n uint16) []byte { return []byte{byte(n >> 8), byte(n)} }

// protocol matches the packet's protocol, which is that behind the outermost VLAN tag.
func protocol(etherType uint16) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, equal(network16(etherType))}
}

func isIPv4() []expr.Any { return protocol(unix.ETH_P_IP) }
func isARP() []expr.Any  { return protocol(unix.ETH_P_ARP) }

func isUDP() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{unix.IPPROTO_UDP})}
}

func portIs(p place, number uint16) []expr.Any {
	return []expr.Any{load(p, 2), equal(network16(number))}
}

// toDHCP matches the ports of DHCP's server and client (RFC 2131, 4.1), which are neighbours.
func toDHCP(p place) []expr.Any {
	return []expr.Any{load(p, 2), &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: network16(67), ToData: network16(68)}}
}

// nestedUDP matches IPv4 UDP behind so many tags below the outermost.
func nestedUDP(tags int) []expr.Any {
	header := func(offset uint32) place { return place{expr.PayloadBaseNetworkHeader, offset} }
	n := uint32(4 * tags)
	return []expr.Any{
		load(header(n-2), 2), equal(network16(unix.ETH_P_IP)), // the innermost EtherType
		load(header(n+9), 1), equal([]byte{unix.IPPROTO_UDP}),
	}
}

// An ARP packet for IPv4 over Ethernet (RFC 826): operation at byte 6, sender's address at 14, target's at 24.
func arpRequest() []expr.Any {
	return append(isARP(), load(place{expr.PayloadBaseNetworkHeader, 6}, 2), equal(network16(1)))
}

func arpTarget(p netip.Prefix) []expr.Any { return arpAddress(24, p) }
func arpSender(p netip.Prefix) []expr.Any { return arpAddress(14, p) }

func arpAddress(offset uint32, p netip.Prefix) []expr.Any {
	match := []expr.Any{load(place{expr.PayloadBaseNetworkHeader, offset}, 4)}
	if p.Bits() < 32 {
		match = append(match, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)})
	}
	return append(match, equal(p.Masked().Addr().AsSlice()))
}

// ruleText renders a rule, whether we made it or the kernel told it, in the manner of nft(8). Counters are left out.
func ruleText(chain, comment string, exprs []expr.Any) string {
	var b strings.Builder
	b.WriteString(chain)
	name := false // what is compared next
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Meta:
			fmt.Fprintf(&b, " meta %d", e.Key)
			name = e.Key == expr.MetaKeyIIFNAME || e.Key == expr.MetaKeyOIFNAME
		case *expr.Payload:
			fmt.Fprintf(&b, " @%d,%d,%d", e.Base, e.Offset, e.Len)
			name = false
		case *expr.Cmp:
			fmt.Fprintf(&b, " %s", cmpText(e.Op, e.Data, name))
		case *expr.Range:
			fmt.Fprintf(&b, " %x-%x", e.FromData, e.ToData)
		case *expr.Verdict:
			fmt.Fprintf(&b, " %s", verdictText(e.Kind))
		case *expr.Bitwise:
			fmt.Fprintf(&b, " & %x ^ %x", e.Mask, e.Xor)
		case *expr.Counter:
		default:
			fmt.Fprintf(&b, " %T", e)
		}
	}
	return b.String() + " # " + comment
}

func cmpText(op expr.CmpOp, data []byte, name bool) string {
	if op != expr.CmpOpEq {
		return fmt.Sprintf("op%d %x", op, data)
	}
	if name && len(data) == unix.IFNAMSIZ {
		return unix.ByteSliceToString(data)
	}
	return fmt.Sprintf("%x", data)
}

func verdictText(kind expr.VerdictKind) string {
	switch kind {
	case expr.VerdictDrop:
		return "drop"
	case expr.VerdictAccept:
		return "accept"
	}
	return fmt.Sprintf("verdict %d", kind)
}
