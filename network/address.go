package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ifaProto is IFA_PROTO (include/uapi/linux/if_addr.h, Linux 5.18): who set the address. Older kernels ignore it.
const ifaProto = 11

// keptFlags are the flags of an address that its owner sets. The others (tentative, deprecated, permanent, secondary, …)
// are the kernel's view of it and follow from the rest.
const keptFlags = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

// Instant is a moment on the boot-time clock (CLOCK_BOOTTIME), in seconds. The zero value is never: a record belongs to
// one boot, so that an absolute moment stays true however long the wiring lasts.
type Instant int64

// lifetimeSlack is by how many seconds two readings of the same lifetime may differ: the kernel reports remaining whole
// seconds.
const lifetimeSlack = 2

func (a Instant) near(b Instant) bool {
	if a == 0 || b == 0 {
		return a == b
	}
	return max(a-b, b-a) <= lifetimeSlack
}

// remaining is what the kernel wants: the seconds left, or its value for for ever.
func (a Instant) remaining(now Instant) uint32 {
	switch {
	case a == 0:
		return infiniteLifetime
	case a <= now:
		return 0
	}
	return uint32(a - now)
}

// infiniteLifetime is INFINITY_LIFE_TIME (include/net/addrconf.h).
const infiniteLifetime = ^uint32(0)

// past is every moment that is over: an address whose preferred lifetime has run out has none, and not one that ran out
// when somebody looked.
const past Instant = 1

func untilInstant(seconds uint32, now Instant) Instant {
	switch seconds {
	case infiniteLifetime:
		return 0
	case 0:
		return past
	}
	return now + Instant(seconds)
}

func bootTime() (Instant, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read the boot-time clock: %w", err)
	}
	return Instant(ts.Sec), nil
}

// Address is an address of a link with all that RTM_NEWADDR can say of it.
type Address struct {
	Link      Role         `json:"link"`
	Local     netip.Prefix `json:"local"`
	Peer      netip.Addr   `json:"peer,omitzero"` // the other end's, on a point-to-point link; then the prefix length is its
	Broadcast netip.Addr   `json:"broadcast,omitzero"`
	Label     string       `json:"label,omitempty"`
	Scope     uint8        `json:"scope,omitempty"`
	Flags     uint32       `json:"flags,omitempty"`    // IFA_F_… out of keptFlags
	Protocol  uint8        `json:"protocol,omitempty"` // IFAPROT_…
	Metric    uint32       `json:"metric,omitempty"`   // of the connected route
	// ValidUntil and PreferredUntil; zero means for ever.
	ValidUntil     Instant `json:"validUntil,omitempty"`
	PreferredUntil Instant `json:"preferredUntil,omitempty"`
}

// same compares all but the lifetimes.
func (a Address) same(b Address) bool {
	a.ValidUntil, a.PreferredUntil, b.ValidUntil, b.PreferredUntil = 0, 0, 0, 0
	return a == b
}

func (a Address) sameLifetimes(b Address) bool {
	return a.ValidUntil.near(b.ValidUntil) && a.PreferredUntil.near(b.PreferredUntil)
}

func (a Address) is4() bool { return a.Local.Addr().Is4() }

// connected is the prefix that the kernel makes a route for when the address is added, and whether there is one
// (fib_add_ifaddr and addrconf_prefix_route: IPv4 has none for a single address, IPv6 has one always).
func (a Address) connected() (netip.Prefix, bool) {
	base := a.Local.Addr()
	if a.Peer.IsValid() && a.is4() {
		base = a.Peer
	}
	prefix := netip.PrefixFrom(base, a.Local.Bits()).Masked()
	if a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
		return prefix, false
	}
	if a.is4() && a.Local.Bits() == 32 && base == a.Local.Addr() {
		return prefix, false
	}
	return prefix, true
}

// toPeer is the prefix of the peer, which the kernel makes a route for besides, whether or not the address has a connected
// one (__ipv6_ifa_notify). Of IPv4, the peer's is the connected one.
func (a Address) toPeer() (netip.Prefix, bool) {
	return netip.PrefixFrom(a.Peer, 128), !a.is4() && a.Peer.IsValid()
}

// String is what ip-address(8) would print in front.
func (a Address) String() string {
	if a.Peer.IsValid() {
		return fmt.Sprintf("%s peer %s/%d", a.Local.Addr(), a.Peer, a.Local.Bits())
	}
	return a.Local.String()
}

// addresses lists the addresses of the given links in the order in which they would have to be added: the kernel lists
// IPv6 addresses of one scope last first (ipv6_link_dev_addr).
func (r *rtnl) addresses(roles map[int]Role, now Instant) ([]Address, error) {
	messages, err := r.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var v4, v6 []Address
	for _, m := range messages {
		a, keep, err := decodeAddress(m, roles, now)
		switch {
		case err != nil:
			return nil, fmt.Errorf("list addresses: %w", err)
		case keep && a.is4():
			v4 = append(v4, a)
		case keep:
			v6 = append(v6, a)
		}
	}
	slices.Reverse(v6)
	return append(v4, v6...), nil
}

func decodeAddress(m []byte, roles map[int]Role, now Instant) (a Address, keep bool, err error) {
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
	a = Address{
		Link:     role,
		Local:    netip.PrefixFrom(local, int(header.Prefixlen)),
		Label:    text(attrs.get(unix.IFA_LABEL)),
		Scope:    header.Scope,
		Flags:    flags & keptFlags,
		Protocol: u8(attrs.get(ifaProto)),
		Metric:   u32(attrs.get(unix.IFA_RT_PRIORITY)),
	}
	if address.IsValid() && address != local {
		a.Peer = address
	}
	a.Broadcast, _ = netip.AddrFromSlice(attrs.get(unix.IFA_BROADCAST))
	if c := attrs.get(unix.IFA_CACHEINFO); len(c) >= 8 && flags&unix.IFA_F_PERMANENT == 0 {
		a.PreferredUntil, a.ValidUntil = untilInstant(u32(c), now), untilInstant(u32(c[4:]), now)
	} else if flags&unix.IFA_F_DEPRECATED != 0 {
		a.PreferredUntil = past // for IPv4, the lifetimes say that both are for ever (inet_fill_ifaddr)
	} else if len(c) >= 8 && u32(c) != infiniteLifetime {
		a.PreferredUntil = untilInstant(u32(c), now) // permanent, but it will be deprecated
	}
	return a, true, nil
}

// encodeAddressDelete makes the message of RTM_DELADDR. It names the address and no more: the kernel would look for a label too,
// and renaming a link changes labels.
func encodeAddressDelete(a Address, index int) []nl.NetlinkRequestData {
	return encodeAddress(Address{Local: a.Local, Peer: a.Peer}, index, 0)
}

// encodeAddress makes the message of RTM_NEWADDR.
func encodeAddress(a Address, index int, now Instant) []nl.NetlinkRequestData {
	family := unix.AF_INET
	if !a.is4() {
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
		nl.NativeEndian().PutUint32(cache[0:], a.PreferredUntil.remaining(now))
		nl.NativeEndian().PutUint32(cache[4:], a.ValidUntil.remaining(now))
		data = append(data, nl.NewRtAttr(unix.IFA_CACHEINFO, cache))
	}
	return data
}
