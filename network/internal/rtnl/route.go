package rtnl

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// UnsupportedError names a thing of the pod's network that podnic could not put back, so that it does not begin.
type UnsupportedError string

func (e UnsupportedError) Error() string { return string(e) }

// refuses reports whether an error of a decoder counts: what is not to be put back need not be understood.
func (r *Conn) refuses(err error) bool {
	var unsupported UnsupportedError
	return err != nil && !(r.lenient && errors.As(err, &unsupported))
}

// Routes lists the routes of every table that use one of the links, and those that block, which use none. What the kernel
// keeps in the table local on its own follows from the addresses and is left out.
func (r *Conn) Routes(roles map[int]plan.Role, now plan.Instant) (all, barriers []plan.Route, err error) {
	messages, err := r.Dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{})
	if err != nil {
		return nil, nil, fmt.Errorf("list routes: %w", err)
	}
	for _, m := range messages {
		if len(m) < unix.SizeofRtMsg || m[0] != unix.AF_INET && m[0] != unix.AF_INET6 {
			continue // multicast routing, MPLS
		}
		route, keep, err := decodeRoute(m, roles, now)
		if r.refuses(err) {
			return nil, nil, err
		}
		switch {
		case keep:
			all = append(all, route)
		case route.Blocks() && !route.KernelsOwn():
			route.Hops = nil
			barriers = append(barriers, route)
		}
	}
	return all, barriers, nil
}

// routeAttributes are those that decodeRoute reads, or that follow from what it reads.
var routeAttributes = map[uint16]bool{
	unix.RTA_DST: true, unix.RTA_SRC: true, unix.RTA_OIF: true, unix.RTA_GATEWAY: true, unix.RTA_PRIORITY: true,
	unix.RTA_PREFSRC: true, unix.RTA_METRICS: true, unix.RTA_MULTIPATH: true, unix.RTA_FLOW: true, unix.RTA_CACHEINFO: true,
	unix.RTA_TABLE: true, rtaNexthopID: true, unix.RTA_ENCAP_TYPE: true, unix.RTA_VIA: true, unix.RTA_PREF: true, unix.RTA_EXPIRES: true, unix.RTA_TTL_PROPAGATE: true,
}

func decodeRoute(m []byte, roles map[int]plan.Role, now plan.Instant) (r plan.Route, keep bool, err error) {
	header := nl.DeserializeRtMsg(m)
	attrs, err := attributes(m[unix.SizeofRtMsg:])
	if err != nil {
		return r, false, fmt.Errorf("list routes: %w", err)
	}
	if header.Flags&unix.RTM_F_CLONED != 0 {
		return r, false, nil
	}
	zero := netip.IPv4Unspecified()
	if header.Family == unix.AF_INET6 {
		zero = netip.IPv6Unspecified()
	}
	r = plan.Route{
		Destination: prefixOf(attrs.get(unix.RTA_DST), header.Dst_len, zero),
		Table:       uint32(header.Table),
		Type:        header.Type,
		Protocol:    header.Protocol,
		Scope:       header.Scope,
		TOS:         header.Tos,
		Priority:    u32(attrs.get(unix.RTA_PRIORITY)),
		Preference:  u8(attrs.get(unix.RTA_PREF)),
	}
	if t, ok := attrs.find(unix.RTA_TABLE); ok {
		r.Table = u32(t)
	}
	if r.Table == unix.RT_TABLE_LOCAL && r.Protocol == unix.RTPROT_KERNEL {
		return r, false, nil
	}
	if header.Src_len > 0 {
		r.Source = prefixOf(attrs.get(unix.RTA_SRC), header.Src_len, zero)
	}
	r.PrefSrc, _ = netip.AddrFromSlice(attrs.get(unix.RTA_PREFSRC))
	if hops, ok := attrs.find(unix.RTA_MULTIPATH); ok {
		r.Hops, err = decodeHops(hops, roles)
		if err != nil && !errors.As(err, new(UnsupportedError)) {
			return r, false, err
		}
	} else {
		r.Hops = []plan.Hop{decodeHop(int(u32(attrs.get(unix.RTA_OIF))), uint32(header.Flags), 0, attrs, roles)}
	}
	if !slices.ContainsFunc(r.Hops, func(h plan.Hop) bool { return h.Link != "" }) {
		return r, false, nil
	}
	if c := attrs.get(unix.RTA_CACHEINFO); len(c) >= 12 {
		// struct rta_cacheinfo: rta_clntref, rta_lastuse, rta_expires in clock ticks of 1/100 s (USER_HZ).
		if expires := int32(u32(c[8:])); expires > 0 {
			r.Expires = now + plan.Instant(expires/100)
		}
	}
	if metrics, ok := attrs.find(unix.RTA_METRICS); ok {
		if err := decodeMetrics(metrics, &r); err != nil {
			return r, false, err
		}
	}
	if err == nil {
		err = checkCarried(r, attrs)
	}
	return r, true, err
}

