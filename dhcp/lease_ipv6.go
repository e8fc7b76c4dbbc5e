package dhcp

import (
	"net/netip"
	"slices"
	"time"
)

// Values of Lease6.State besides those that Lease.State has.
const (
	LeaseReleased = "released"
	LeaseDeclined = "declined" // the guest found an address in use
)

// Lease6 is what the server knows of the guest's hold on its IPv6 addresses. Its JSON is part of the command line's contract.
type Lease6 struct {
	// State is LeaseNone, LeaseOffered, LeaseBound, LeaseExpired, LeaseReleased or LeaseDeclined.
	State string `json:"state"`
	// Addresses are what the rest is about; none when the guest neither has nor uses any.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Since is when the lease entered the state.
	Since time.Time `json:"since,omitzero"`
	// Expires is when a bound lease ends unless it is renewed, or when it ended; zero for an infinite one.
	Expires time.Time `json:"expires,omitzero"`
	// Seen is when the guest was first seen using one of the addresses, leased or not.
	Seen time.Time `json:"seen,omitzero"`
}

// InUse reports whether the guest has the addresses, as far as is known.
func (l Lease6) InUse() bool { return l.State == LeaseBound || !l.Seen.IsZero() }

// IsZero reports whether it is the lease of a guest that was never heard of.
func (l Lease6) IsZero() bool { return l.equal(Lease6{}) }

// At is the lease at a time: one that ran out until then, and was not renewed, is expired.
func (l Lease6) At(now time.Time) Lease6 {
	if l.State == LeaseBound && !l.Expires.IsZero() && !now.Before(l.Expires) {
		return Lease6{State: LeaseExpired, Addresses: l.Addresses, Since: l.Expires, Expires: l.Expires}
	}
	return l
}

// of is the lease as far as it is about addresses.
func (l Lease6) of(addrs []netip.Addr) Lease6 {
	if !slices.Equal(l.Addresses, addrs) {
		return Lease6{State: LeaseNone}
	}
	return l
}

func (l Lease6) equal(o Lease6) bool {
	return l.State == o.State && slices.Equal(l.Addresses, o.Addresses) && l.Since.Equal(o.Since) && l.Expires.Equal(o.Expires) && l.Seen.Equal(o.Seen)
}
