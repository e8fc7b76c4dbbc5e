package rtnl

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ifaProto is IFA_PROTO (include/uapi/linux/if_addr.h, Linux 5.18): who set the address. Older kernels ignore it.
const ifaProto = 11

// BootTime is now.
func BootTime() (plan.Instant, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read the boot-time clock: %w", err)
	}
	return plan.Instant(ts.Sec), nil
}

// Addresses lists the Addresses of the given links in the order in which they would have to be added: the kernel lists
// IPv6 Addresses of one scope last first (ipv6_link_dev_addr).
func (r *Conn) Addresses(roles map[int]plan.Role, now plan.Instant) ([]plan.Address, error) {
	messages, err := r.Dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var v4, v6 []plan.Address
	for _, m := range messages {
		a, keep, err := decodeAddress(m, roles, now)
		switch {
		case err != nil:
			return nil, fmt.Errorf("list addresses: %w", err)
		case keep && a.Is4():
			v4 = append(v4, a)
		case keep:
			v6 = append(v6, a)
		}
	}
	slices.Reverse(v6)
	return append(v4, v6...), nil
}

// IPv6Age is for how long a link has had its first IPv6 address: that of a link that was just set up is young.
func (r *Conn) IPv6Age(link int) (time.Duration, error) {
	messages, err := r.Dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_INET6))
	if err != nil {
		return 0, fmt.Errorf("list addresses: %w", err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	var oldest time.Duration
	for _, m := range messages {
		if len(m) < unix.SizeofIfAddrmsg || int(nl.DeserializeIfAddrmsg(m).Index) != link {
			continue
		}
		attrs, err := attributes(m[unix.SizeofIfAddrmsg:])
		if err != nil {
			return 0, fmt.Errorf("list addresses: %w", err)
		}
		// struct ifa_cacheinfo: after the lifetimes cstamp, in 1/100 s since the kernel began (put_cacheinfo, cstamp_delta).
		if c := attrs.get(unix.IFA_CACHEINFO); len(c) >= 12 {
			oldest = max(oldest, time.Duration(now.Nano())-time.Duration(u32(c[8:]))*(time.Second/100))
		}
	}
	return oldest, nil
}

func decodeAddress(m []byte, roles map[int]plan.Role, now plan.Instant) (a plan.Address, keep bool, err error) {
	if len(m) < unix.SizeofIfAddrmsg {
		return a, false, fmt.Errorf("address message of %d bytes", len(m))
	}
	header := nl.DeserializeIfAddrmsg(m)
	role, ok := roles[int(header.Index)]
	if !ok || header.Family != unix.AF_INET && header.Family != unix.AF_INET6 {
		return a, false, nil
	}
	attrs, err := attributes(m[unix.SizeofIfAddrmsg:])
	if err != nil {
		return a, false, err
	}
	flags := uint32(header.Flags)
	if v, ok := attrs.find(unix.IFA_FLAGS); ok {
		flags = u32(v)
	}
	// The same bit means "secondary" in IPv4, which follows from the order, and "temporary" in IPv6: made by the kernel
	// from another address (RFC 8981), and not settable.
	if header.Family == unix.AF_INET6 && flags&unix.IFA_F_TEMPORARY != 0 {
		return a, false, nil
	}
	address, _ := netip.AddrFromSlice(attrs.get(unix.IFA_ADDRESS))
	local, ok := netip.AddrFromSlice(attrs.get(unix.IFA_LOCAL))
	if !ok {
		local = address // IPv6 without a peer has IFA_ADDRESS alone
	}
	if !local.IsValid() {
		return a, false, fmt.Errorf("address message without an address")
	}
	a = plan.Address{
		Link:     role,
		Local:    netip.PrefixFrom(local, int(header.Prefixlen)),
		Label:    text(attrs.get(unix.IFA_LABEL)),
		Scope:    header.Scope,
		Flags:    flags & plan.KeptFlags,
		Protocol: u8(attrs.get(ifaProto)),
		Metric:   u32(attrs.get(unix.IFA_RT_PRIORITY)),
	}
	if address.IsValid() && address != local {
		a.Peer = address
	}
	a.Broadcast, _ = netip.AddrFromSlice(attrs.get(unix.IFA_BROADCAST))
	if c := attrs.get(unix.IFA_CACHEINFO); len(c) >= 8 && flags&unix.IFA_F_PERMANENT == 0 {
		a.PreferredUntil, a.ValidUntil = plan.UntilInstant(u32(c), now), plan.UntilInstant(u32(c[4:]), now)
	} else if flags&unix.IFA_F_DEPRECATED != 0 {
		a.PreferredUntil = plan.Past // for IPv4, the lifetimes say that both are for ever (inet_fill_ifaddr)
	} else if len(c) >= 8 && u32(c) != plan.InfiniteLifetime {
		a.PreferredUntil = plan.UntilInstant(u32(c), now) // permanent, but it will be deprecated
	}
	return a, true, nil
}

// EncodeAddressDelete makes the message of RTM_DELADDR. It names the address and no more: the kernel would look for a label too,
// and renaming a link changes labels.
func EncodeAddressDelete(a plan.Address, index int) []nl.NetlinkRequestData {
	return EncodeAddress(plan.Address{Local: a.Local, Peer: a.Peer}, index, 0)
}

// EncodeAddress makes the message of RTM_NEWADDR.
func EncodeAddress(a plan.Address, index int, now plan.Instant) []nl.NetlinkRequestData {
	family := unix.AF_INET
	if !a.Is4() {
		family = unix.AF_INET6
	}
	header := nl.NewIfAddrmsg(family)
	header.Index = uint32(index)
	header.Prefixlen = uint8(a.Local.Bits())
	header.Scope = a.Scope
	header.Flags = uint8(a.Flags)
	remote := a.Local.Addr()
	if a.Peer.IsValid() {
		remote = a.Peer
	}
	data := []nl.NetlinkRequestData{header,
		nl.NewRtAttr(unix.IFA_LOCAL, a.Local.Addr().AsSlice()),
		nl.NewRtAttr(unix.IFA_ADDRESS, remote.AsSlice()),
		nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(a.Flags)),
	}
	if a.Broadcast.IsValid() {
		data = append(data, nl.NewRtAttr(unix.IFA_BROADCAST, a.Broadcast.AsSlice()))
	}
	if a.Label != "" {
		data = append(data, nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(a.Label)))
	}
	if a.Protocol != 0 {
		data = append(data, nl.NewRtAttr(ifaProto, []byte{a.Protocol}))
	}
	if a.Metric != 0 {
		data = append(data, nl.NewRtAttr(unix.IFA_RT_PRIORITY, nl.Uint32Attr(a.Metric)))
	}
	if a.ValidUntil != 0 || a.PreferredUntil != 0 {
		cache := make([]byte, unix.SizeofIfaCacheinfo)
		nl.NativeEndian().PutUint32(cache[0:], a.PreferredUntil.Remaining(now))
		nl.NativeEndian().PutUint32(cache[4:], a.ValidUntil.Remaining(now))
		data = append(data, nl.NewRtAttr(unix.IFA_CACHEINFO, cache))
	}
	return data
}