// rtaNexthopID is RTA_NH_ID (include/uapi/linux/rtnetlink.h, Linux 5.3).
const rtaNexthopID = 30

// checkCarried refuses what an added route could not say again.
func checkCarried(r plan.Route, attrs attributeSet) error {
	if id := u32(attrs.get(rtaNexthopID)); id != 0 {
		return UnsupportedError(fmt.Sprintf("the route %s uses nexthop object %d, which podnic cannot put back", r, id))
	}
	if kind := attrs.get(unix.RTA_ENCAP_TYPE); len(kind) > 0 {
		return UnsupportedError(fmt.Sprintf("the route %s has an encapsulation (type %d), which podnic cannot put back", r, nl.NativeEndian().Uint16(kind)))
	}
	for kind := range attrs.all {
		if !routeAttributes[kind] {
			return UnsupportedError(fmt.Sprintf("the route %s has an attribute (RTA %d) that podnic does not know and could not put back", r, kind))
		}
	}
	return nil
}

func decodeHop(index int, flags uint32, weight int, attrs attributeSet, roles map[int]plan.Role) plan.Hop {
	h := plan.Hop{OnLink: flags&unix.RTNH_F_ONLINK != 0, Weight: weight, Realm: u32(attrs.get(unix.RTA_FLOW))}
	if role, ok := roles[index]; ok {
		h.Link = role
	} else {
		h.OtherIndex = index
	}
	if gw, ok := netip.AddrFromSlice(attrs.get(unix.RTA_GATEWAY)); ok {
		h.Gateway = gw
	} else if via := attrs.get(unix.RTA_VIA); len(via) > 2 { // struct rtvia: family, address
		h.Gateway, _ = netip.AddrFromSlice(via[2:])
	}
	return h
}

