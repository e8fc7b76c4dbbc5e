package plan

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Matches of the filter's rules, as the kernel has them: each loads something into a register and compares it.

// place is where in a packet something stands.
type place struct {
	base   expr.PayloadBase
	offset uint32
}

// UDP's ports. The kernel finds the header behind IP options. The first fragment of a datagram holds both: fragments are cut at
// multiples of 8 bytes (RFC 791), and that is all of the header. In another fragment of IPv4 nftables takes for ports what is
// at their place (nft_payload_fast_eval, net/netfilter/nf_tables_core.c): see isFirstFragment4, and keepIPv6 for IPv6.
var (
	sourcePort    = place{expr.PayloadBaseTransportHeader, 0}
	transportPort = place{expr.PayloadBaseTransportHeader, 2}
)

// networkHeader is a place counted from where the network header begins.
func networkHeader(offset uint32) place { return place{expr.PayloadBaseNetworkHeader, offset} }

// vlanHeader is how long a VLAN tag is: in a packet with a second one, the network header begins with that tag's TCI, its
// EtherType is at 2, and IP's header follows (IEEE 802.1Q, 9.6).
const vlanHeader = 4

func through(key expr.MetaKey, name string) []expr.Any { return linkName(key, expr.CmpOpEq, name) }

func notThrough(key expr.MetaKey, name string) []expr.Any { return linkName(key, expr.CmpOpNeq, name) }

func linkName(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: padded}}
}

func equal(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func load(p place, size uint32) *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: p.base, Offset: p.offset, Len: size}
}

func network16(n uint16) []byte { return []byte{byte(n >> 8), byte(n)} }

// linkHeader is a place counted from where the Ethernet header begins.
func linkHeader(offset uint32) place { return place{expr.PayloadBaseLLHeader, offset} }

func is(p place, data []byte) []expr.Any { return []expr.Any{load(p, uint32(len(data))), equal(data)} }

func isNot(p place, data []byte) []expr.Any {
	return []expr.Any{load(p, uint32(len(data))), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: data}}
}

// isIn matches an address in a prefix that is shorter than the address.
func isIn(p place, in netip.Prefix) []expr.Any {
	size := uint32(in.Addr().BitLen() / 8)
	mask := net.CIDRMask(in.Bits(), in.Addr().BitLen())
	return []expr.Any{
		load(p, size),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		equal(in.Masked().Addr().AsSlice()),
	}
}

func is8(p place, n byte) []expr.Any { return []expr.Any{load(p, 1), equal([]byte{n})} }

func isNot8(p place, n byte) []expr.Any {
	return []expr.Any{load(p, 1), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{n}}}
}

func is16(p place, n uint16) []expr.Any { return []expr.Any{load(p, 2), equal(network16(n))} }

// protocol matches the packet's protocol, which is that behind the outermost VLAN tag.
func protocol(etherType uint16) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, equal(network16(etherType))}
}

// l4 matches the transport protocol, which the kernel finds behind IP options and extension headers.
func l4(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{number})}
}

func isUDP() []expr.Any { return l4(unix.IPPROTO_UDP) }

// soundIPv4 matches, of what has the EtherType of IPv4, what has a header of that version and of sound lengths: of another
// the kernel tells no transport protocol (__nft_set_pktinfo_ipv4_validate), so that no comparison with one holds. 255 is
// reserved (RFC 3232).
func soundIPv4() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.IPPROTO_RAW}}}
}

// toDHCP matches the ports of DHCP's server and client (RFC 2131, 4.1), which are neighbours.
func toDHCP(p place) []expr.Any {
	return []expr.Any{load(p, 2), &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: network16(67), ToData: network16(68)}}
}

// isDHCP matches a datagram to DHCP's server or client, or the first fragment of one.
func isDHCP() []expr.Any { return slices.Concat(isUDP(), toDHCP(transportPort), isFirstFragment4()) }

// isFirstFragment4 and isFurtherFragment4 look at the offset of a fragment, the lower 13 bits at 6 (RFC 791, 3.1): that of
// the first, and of what is not a fragment, is 0.
func isFirstFragment4() []expr.Any { return append(fragmentOffset4(), equal(network16(0))) }
func isFurtherFragment4() []expr.Any {
	return append(fragmentOffset4(), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: network16(0)})
}

func fragmentOffset4() []expr.Any {
	return []expr.Any{
		load(networkHeader(6), 2),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: network16(0x1fff), Xor: network16(0)},
	}
}

// snap matches the LLC and SNAP headers before a packet of that EtherType (RFC 1042).
func snap(etherType uint16) []expr.Any {
	return []expr.Any{load(networkHeader(0), 8), equal(append([]byte{0xaa, 0xaa, 3, 0, 0, 0}, network16(etherType)...))}
}

