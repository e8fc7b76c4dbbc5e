package plan

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// KeptFlags are the flags of an address that its owner sets. The others (tentative, deprecated, permanent, secondary, …)
// are the kernel's view of it and follow from the rest.
const KeptFlags = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

// Instant is a moment on the boot-time clock (CLOCK_BOOTTIME), in seconds. The zero value is never: a record belongs to
// one boot, so that an absolute moment stays true however long the wiring lasts.
type Instant int64

// LifetimeSlack is by how many seconds two readings of the same lifetime may differ: the kernel reports remaining whole
// seconds.
const LifetimeSlack = 2

func (a Instant) near(b Instant) bool {
	if a == 0 || b == 0 {
		return a == b
	}
	return max(a-b, b-a) <= LifetimeSlack
}

// Remaining is what the kernel wants: the seconds left, or its value for for ever.
func (a Instant) Remaining(now Instant) uint32 {
	switch {
	case a == 0:
		return InfiniteLifetime
	case a <= now:
		return 0
	}
	return uint32(a - now)
}

// InfiniteLifetime is INFINITY_LIFE_TIME (include/net/addrconf.h).
const InfiniteLifetime = ^uint32(0)

// Past is every moment that is over: an address whose preferred lifetime has run out has none, and not one that ran out
// when somebody looked.
const Past Instant = 1

// UntilInstant is the moment at which a lifetime, in the kernel's seconds, has run out.
func UntilInstant(seconds uint32, now Instant) Instant {
	switch seconds {
	case InfiniteLifetime:
		return 0
	case 0:
		return Past
	}
	return now + Instant(seconds)
}

// Address is an address of a link with all that RTM_NEWADDR can say of it.
type Address struct {
	Link      Role         `json:"link"`
	Local     netip.Prefix `json:"local"`
	Peer      netip.Addr   `json:"peer,omitzero"` // the other end's, on a point-to-point link; then the prefix length is its
	Broadcast netip.Addr   `json:"broadcast,omitzero"`
	Label     string       `json:"label,omitempty"`
	Scope     uint8        `json:"scope,omitempty"`
	Flags     uint32       `json:"flags,omitempty"`    // IFA_F_… out of KeptFlags
	Protocol  uint8        `json:"protocol,omitempty"` // IFAPROT_…
	Metric    uint32       `json:"metric,omitempty"`   // of the connected route
	// ValidUntil and PreferredUntil; zero means for ever.
	ValidUntil     Instant `json:"validUntil,omitempty"`
	PreferredUntil Instant `json:"preferredUntil,omitempty"`
}

// Same compares all but the lifetimes.
func (a Address) Same(b Address) bool {
	a.ValidUntil, a.PreferredUntil, b.ValidUntil, b.PreferredUntil = 0, 0, 0, 0
	return a == b
}

// SameLifetimes compares the lifetimes, with the slack that reading them has.
func (a Address) SameLifetimes(b Address) bool {
	return a.ValidUntil.near(b.ValidUntil) && a.PreferredUntil.near(b.PreferredUntil)
}

// Is4 reports whether the address is one of IPv4, and else it is one of IPv6.
func (a Address) Is4() bool { return a.Local.Addr().Is4() }

// Connected is the prefix that the kernel makes a route for when the address is added, and whether there is one
// (fib_add_ifaddr and addrconf_prefix_route: IPv4 has none for a single address, IPv6 has one always).
func (a Address) Connected() (netip.Prefix, bool) {
	base := a.Local.Addr()
	if a.Peer.IsValid() && a.Is4() {
		base = a.Peer
	}
	prefix := netip.PrefixFrom(base, a.Local.Bits()).Masked()
	if a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
		return prefix, false
	}
	if a.Is4() && a.Local.Bits() == 32 && base == a.Local.Addr() {
		return prefix, false
	}
	return prefix, true
}

// toPeer is the prefix of the peer, which the kernel makes a route for besides, whether or not the address has a connected
// one (__ipv6_ifa_notify). Of IPv4, the peer's is the connected one.
func (a Address) toPeer() (netip.Prefix, bool) {
	return netip.PrefixFrom(a.Peer, 128), !a.Is4() && a.Peer.IsValid()
}

// String is what ip-address(8) would print in front.
func (a Address) String() string {
	if a.Peer.IsValid() {
		return fmt.Sprintf("%s peer %s/%d", a.Local.Addr(), a.Peer, a.Local.Bits())
	}
	return a.Local.String()
}
