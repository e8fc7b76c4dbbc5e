package plan

import (
	"fmt"
	"slices"
)

// What a plan does with tc. Its changes are not a transaction: each filter is in place, or in another's place, at once,
// and the order makes up for the rest. Fences come before what redirects, since what is behind decides on what they
// pass.

type (
	// AddQdisc gives a link the qdisc that filters hang on.
	AddQdisc struct{ Link Role }
	// DeleteQdisc takes it away with all that hangs on it.
	DeleteQdisc struct{ Link Role }
	// PutTCFilter puts a filter in place, or in the place of one of the same hook, priority and handle.
	PutTCFilter struct {
		Link   Role
		Filter TCFilter
	}
	DeleteTCFilter struct {
		Link   Role
		Filter TCFilter
	}
)

func (AddQdisc) isChange() {}

func (DeleteQdisc) isChange() {}

func (PutTCFilter) isChange() {}

func (DeleteTCFilter) isChange() {}

// Qdisc finds a link's qdisc; nil when it has none.
func (s *Snapshot) Qdisc(link Role) *Qdisc {
	for i := range s.Qdiscs {
		if s.Qdiscs[i].Link == link {
			return &s.Qdiscs[i]
		}
	}
	return nil
}

// putQdiscs makes the qdiscs of links what they should be. A filter of somebody else's that hangs among ours decides
// on the guest's frames, and is taken away; on a link that should have none, it is left.
func (p *planner) putQdiscs(roles ...Role) {
	for _, role := range roles {
		want := p.want.Qdisc(role)
		if want == nil || p.now.Link(role) == nil {
			continue
		}
		if have := p.now.Qdisc(role); have != nil && have.Kind != want.Kind {
			p.step("delete qdisc", p.name(role), have.Kind, DeleteQdisc{role})
		}
		if p.now.Qdisc(role) == nil {
			p.step("add qdisc", p.name(role), want.Kind, AddQdisc{role})
		}
		for _, f := range slices.Clone(p.now.Qdisc(role).Filters) {
			if !slices.ContainsFunc(want.Filters, f.samePlace) {
				p.step("delete tc filter", p.name(role), f.String(), DeleteTCFilter{role, f})
			}
		}
		for _, f := range want.Filters {
			if !slices.ContainsFunc(p.now.Qdisc(role).Filters, f.Same) {
				p.step("set tc filter", p.name(role), f.String(), PutTCFilter{role, f})
			}
		}
	}
}

// removeQdiscs takes away what hangs on a link that stays. What is left of somebody else's keeps its qdisc; one without
// filters is ours, since a link that has another's is not wired.
func (p *planner) removeQdiscs(roles ...Role) {
	for _, role := range roles {
		have := p.now.Qdisc(role)
		switch {
		case have == nil || p.want.Qdisc(role) != nil || have.Kind != QdiscClsact:
		case len(have.Foreign()) == 0:
			p.step("delete qdisc", p.name(role), have.Kind, DeleteQdisc{role})
		default:
			for _, f := range slices.Clone(have.Filters) {
				if f.Ours() {
					p.step("delete tc filter", p.name(role), f.String(), DeleteTCFilter{role, f})
				}
			}
		}
	}
}

// modelTC says what the kernel makes of a change to tc.
func (s *Snapshot) modelTC(c Change) {
	without := func(q *Qdisc, f TCFilter) { q.Filters = slices.DeleteFunc(q.Filters, f.samePlace) }
	switch c := c.(type) {
	case AddQdisc:
		s.Qdiscs = append(s.Qdiscs, Qdisc{Link: c.Link, Kind: QdiscClsact})
	case DeleteQdisc:
		s.Qdiscs = slices.DeleteFunc(s.Qdiscs, func(q Qdisc) bool { return q.Link == c.Link })
	case PutTCFilter:
		q := s.Qdisc(c.Link)
		without(q, c.Filter)
		q.Filters = append(q.Filters, c.Filter)
		slices.SortFunc(q.Filters, compareTCFilters)
	case DeleteTCFilter:
		without(s.Qdisc(c.Link), c.Filter)
	}
}

// removeQdisc models what goes with a link: its qdisc, and where others redirect to.
func (s *Snapshot) removeQdisc(link Role) {
	s.modelTC(DeleteQdisc{link})
	for i := range s.Qdiscs {
		for n := range s.Qdiscs[i].Filters {
			if f := &s.Qdiscs[i].Filters[n]; f.Redirect == link {
				f.Redirect = redirectsNowhere
			}
		}
	}
}

// qdiscs says how tc differs on links that are there.
func (c *comparison) qdiscs(link *Link) {
	have, want := c.have.Qdisc(link.Role), c.want.Qdisc(link.Role)
	say := func(format string, args ...any) { c.add(link.Role, link.Name, fmt.Sprintf(format, args...)) }
	switch {
	case want == nil:
		return
	case have == nil || have.Kind != want.Kind:
		say("lacks tc's qdisc that redirects its frames (%s)", want.Kind)
		return
	}
	for _, f := range want.Filters {
		if !slices.ContainsFunc(have.Filters, f.Same) {
			say("lacks tc's filter %s", f)
		}
	}
	for _, f := range have.Filters {
		if !slices.ContainsFunc(want.Filters, f.samePlace) {
			say("has tc's filter %s, which should not be on it", f)
		}
	}
}