// An ARP packet for IPv4 over Ethernet (RFC 826): operation at byte 6, sender's address at 14, target's at 24.
func arpRequest() []expr.Any { return append(protocol(unix.ETH_P_ARP), is16(networkHeader(6), 1)...) }

func arpTarget(p netip.Prefix) []expr.Any { return arpAddress(24, p) }

func arpSender(p netip.Prefix) []expr.Any { return arpAddress(14, p) }

func arpAddress(offset uint32, p netip.Prefix) []expr.Any {
	match := []expr.Any{load(networkHeader(offset), 4)}
	if p.Bits() < 32 {
		match = append(match, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)})
	}
	return append(match, equal(p.Masked().Addr().AsSlice()))
}

// RuleText renders a rule, whether we made it or the kernel told it, in the manner of nft(8). Counters are left out.
func RuleText(chain FilterChain, comment string, exprs []expr.Any) string {
	var b strings.Builder
	b.WriteString(chain.place())
	name := false // what is compared next
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Meta:
			fmt.Fprintf(&b, " meta %d", e.Key)
			if e.SourceRegister {
				b.WriteString(" set")
			}
			name = e.Key == expr.MetaKeyIIFNAME || e.Key == expr.MetaKeyOIFNAME
		case *expr.Payload:
			fmt.Fprintf(&b, " @%d,%d,%d", e.Base, e.Offset, e.Len)
			if e.OperationType == expr.PayloadWrite {
				b.WriteString(" set")
				if e.CsumType != expr.CsumTypeNone {
					fmt.Fprintf(&b, " sum @%d,%d", e.Base, e.CsumOffset)
				}
				if e.CsumFlags != 0 {
					b.WriteString(" and transport's")
				}
			}
			name = false
		case *expr.Cmp:
			fmt.Fprintf(&b, " %s", cmpText(e.Op, e.Data, name))
		case *expr.Exthdr:
			fmt.Fprintf(&b, " exthdr %d,%d,%d", e.Type, e.Offset, e.Len)
			name = false
		case *expr.Range:
			if e.Op == expr.CmpOpNeq {
				b.WriteString(" !=")
			}
			fmt.Fprintf(&b, " %x-%x", e.FromData, e.ToData)
		case *expr.Verdict:
			fmt.Fprintf(&b, " %s", verdictText(e))
		case *expr.Bitwise:
			fmt.Fprintf(&b, " & %x ^ %x", e.Mask, e.Xor)
		case *expr.Immediate:
			fmt.Fprintf(&b, " load %x", e.Data)
		case *expr.Reject:
			fmt.Fprintf(&b, " reject %d %d", e.Type, e.Code)
		case *Forward:
			fmt.Fprintf(&b, " %s", e)
		case *Unknown:
			fmt.Fprintf(&b, " %s?", e.Name)
		case *expr.Counter:
		default:
			fmt.Fprintf(&b, " %T", e)
		}
	}
	return b.String() + " # " + comment
}

func cmpText(op expr.CmpOp, data []byte, name bool) string {
	text := fmt.Sprintf("%x", data)
	if name && len(data) == unix.IFNAMSIZ {
		text = unix.ByteSliceToString(data)
	}
	switch op {
	case expr.CmpOpEq:
		return text
	case expr.CmpOpNeq:
		return "!= " + text
	}
	return fmt.Sprintf("op%d %s", op, text)
}

func verdictText(v *expr.Verdict) string {
	switch v.Kind {
	case expr.VerdictDrop:
		return "drop"
	case expr.VerdictAccept:
		return "accept"
	case expr.VerdictGoto:
		return "goto " + v.Chain
	case expr.VerdictJump:
		return "jump " + v.Chain
	case expr.VerdictReturn:
		return "return"
	}
	return fmt.Sprintf("verdict %d %s", v.Kind, v.Chain)
}

// icmpType is the type of a message of ICMP or ICMPv6.
var icmpType = place{expr.PayloadBaseTransportHeader, 0}

// Messages of neighbour discovery (RFC 4861, 4), and those that ask for an echo (RFC 4443, 4).
const (
	echoRequest            = 128
	echoReply              = 129
	routerSolicitation     = 133
	routerAdvertisement    = 134
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
	redirectMessage        = 137
)

// marked matches a mark, and setMark sets it: a number in the machine's own byte order.
func marked(mark uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(binary.NativeEndian.AppendUint32(nil, mark))}
}

func setMark(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binary.NativeEndian.AppendUint32(nil, mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

// write puts what the register holds into the packet.
func write(p place, size uint32) *expr.Payload {
	return &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: p.base, Offset: p.offset, Len: size}
}

// put writes data into the packet.
func put(p place, data ...byte) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: data}, write(p, uint32(len(data)))}
}

// toThisHost has the stack take a frame as one to the link's own MAC.
func toThisHost() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{unix.PACKET_HOST}},
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, SourceRegister: true, Register: 1},
	}
}
