package rtnl

import (
	"net/netip"

	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What a default route leads to, in the words of a refusal.
const (
	WholeIPv4  = "IPv4"
	FirstHalf  = "IPv4 in two halves"
	SecondHalf = "the second half"
	WholeIPv6  = "IPv6"
)

// egress is where a default route leads.
type egress struct {
	Link   int
	metric uint32
}

// Defaults are the default routes of the table main, of whatever link, by what they are.
func (r *Conn) Defaults() (map[string]egress, error) {
	messages, err := r.Dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{})
	if err != nil {
		return nil, err
	}
	defaults := make(map[string]egress)
	for _, m := range messages {
		if err := addDefault(defaults, m); err != nil {
			return nil, err
		}
	}
	return defaults, nil
}

// addDefault keeps the default route with the lowest metric of each kind, given one route.
func addDefault(defaults map[string]egress, m []byte) error {
	if len(m) < unix.SizeofRtMsg {
		return nil
	}
	h := nl.DeserializeRtMsg(m)
	if h.Type != unix.RTN_UNICAST || h.Table != unix.RT_TABLE_MAIN || h.Flags&unix.RTM_F_CLONED != 0 || h.Tos != 0 {
		return nil
	}
	attrs, err := attributes(m[unix.SizeofRtMsg:])
	if err != nil {
		return err
	}
	var what string
	switch destination, _ := netip.AddrFromSlice(attrs.get(unix.RTA_DST)); {
	case h.Family == unix.AF_INET && h.Dst_len == 0:
		what = WholeIPv4
	case h.Family == unix.AF_INET6 && h.Dst_len == 0 && h.Src_len == 0:
		what = WholeIPv6
	case h.Family != unix.AF_INET || h.Dst_len != 1:
		return nil
	case destination == plan.Halves[1].Addr():
		what = SecondHalf
	default:
		what = FirstHalf
	}
	index := int(u32(attrs.get(unix.RTA_OIF)))
	if hops := attrs.get(unix.RTA_MULTIPATH); index == 0 && len(hops) >= unix.SizeofRtNexthop {
		index = int(int32(u32(hops[4:])))
	}
	metric := u32(attrs.get(unix.RTA_PRIORITY))
	if best, ok := defaults[what]; index != 0 && (!ok || metric < best.metric) {
		defaults[what] = egress{index, metric}
	}
	return nil
}
