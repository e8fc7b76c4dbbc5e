package plan

import (
	"slices"

	"github.com/podnic/podnic/network/identity"
)

// Snapshot is what the pod's link, everything that hangs on it, and our own links hold at one moment. It is plain data:
// the record on disk holds one, a guest's identity is made from one, and two of them have a difference.
type Snapshot struct {
	Links      []Link      `json:"links"`
	Addresses  []Address   `json:"addresses,omitempty"` // in the order in which they have to be added
	Routes     []Route     `json:"routes,omitempty"`
	Barriers   []Route     `json:"barriers,omitempty"` // those without a link, that block; recorded and never changed
	Rules      []Rule      `json:"rules,omitempty"`
	Neighbours []Neighbour `json:"neighbours,omitempty"`
	// Routers are what was found out about IPv6 gateways before the interface was wired, where IPv6 is served.
	Routers []identity.Router `json:"routers,omitempty"`
	Filter  *Filter           `json:"filter,omitempty"`
	// Qdiscs are those that tc's filters hang on, where frames are redirected by tc.
	Qdiscs []Qdisc `json:"-"`
}

// Link finds a link by role; nil when there is none.
func (s *Snapshot) Link(role Role) *Link {
	for i := range s.Links {
		if s.Links[i].Role == role {
			return &s.Links[i]
		}
	}
	return nil
}

// GuestMTU is the MTU of the guest's link in bytes, given the original: the pod's own, or the most that a tap carries.
func (s *Snapshot) GuestMTU() int { return tapMTU(s.Link(NIC).MTU) }

// Clone shares no memory with s.
func (s *Snapshot) Clone() *Snapshot {
	c := &Snapshot{
		Links:      slices.Clone(s.Links),
		Addresses:  slices.Clone(s.Addresses),
		Routes:     slices.Clone(s.Routes),
		Barriers:   slices.Clone(s.Barriers), // which have no hops and no metrics
		Rules:      slices.Clone(s.Rules),
		Neighbours: slices.Clone(s.Neighbours),
		Routers:    slices.Clone(s.Routers),
		Filter:     s.Filter, // never changed in place
	}
	for i := range s.Qdiscs {
		c.Qdiscs = append(c.Qdiscs, s.Qdiscs[i].clone())
	}
	for i := range c.Links {
		c.Links[i].AltNames = slices.Clone(c.Links[i].AltNames)
	}
	for i := range c.Routes {
		c.Routes[i] = c.Routes[i].clone()
	}
	return c
}

// At is what is left of the snapshot at a later moment: addresses and routes whose time has run out are not put back.
func (s *Snapshot) At(now Instant) *Snapshot {
	over := func(i Instant) bool { return i != 0 && i <= now }
	c := s.Clone()
	c.Addresses = slices.DeleteFunc(c.Addresses, func(a Address) bool { return over(a.ValidUntil) })
	for i := range c.Addresses {
		if over(c.Addresses[i].PreferredUntil) {
			c.Addresses[i].PreferredUntil = Past
		}
	}
	c.Routes = slices.DeleteFunc(c.Routes, func(r Route) bool { return over(r.Expires) })
	return c
}

// AddressesOf are the addresses of one link, in their order.
func (s *Snapshot) AddressesOf(link Role) []Address {
	var of []Address
	for _, a := range s.Addresses {
		if a.Link == link {
			of = append(of, a)
		}
	}
	return of
}

// strayRole is the role of a link that carries our mark and plays no part: renamed by somebody, or left over. The
// wiring has no place for it, so that it goes.
func strayRole(l Link) Role { return Role("stray " + l.Name) }

// AssignRoles picks the links that the snapshot is of. The NIC is known by its index, the others the binding knows.
func AssignRoles(all []Link, nic int, names Names) []Link {
	var picked []Link
	index := make(map[int]Role)
	for _, l := range all {
		role, ok := NIC, true
		if l.Index != nic {
			role, ok = names.Binding.Role(l, nic, names)
		}
		if !ok {
			continue
		}
		l.Role = role
		index[l.Index] = l.Role
		picked = append(picked, l)
	}
	for i := range picked {
		picked[i].Master = index[picked[i].MasterIndex]
	}
	slices.SortStableFunc(picked, func(a, b Link) int { return roleOrder(a.Role) - roleOrder(b.Role) })
	return picked
}

func roleOrder(r Role) int {
	if i := slices.Index([]Role{NIC, Bridge, Tap, Placeholder}, r); i >= 0 {
		return i
	}
	return 4
}