// decodeHops reads an array of struct rtnexthop, each followed by its attributes.
func decodeHops(b []byte, roles map[int]plan.Role) (hops []plan.Hop, unsupported error) {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(nl.NativeEndian().Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return nil, fmt.Errorf("list routes: next hop of %d bytes in %d", size, len(b))
		}
		attrs, err := attributes(b[unix.SizeofRtNexthop:size])
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		if kind, ok := attrs.find(unix.RTA_ENCAP_TYPE); ok {
			unsupported = UnsupportedError(fmt.Sprintf("a multipath route has an encapsulation (type %d), which podnic cannot put back", nl.NativeEndian().Uint16(kind)))
		}
		hops = append(hops, decodeHop(int(int32(u32(b[4:]))), uint32(b[2]), int(b[3])+1, attrs, roles))
		b = b[min(len(b), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return hops, unsupported
}

const rtaxCCAlgo = 16 // RTAX_CC_ALGO, the one metric that is a name

func decodeMetrics(b []byte, r *plan.Route) error {
	metrics, err := attributes(b)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for kind, value := range metrics.all {
		if kind == rtaxCCAlgo {
			r.Congestion = text(value)
			continue
		}
		if r.Metrics == nil {
			r.Metrics = make(map[uint16]uint32)
		}
		r.Metrics[kind] = u32(value)
	}
	return nil
}

func prefixOf(b []byte, bits uint8, zero netip.Addr) netip.Prefix {
	if a, ok := netip.AddrFromSlice(b); ok {
		return netip.PrefixFrom(a, int(bits))
	}
	return netip.PrefixFrom(zero, int(bits))
}

// encodeRoute makes the message of RTM_NEWROUTE and RTM_DELROUTE.
func encodeRoute(r plan.Route, index func(plan.Hop) int, now plan.Instant) []nl.NetlinkRequestData {
	header := &nl.RtMsg{}
	header.Family = unix.AF_INET
	if !r.Is4() {
		header.Family = unix.AF_INET6
	}
	header.Dst_len = uint8(r.Destination.Bits())
	header.Tos = r.TOS
	header.Table = unix.RT_TABLE_UNSPEC
	header.Protocol = r.Protocol
	header.Scope = r.Scope
	header.Type = r.Type
	data := []nl.NetlinkRequestData{header, nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(r.Table))}
	add := func(kind int, value []byte) { data = append(data, nl.NewRtAttr(kind, value)) }
	if r.Destination.Bits() > 0 {
		add(unix.RTA_DST, r.Destination.Addr().AsSlice())
	}
	if r.Source.IsValid() {
		header.Src_len = uint8(r.Source.Bits())
		add(unix.RTA_SRC, r.Source.Addr().AsSlice())
	}
	if r.Priority != 0 {
		add(unix.RTA_PRIORITY, nl.Uint32Attr(r.Priority))
	}
	if r.PrefSrc.IsValid() {
		add(unix.RTA_PREFSRC, r.PrefSrc.AsSlice())
	}
	if r.Preference != 0 {
		add(unix.RTA_PREF, []byte{r.Preference})
	}
	if r.Expires != 0 {
		add(unix.RTA_EXPIRES, nl.Uint32Attr(r.Expires.Remaining(now)))
	}
	if len(r.Metrics) > 0 || r.Congestion != "" {
		metrics := nl.NewRtAttr(unix.RTA_METRICS, nil)
		for _, kind := range slices.Sorted(maps.Keys(r.Metrics)) {
			metrics.AddRtAttr(int(kind), nl.Uint32Attr(r.Metrics[kind]))
		}
		if r.Congestion != "" {
			metrics.AddRtAttr(rtaxCCAlgo, nl.ZeroTerminated(r.Congestion))
		}
		data = append(data, metrics)
	}
	if len(r.Hops) == 1 {
		h := r.Hops[0]
		if h.OnLink {
			header.Flags |= unix.RTNH_F_ONLINK
		}
		add(unix.RTA_OIF, nl.Uint32Attr(uint32(index(h))))
		for _, a := range encodeHop(h, r.Is4()) {
			data = append(data, a)
		}
		return data
	}
	var hops []byte
	for _, h := range r.Hops {
		next := &nl.RtNexthop{RtNexthop: unix.RtNexthop{Ifindex: int32(index(h)), Hops: uint8(max(h.Weight, 1) - 1)}}
		if h.OnLink {
			next.Flags |= unix.RTNH_F_ONLINK
		}
		for _, a := range encodeHop(h, r.Is4()) {
			next.Children = append(next.Children, a)
		}
		hops = append(hops, next.Serialize()...)
	}
	add(unix.RTA_MULTIPATH, hops)
	return data
}

func encodeHop(h plan.Hop, is4 bool) []*nl.RtAttr {
	var data []*nl.RtAttr
	switch {
	case !h.Gateway.IsValid():
	case h.Gateway.Is4() == is4:
		data = append(data, nl.NewRtAttr(unix.RTA_GATEWAY, h.Gateway.AsSlice()))
	default:
		via := make([]byte, 2, 2+16)
		family := uint16(unix.AF_INET6)
		if h.Gateway.Is4() {
			family = unix.AF_INET
		}
		nl.NativeEndian().PutUint16(via, family)
		data = append(data, nl.NewRtAttr(unix.RTA_VIA, append(via, h.Gateway.AsSlice()...)))
	}
	if h.Realm != 0 {
		data = append(data, nl.NewRtAttr(unix.RTA_FLOW, nl.Uint32Attr(h.Realm)))
	}
	return data
}
