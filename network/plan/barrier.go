package plan

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Barriers are routes of the pod that block: blackhole, prohibit, unreachable and throw. They have no link, so that nothing
// that podnic does to one touches them, and DHCP cannot express them. A guest that has the pod's address sends past them, since
// its frames do not see the pod's routing tables. So the filter drops what they block.

// Blocks reports whether the route says that there is no way. A throw ends the look-up in its table; behind the main one
// comes nothing but the table default, which is empty.
func (r Route) Blocks() bool {
	switch r.Type {
	case unix.RTN_BLACKHOLE, unix.RTN_PROHIBIT, unix.RTN_UNREACHABLE, unix.RTN_THROW:
		return true
	}
	return false
}

// KernelsOwn reports whether the kernel made the barrier: older ones show the end of every IPv6 look-up as a route.
func (r Route) KernelsOwn() bool { return r.Protocol == unix.RTPROT_KERNEL && r.Priority == ^uint32(0) }

// Blocked is a destination that the guest may not send to, but for some parts of it.
type Blocked struct {
	Prefix netip.Prefix   `json:"prefix"`
	But    []netip.Prefix `json:"but,omitempty"` // longer than the prefix, and within it
}

// What the filter takes: so many rules, each looked at for every frame of the guest, and so many parts in each
// (NFT_RULE_MAXEXPRS, include/net/netfilter/nf_tables.h, counts three expressions for a part).
const (
	maxBlocked = 64
	maxBut     = 32
)

// alwaysSent are destinations that programs reach without a route, by naming the link: multicast, broadcast, and the
// link-local ones that neighbour discovery needs.
var alwaysSent = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10"),
}

// inForce reports whether a barrier stops the pod's packets: one of the main table, unless a route of a lower metric leads
// to the same destination.
func (s *Snapshot) inForce(b Route) bool {
	return ofMainTable(b) && (b.Type != unix.RTN_THROW || !slices.ContainsFunc(s.Rules, Rule.custom)) &&
		!s.covered(b)
}

// covered reports whether the pod has a route of a lower metric to the barrier's destination.
func (s *Snapshot) covered(b Route) bool {
	return slices.ContainsFunc(s.ways(), func(r Route) bool { return r.Destination == b.Destination && r.Priority <= b.Priority })
}

func ofMainTable(r Route) bool {
	return r.Table == unix.RT_TABLE_MAIN && r.TOS == 0 && !r.Source.IsValid()
}

// ways are the routes by the pod's link that may make a way through a barrier.
func (s *Snapshot) ways() []Route {
	return slices.DeleteFunc(slices.Clone(s.Routes), func(r Route) bool {
		return !ofMainTable(r) || r.Type != unix.RTN_UNICAST || !r.uses(NIC)
	})
}

// Blocked are the barriers that are in force. The kernel goes by the longest prefix, so more specific routes by the pod's
// link are ways through them. None where that is too much for a filter.
func (s *Snapshot) Blocked() []Blocked {
	leads := slices.Clone(alwaysSent)
	for _, r := range s.ways() {
		leads = append(leads, r.Destination)
	}
	slices.SortFunc(leads, comparePrefixes)
	leads = slices.Compact(leads)
	var all []Blocked
	for _, r := range s.Barriers {
		if !s.inForce(r) || slices.ContainsFunc(all, func(b Blocked) bool { return b.Prefix == r.Destination }) {
			continue
		}
		b := Blocked{Prefix: r.Destination}
		for _, p := range leads {
			if p.Bits() > b.Prefix.Bits() && b.Prefix.Contains(p.Addr()) {
				b.But = append(b.But, p)
			}
		}
		if len(b.But) > maxBut || len(all) == maxBlocked {
			return nil
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Blocked) int { return comparePrefixes(a.Prefix, b.Prefix) })
	return all
}

// CheckBlocked looks through what comes from a file: that it is what blocked could have made.
func CheckBlocked(all []Blocked) error {
	if len(all) > maxBlocked {
		return fmt.Errorf("it blocks %d destinations, and a filter can hold %d", len(all), maxBlocked)
	}
	for _, b := range all {
		if !b.Prefix.IsValid() || b.Prefix != b.Prefix.Masked() || len(b.But) > maxBut {
			return fmt.Errorf("%s cannot be blocked", b.Prefix)
		}
		for _, p := range b.But {
			if !p.IsValid() || p != p.Masked() || p.Bits() <= b.Prefix.Bits() || !b.Prefix.Contains(p.Addr()) {
				return fmt.Errorf("%s is no part of %s", p, b.Prefix)
			}
		}
	}
	return nil
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// keepBarriers drops what the guest sends where the pod's own packets did not get. It accepts nothing, so that whatever it
// lets through is for the other rules. The chain leads to tags, and from matches what comes from the guest, where they see
// more than that.
func (f *Filter) keepBarriers(all []Blocked, chain, tags string, from []expr.Any) {
	const comment = "a route of the pod blocks this"
	for _, b := range all {
		kind, size := uint16(unix.ETH_P_IP), uint32(4)
		if b.Prefix.Addr().Is6() {
			kind, size = unix.ETH_P_IPV6, 16
		}
		f.drop(chain, comment, from, protocol(kind), b.matches(0, size))
		// Linux strips a tag of VLAN 0, so that what is behind a second one may reach its IP stack.
		f.drop(tags, comment, from, is16(networkHeader(2), kind), b.matches(vlanHeader, size))
	}
}

// matches compares a packet's destination, an address of so many bytes in a header of IP that begins there.
func (b Blocked) matches(header, size uint32) []expr.Any {
	match := sentTo(b.Prefix, header, size, expr.CmpOpEq)
	for _, p := range b.But {
		match = append(match, sentTo(p, header, size, expr.CmpOpNeq)...)
	}
	return match
}

// sentTo compares with a prefix. IPv4 and IPv6 have the destination at the offsets 16 and 24 (RFC 791, RFC 8200).
func sentTo(p netip.Prefix, header, size uint32, op expr.CmpOp) []expr.Any {
	if p.Bits() == 0 {
		return nil
	}
	offset := header + 16
	if p.Addr().Is6() {
		offset = header + 24
	}
	match := []expr.Any{load(networkHeader(offset), size)}
	if !p.IsSingleIP() {
		match = append(match, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(p.Bits(), int(size)*8), Xor: make([]byte, size)})
	}
	return append(match, &expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

// barriers warns of what blocks the pod's packets. Where nothing is served, there is no filter.
func (f *identifier) barriers() {
	var kept, lost []string
	filtered := len(f.from.Blocked()) > 0 && !f.id.Layer2Only()
	for _, b := range f.from.Barriers {
		switch {
		case filtered && f.from.inForce(b):
			kept = append(kept, b.String())
		case ofMainTable(b) && f.from.covered(b): // a route of a lower metric leads there
		default:
			lost = append(lost, b.String())
		}
	}
	if len(kept) > 0 {
		f.warn("routes of the pod that block (%s) are nothing that DHCP can say: the filter drops what the guest sends there", some(kept))
	}
	if len(lost) > 0 {
		f.warn("routes of the pod that block (%s) are nothing that DHCP can say: the guest is not held to them", some(lost))
	}
}
