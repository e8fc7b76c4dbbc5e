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
)

// Lease is what the server knows of the guest's hold on the address. Its JSON is part of the command line's contract. The
// zero value is a guest that was never heard of.
type Lease struct {
	// State is LeaseNone, LeaseOffered or LeaseBound.
	State string `json:"state"`
	// Address is what the rest is about; not valid when the guest neither has nor uses it.
	Address netip.Addr `json:"address,omitzero"`
	// Since is when the lease entered the state.
	Since time.Time `json:"since,omitzero"`
	// Expires is when a bound lease ends unless it is renewed; zero for an infinite one.
	Expires time.Time `json:"expires,omitzero"`
	// Seen is when the guest was first seen using the address, leased or not: a guest with a static configuration never
	// asks, and a running one does not ask again because the server was restarted.
	Seen time.Time `json:"seen,omitzero"`
}

// InUse reports whether the guest has the address: it has taken its lease or was seen using the address.
func (l Lease) InUse() bool { return l.State == LeaseBound || !l.Seen.IsZero() }

// resume is the lease of an earlier process as far as it still means something. What has expired meanwhile does not: the
// guest may be gone, and if it is not, it will be seen.
func (l Lease) resume(now time.Time) Lease {
	if !l.Expires.IsZero() && !now.Before(l.Expires) {
		return Lease{State: LeaseNone}
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
