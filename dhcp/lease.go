package dhcp

import (
	"net/netip"
	"time"
)

// Values of Lease.State.
const (
	LeaseNone    = "none"
	LeaseOffered = "offered"
	LeaseBound   = "bound"
	LeaseExpired = "expired" // it ran out, and the guest did not renew it
)

// Lease is what the server knows of the guest's hold on the address. Its JSON is part of the command line's contract. The
// zero value is a guest that was never heard of.
type Lease struct {
	// State is LeaseNone, LeaseOffered, LeaseBound or LeaseExpired.
	State string `json:"state"`
	// Address is what the rest is about; not valid when the guest neither has nor uses it.
	Address netip.Addr `json:"address,omitzero"`
	// Since is when the lease entered the state.
	Since time.Time `json:"since,omitzero"`
	// Expires is when a bound lease ends unless it is renewed, or when it ended; zero for an infinite one.
	Expires time.Time `json:"expires,omitzero"`
	// Seen is when the guest was first seen using the address, leased or not: a guest with a static configuration never
	// asks, and a running one does not ask again because the server was restarted.
	Seen time.Time `json:"seen,omitzero"`
	// Doubted is when a client with another MAC was heard, after which the guest was not heard again: it may have been
	// started anew with another card.
	Doubted time.Time `json:"doubted,omitzero"`
}

// InUse reports whether the guest has the address, as far as is known: it has taken its lease or was seen using the
// address.
func (l Lease) InUse() bool {
	return (l.State == LeaseBound || !l.Seen.IsZero()) && l.Doubted.IsZero()
}

// At is the lease at a time: one that ran out until then, and was not renewed, is expired. That the address was seen in use
// before means nothing from then on: the guest may be gone, and if it is not, it will be seen again.
func (l Lease) At(now time.Time) Lease {
	if l.State == LeaseBound && !l.Expires.IsZero() && !now.Before(l.Expires) {
		return Lease{State: LeaseExpired, Address: l.Address, Since: l.Expires, Expires: l.Expires}
	}
	return l
}

// of is the lease as far as it is about an address.
func (l Lease) of(addr netip.Addr) Lease {
	if l.Address != addr {
		return Lease{State: LeaseNone}
	}
	return l
}
