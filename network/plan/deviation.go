package plan

import (
	"fmt"
	"slices"
	"strings"
)

// FilterPlace is where a deviation of the filter is. It is not a link's role.
const FilterPlace Role = "filter"

// Deviation is one way in which a wiring is not as it should be, in words: what the steps that mend it do not say, since
// they speak of what to do, and in the order in which the kernel takes it.
type Deviation struct {
	Where  Role   // the link's role, or FilterPlace
	Object string // the link's name, as it is or as it should be; the filter's table
	What   string // "is missing", "is down", "has the MTU 1400, not 1500"
}

func (d Deviation) String() string { return d.Object + " " + d.What }

// Deviations says how a namespace differs from the wanted one. It is a pure function, and empty where [Diff] is, unless the
// guest itself would have to be told something else. What follows from a link that is missing is not listed.
func Deviations(b Binding, current, wanted *Snapshot) []Deviation {
	c := &comparison{binding: b, have: current, want: wanted}
	for i := range wanted.Links {
		c.link(&wanted.Links[i])
	}
	for _, l := range current.Links {
		if wanted.Link(l.Role) == nil {
			c.add(l.Role, l.Name, "should not be there")
		}
	}
	switch want := wanted.Filter; {
	case want.Same(current.Filter):
	case current.Filter == nil:
		c.add(FilterPlace, want.Table, "is missing: guest, pod network and the pod's own stack are not kept apart")
	case want == nil:
		c.add(FilterPlace, current.Filter.Table, "should not be there")
	default:
		counts := ""
		if have := len(current.Filter.Rules); have != len(want.Rules) {
			counts = fmt.Sprintf(" (%d, not %d)", have, len(want.Rules))
		}
		c.add(FilterPlace, want.Table, "has other rules than prepare made"+counts)
	}
	return c.found
}

type comparison struct {
	binding    Binding
	have, want *Snapshot
	found      []Deviation
}

func (c *comparison) add(where Role, object, what string) {
	if d := (Deviation{where, object, what}); !slices.Contains(c.found, d) {
		c.found = append(c.found, d)
	}
}

// link compares a link that should be there.
func (c *comparison) link(want *Link) {
	have := c.have.Link(want.Role)
	if have == nil {
		c.add(want.Role, want.Name, "is missing")
		return
	}
	if want.Role == NIC {
		c.binding.deviations(c, have, want)
		return
	}
	c.all(have, want)
}

// all compares all of a link.
func (c *comparison) all(have, want *Link) {
	say := func(format string, args ...any) { c.add(want.Role, have.Name, fmt.Sprintf(format, args...)) }
	if want.Kind != have.Kind {
		say("is of the kind %s, not %s", have.Kind, want.Kind)
	}
	if !SameTap(want.TapSettings, have.TapSettings) && have.Kind == KindTun {
		say("was made anew with other settings (owner, group, queues)")
	}
	if SettingName.differ(have, want) {
		say("should be called %s", want.Name)
	}
	if SettingUp.differ(have, want) {
		say("is %s", SettingUp.detail(want, have))
	}
	for _, s := range linkSettings {
		if s.differ(have, want) && (!s.nicOnly || want.Role == NIC) {
			c.setting(s, have, want)
		}
	}
	c.addresses(have)
	c.neighbours(have)
	c.routes(have)
	c.qdiscs(have)
}

func (c *comparison) setting(s *LinkSetting, have, want *Link) {
	say := func(format string, args ...any) { c.add(want.Role, have.Name, fmt.Sprintf(format, args...)) }
	switch s {
	case SettingMAC:
		say("has the MAC %s, not %s", have.MAC, want.MAC)
	case SettingMTU:
		say("has the MTU %d, not %d", have.MTU, want.MTU)
	case SettingMaster:
		switch master := c.have.Link(want.Master); {
		case want.Master == "":
			say("should not be a port")
		case master != nil:
			say("is not a port of %s", master.Name)
		case c.want.Link(want.Master) == nil:
			say("is not a port of %s", want.Master)
		}
	default:
		what := strings.TrimPrefix(s.do, "set ")
		say("has %s %s, not %s", what, s.detail(want, have), s.detail(have, want))
	}
}

func (c *comparison) addresses(link *Link) {
	have, want := c.have.AddressesOf(link.Role), c.want.AddressesOf(link.Role)
	same := len(have) == len(want)
	for _, a := range want {
		i := slices.IndexFunc(have, a.Same)
		switch {
		case i < 0:
			same = false
			c.add(link.Role, link.Name, fmt.Sprintf("lacks the address %s", a))
		case !have[i].SameLifetimes(a):
			c.add(link.Role, link.Name, fmt.Sprintf("has the address %s with other lifetimes", a))
		}
	}
	for _, a := range have {
		if !slices.ContainsFunc(want, a.Same) {
			same = false
			c.add(link.Role, link.Name, fmt.Sprintf("has the address %s, which should not be on it", a))
		}
	}
	for _, is4 := range []bool{true, false} {
		of := func(list []Address) []Address {
			return slices.DeleteFunc(slices.Clone(list), func(a Address) bool { return a.Is4() != is4 })
		}
		if same && !slices.EqualFunc(of(have), of(want), Address.Same) {
			c.add(link.Role, link.Name, "has its addresses in another order")
		}
	}
}

func (c *comparison) neighbours(link *Link) {
	of := func(s *Snapshot) []Neighbour {
		return slices.DeleteFunc(slices.Clone(s.Neighbours), func(n Neighbour) bool { return n.Link != link.Role })
	}
	have, want := of(c.have), of(c.want)
	for _, n := range want {
		if !slices.Contains(have, n) {
			c.add(link.Role, link.Name, fmt.Sprintf("lacks the neighbour %s", n))
		}
	}
	for _, n := range have {
		if !slices.Contains(want, n) {
			c.add(link.Role, link.Name, fmt.Sprintf("has the neighbour %s, which should not be on it", n))
		}
	}
}

// routes leaves alone what the diff does: a route that also uses somebody's link. Those that the bridge lacks are counted,
// since they go all at once when it is set down.
func (c *comparison) routes(link *Link) {
	wired := c.want.Link(Bridge) != nil
	of := func(s *Snapshot) []Route {
		return slices.DeleteFunc(slices.Clone(s.Routes), func(r Route) bool {
			return !r.uses(link.Role) || wired && !r.usesOnly(link.Role)
		})
	}
	have, want := of(c.have), of(c.want)
	lacking := slices.DeleteFunc(slices.Clone(want), func(r Route) bool { return slices.ContainsFunc(have, r.Same) })
	switch {
	case len(lacking) > 0 && link.Role == Bridge:
		c.add(link.Role, link.Name, fmt.Sprintf("lacks routes of the pod that are kept on it (%d of %d)", len(lacking), len(want)))
	default:
		for _, r := range lacking {
			c.add(link.Role, link.Name, fmt.Sprintf("lacks the route %s", r))
		}
	}
	for _, r := range have {
		if !slices.ContainsFunc(want, r.Same) {
			c.add(link.Role, link.Name, fmt.Sprintf("has the route %s, which should not be on it", r))
		}
	}
}
