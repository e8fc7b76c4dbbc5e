package network

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// A redirect is nftables' where the kernel has that, and else tc's. Which it is shows for certain only when a table
// is put in place: to have one refused takes the kernel a grace period, longer than all the rest of a prepare. So
// prepare tries, and goes on with tc; what only inspects, or has to know first, asks.

// withoutEnvironment names what the kernel shall be taken to lack, for tests of what podnic does then: fwd, nftables.
const withoutEnvironment = "PODNIC_TEST_WITHOUT"

// hidden is what tests hide of the kernel.
func (r Request) hidden() []string {
	return append(strings.Split(os.Getenv(withoutEnvironment), ","), r.without...)
}

// byTCInstead says why tc redirects.
func byTCInstead(lack error) string { return fmt.Sprintf("tc redirects, since %v", lackOf(lack)) }

// lackOf is what the kernel lacks, without what it was lacking for.
func lackOf(err error) error {
	if errors.Is(err, rtnl.ErrNoForward) {
		return rtnl.ErrNoForward
	}
	return errors.New("the kernel has no nftables for links (CONFIG_NF_TABLES_NETDEV)")
}

// lacksForward reports whether an error says that nftables cannot redirect here.
func lacksForward(err error) bool {
	return errors.Is(err, rtnl.ErrNoForward) || errors.Is(err, rtnl.ErrNoFilter)
}

// tryTC settles, for a redirect of an interface that is not wired, what redirects. Somebody else's qdisc is in tc's
// way alone.
func (s *session) tryTC(o plan.Options, c *choice) error {
	qdiscs, err := s.rtnl.Qdiscs(map[int]plan.Role{s.found.nic.Index: plan.NIC})
	if err != nil {
		return err
	}
	var lack error
	switch {
	case s.noFilter: // which reading our table has shown
		lack = rtnl.ErrNoFilter
	case len(qdiscs) == 0 && !s.inspects:
		return nil
	default:
		if lack = s.nft.ProbeForward(); !lacksForward(lack) {
			return nil // or it is not for this process to know
		}
	}
	if o.Binding == plan.BindingShared {
		return sharedTakes(lack)
	}
	if len(qdiscs) > 0 {
		q := qdiscs[0]
		return plan.Refuse("%s, and tc cannot redirect the frames of %s, since somebody else's %s qdisc is on it (%s): "+
			"have its owner remove it (tc qdisc del dev %s %s)",
			lackOf(lack), s.found.nic.Name, q.Kind, ofFilters(q), s.found.nic.Name, q.Kind)
	}
	c.names, c.byTC = c.names.ByTC(), byTCInstead(lack)
	if c.current, err = s.read(s.found.all, s.found.nic.Index, c.names); err != nil {
		return asRefusal(err)
	}
	return plan.CheckTC(c.current, o)
}

// sharedTakes is the refusal where the kernel lacks what sharing an address requires.
func sharedTakes(lack error) error {
	if !errors.Is(lack, rtnl.ErrNoEgress) {
		lack = lackOf(lack)
	}
	return plan.Refuse("%w, and the binding shared requires it: pass --binding redirect, which leaves the containers no network", lack)
}

func ofFilters(q plan.Qdisc) string {
	if len(q.Filters) == 0 {
		return "without filters"
	}
	list := make([]string, len(q.Filters))
	for i, f := range q.Filters {
		list[i] = f.String()
	}
	return join(list)
}

// byTC goes on where nftables turned out to be unable to redirect. Nothing of it is in place but the tap.
func (p *preparation) byTC(lack error) ([]plan.Step, error) {
	if err := plan.CheckTC(p.record.Original, p.record.Options); err != nil {
		return nil, err
	}
	p.record.Options.TC, p.record.Options.Mark = true, 0
	if err := p.record.Options.CheckIPv6(p.record.Original); err != nil {
		return nil, err
	}
	p.record.Why = strings.TrimPrefix(p.record.Why+"; "+byTCInstead(lack), "; ")
	if err := p.store.Save(p.record); err != nil {
		return nil, err
	}
	p.names = p.record.Options.Names()
	p.wanted = p.wired(p.record.Original, p.record.Options, p.current)
	now, err := p.snapshot(p.wanted.Link(plan.NIC).Index, p.names)
	if err != nil {
		return nil, err
	}
	steps, err := p.reach(now, p.wanted, p.names)
	if errors.Is(err, rtnl.ErrNoFilter) {
		return p.withoutFilter()
	}
	return steps, err
}

// beforeFilter are the steps before the one that puts a filter in place.
func beforeFilter(steps []plan.Step) []plan.Step {
	i := slices.IndexFunc(steps, func(s plan.Step) bool { _, puts := s.Change.(plan.PutFilter); return puts })
	return steps[:max(i, 0)]
}

// qdiscsOf reads those of the links of a snapshot.
func (s *session) qdiscsOf(snapshot *plan.Snapshot) ([]plan.Qdisc, error) {
	roles := make(map[int]plan.Role)
	for _, l := range snapshot.Links {
		roles[l.Index] = l.Role
	}
	return s.rtnl.Qdiscs(roles)
}

// redirectedByTC are the links whose frames filters of ours redirect, by name.
func redirectedByTC(r *rtnl.Conn, all []plan.Link) (names []string, err error) {
	roles := make(map[int]plan.Role)
	for _, l := range all {
		if l.Type == unix.ARPHRD_ETHER && !plan.IsMark(l.Group) {
			roles[l.Index] = plan.Role(l.Name)
		}
	}
	qdiscs, err := r.Qdiscs(roles)
	for _, q := range qdiscs {
		if q.Ours() {
			names = append(names, string(q.Link))
		}
	}
	return names, err
}
