package network

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// discovery says which link is the pod's and how far it is wired already.
type discovery struct {
	all   []plan.Link
	nic   plan.Link
	names plan.Names
	// marked are the links of ours that are there for it, and table that a table of ours redirects its frames.
	marked []plan.Link
	table  bool
	// hidden says that this process may not see tables.
	hidden bool
	// guessed says that too little of ours is left to tell the interface's name for certain.
	guessed bool
}

// wired reports whether there is anything of ours.
func (d *discovery) wired() bool { return len(d.marked) > 0 || d.table }

// redirection is a link whose frames our tables, or tc filters, redirect.
type redirection struct {
	name    string
	binding string
}

// redirections are those of the namespace. Without permission to read tables it returns unix.EPERM and those by tc.
func redirections(r *rtnl.Conn, n *rtnl.NFT, all []plan.Link) ([]redirection, error) {
	names, err := redirectedByTC(r, all)
	if err != nil {
		return nil, err
	}
	var found []redirection
	for _, name := range names {
		found = append(found, redirection{name, plan.BindingRedirect})
	}
	tables, err := n.Tables()
	if err != nil && !errors.Is(err, rtnl.ErrNoFilter) {
		return found, err
	}
	for _, t := range tables {
		name, binding := plan.RedirectedInterface(t.Family, t.Name, t.Comment)
		if i := slices.IndexFunc(found, func(r redirection) bool { return r.name == name }); i >= 0 && binding == plan.BindingShared {
			found[i].binding = binding // the table that tells is one of several of that name
		} else if i < 0 && binding != "" {
			found = append(found, redirection{name, binding})
		}
	}
	return found, nil
}

// called reports whether the interface has the name.
func (d *discovery) called(name string) bool {
	return d.names.Interface == name || slices.Contains(d.nic.AltNames, name)
}

// discoveries are what there is in a namespace.
type discoveries struct {
	all []plan.Link
	// wired are the interfaces that were given to guests, by podnic and then by KubeVirt, in the order of the pod's links.
	wired []*discovery
	// hidden says that this process may not see tables.
	hidden bool
}

// discoverAll looks for what is wired. Where too little of a wiring is left to tell its name, its record does.
func (s *session) discoverAll() (*discoveries, error) {
	all, err := s.rtnl.Links()
	if err != nil {
		return nil, err
	}
	if !s.AllowHostNamespace {
		if err := checkNotNode(all); err != nil {
			return nil, err
		}
	}
	v := &discoveries{all: all}
	groups := make(map[uint32][]plan.Link)
	for _, l := range all {
		if plan.IsMark(l.Group) {
			groups[l.Group] = append(groups[l.Group], l)
		}
	}
	tap := plan.DefaultTap
	if len(groups) == 1 {
		tap = cmp.Or(s.Options.Tap, tap)
	}
	tables, err := redirections(s.rtnl, s.nft, all)
	if v.hidden = errors.Is(err, unix.EPERM); err != nil && !v.hidden {
		return nil, err
	}
	for _, mark := range slices.Sorted(maps.Keys(groups)) {
		d := fromMarks(all, groups[mark], tap)
		if d.guessed {
			if r := s.recordOf(mark); r != nil {
				d.names, d.guessed = r.Options.Names(), false
			}
		}
		v.wired = append(v.wired, d)
	}
	v.fromTables(tables, tap)
	s.nameTaps(v)
	for _, d := range v.wired {
		if err := d.byTC(s.rtnl); err != nil {
			return nil, err
		}
	}
	v.wired = append(v.wired, discoverManaged(all)...)
	return v, nil
}

// nameTaps names each tap that is missing as its record does, or else as no other is called: taps of further interfaces get other
// names.
func (s *session) nameTaps(v *discoveries) {
	for _, d := range v.wired {
		if slices.ContainsFunc(d.marked, func(l plan.Link) bool { return l.Kind == plan.KindTun }) {
			continue
		}
		for _, r := range records(s.StateDir) {
			if r.Namespace == s.id && !r.managed() && d.isOf(r) {
				d.names.Tap = r.Options.Names().Tap
			}
		}
		if taken := func(o *discovery) bool { return o != d && o.names.Tap == d.names.Tap }; slices.ContainsFunc(v.wired, taken) {
			d.names.Tap = v.freeTap(d.nic.Index)
		}
	}
}

// isOf reports whether a record is of what was discovered, by its name or by its link.
func (d *discovery) isOf(r *Record) bool {
	return d.names.Interface == r.Options.Interface || d.nic.Index == r.Original.Link(plan.NIC).Index
}

// fromMarks reads from links of ours what they were made for. tap is the tap's name where there is none.
func fromMarks(all, marked []plan.Link, tap string) *discovery {
	d, mark := &discovery{all: all, marked: marked}, marked[0].Group
	if i := slices.IndexFunc(all, func(l plan.Link) bool { return plan.MarkedFor(mark, l.Index) && l.Group != mark }); i >= 0 {
		d.nic = all[i]
	} else {
		d.nic = plan.Link{Role: plan.NIC, Index: plan.MarkedIndex(mark)} // gone
	}
	d.names, d.guessed = plan.Recognize(d.nic, marked, tap)
	return d
}

// byTC finds out whether tc redirects, by a qdisc of ours on either link.
func (d *discovery) byTC(r *rtnl.Conn) error {
	if d.names.Binding.Name() != plan.BindingRedirect {
		return nil
	}
	roles := map[int]plan.Role{d.nic.Index: plan.NIC}
	for _, l := range d.marked {
		roles[l.Index] = plan.Tap
	}
	qdiscs, err := r.Qdiscs(roles)
	for _, q := range qdiscs {
		if q.Ours() {
			d.names = d.names.ByTC()
		}
	}
	return err
}

// fromTables adds what tables of ours redirect: the name of an interface whose link is gone, and a redirect that has lost its
// tap. They also tell which redirect it is.
func (v *discoveries) fromTables(tables []redirection, tap string) {
	for _, table := range tables {
		name := table.name
		if i := slices.IndexFunc(v.wired, func(d *discovery) bool { return d.names.Interface == name }); i >= 0 {
			if d := v.wired[i]; d.names.Binding.Name() == plan.BindingRedirect {
				d.names = plan.BindingOf(table.binding).Names(name, d.names.Tap)
			}
			continue
		}
		if i := slices.IndexFunc(v.wired, func(d *discovery) bool { return d.names.Interface == "" }); i >= 0 {
			d := v.wired[i]
			d.names = plan.BindingOf(table.binding).Names(name, d.names.Tap)
			continue
		}
		d := &discovery{all: v.all, table: true, nic: plan.Link{Role: plan.NIC}} // gone, unless it is found
		if i := slices.IndexFunc(v.all, func(l plan.Link) bool { return l.Name == name }); i >= 0 {
			d.nic = v.all[i]
		}
		d.names = plan.BindingOf(table.binding).Names(name, tap)
		v.wired = append(v.wired, d)
	}
}

// discover finds the interface that is worked on: the one that is named, else that of the default routes, before it was wired
// or now, else the only one that is wired.
func (s *session) discover(o plan.Options) error {
	v, err := s.discoverAll()
	if err != nil {
		return err
	}
	s.found, err = s.pick(v, o)
	return err
}

func (s *session) pick(v *discoveries, o plan.Options) (*discovery, error) {
	if o.Interface != "" {
		return v.named(o)
	}
	name, err := defaultInterface(s.rtnl, v.all, len(v.wired) > 0)
	if err != nil && (len(v.wired) == 0 || !IsRefusal(err)) {
		return nil, err
	}
	if len(v.wired) == 1 && name == "" {
		return v.wired[0], nil
	}
	if d, err := s.main(v.wired); d != nil || err != nil {
		return d, err
	}
	switch {
	case name != "":
		o.Interface = name
		return v.named(o)
	case err != nil:
		return nil, err
	case !v.ours():
		return v.wired[0], nil
	}
	return nil, plan.Refuse("several interfaces are wired, and none of them had a default route: name one with --interface, out of %s", v.names())
}

// named finds the interface of a name, wired or not.
func (v *discoveries) named(o plan.Options) (*discovery, error) {
	if i := slices.IndexFunc(v.wired, func(d *discovery) bool { return d.called(o.Interface) }); i >= 0 {
		return v.wired[i], nil
	}
	i := slices.IndexFunc(v.all, func(l plan.Link) bool { return l.Name == o.Interface || slices.Contains(l.AltNames, o.Interface) })
	guessed := slices.IndexFunc(v.wired, func(d *discovery) bool { return d.guessed })
	switch {
	case i < 0 && guessed >= 0: // it is certain to be that one, if any
		return v.wired[guessed], nil
	case i < 0:
		return nil, noInterface(o.Interface, v.all)
	}
	nic := v.all[i]
	for _, d := range v.wired {
		if nic.Index == d.nic.Index || len(d.marked) > 0 && nic.Group == d.marked[0].Group {
			if d.guessed {
				return d, nil
			}
			return nil, plan.Refuse("%s is a link of the wiring of %s: name that one with --interface", nic.Name, d.names.Interface)
		}
	}
	o.Interface, o.Tap = nic.Name, cmp.Or(o.Tap, v.freeTap(nic.Index))
	return &discovery{all: v.all, nic: nic, names: o.Names(), hidden: v.hidden}, nil
}

// freeTap is the name of the tap where nobody asks for one: the first that no other wiring has.
func (v *discoveries) freeTap(nic int) string {
	for i := 0; ; i++ {
		name := plan.TapName(i)
		if !slices.ContainsFunc(v.wired, func(d *discovery) bool { return d.names.Tap == name && d.nic.Index != nic }) {
			return name
		}
	}
}

func (v *discoveries) names() string {
	names := make([]string, len(v.wired))
	for i, d := range v.wired {
		names[i] = d.names.Interface
	}
	return strings.Join(names, ", ")
}

// main is the interface whose default route the guest has; nil where none of those that are wired had one.
func (s *session) main(wired []*discovery) (*discovery, error) {
	for _, d := range wired {
		original, err := s.of(d).before()
		if err != nil {
			return nil, err
		}
		if original != nil && original.HasDefault() {
			return d, nil
		}
	}
	return nil, nil
}

// before is what a wired interface held before, by its record or by what the namespace carries; nil where its link is gone.
func (s *session) before() (*plan.Snapshot, error) {
	record, err := s.recorded()
	if record != nil && err == nil {
		return record.Original, nil
	}
	current, err := s.read(s.found.all, s.found.nic.Index, s.found.names)
	if err != nil {
		return nil, asRefusal(err)
	}
	if current.Link(plan.NIC) == nil {
		return nil, nil
	}
	return s.found.names.Binding.Rebuild(current, s.found.names), nil
}

func noInterface(name string, all []plan.Link) error {
	return plan.Refuse("there is no interface %s here: name one of %s with --interface", name, linkNames(all))
}

// linkNames are what can be named: not what is part of a wiring, but for a placeholder, which has its interface's name and is
// down.
func linkNames(all []plan.Link) string {
	var names []string
	for _, l := range all {
		part := l.MasterIndex != 0 || plan.IsMark(l.Group) && (l.Kind == plan.KindTun || l.Up)
		if l.Type != unix.ARPHRD_LOOPBACK && !part {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		return "none (there is only the loopback)"
	}
	return strings.Join(names, ", ")
}

// defaultInterface is the link of the default routes, or the only link there is. Where IPv4 and IPv6 leave by different
// links, or a default route in two halves by another than the one that it goes before, nobody can tell which the guest's is.
// Beside interfaces that are wired only a default route counts, and without one there is none.
func defaultInterface(r *rtnl.Conn, all []plan.Link, beside bool) (string, error) {
	defaults, err := r.Defaults()
	if err != nil {
		return "", fmt.Errorf("list routes: %w", err)
	}
	if defaults[rtnl.FirstHalf].Link != defaults[rtnl.SecondHalf].Link {
		delete(defaults, rtnl.FirstHalf)
		delete(defaults, rtnl.SecondHalf)
	}
	var found []int
	var ways, names []string
	for _, what := range []string{rtnl.WholeIPv4, rtnl.FirstHalf, rtnl.WholeIPv6} {
		if link := defaults[what].Link; link != 0 {
			if !slices.Contains(found, link) {
				found, names = append(found, link), append(names, "--interface "+plan.NameOf(all, link))
			}
			ways = append(ways, fmt.Sprintf("%s by %s", what, plan.NameOf(all, link)))
		}
	}
	switch {
	case len(found) == 1:
		return plan.NameOf(all, found[0]), nil
	case len(found) > 1:
		return "", plan.Refuse("the pod's default routes are on different links (%s), and podnic gives one to the guest: pass %s", strings.Join(ways, ", "), strings.Join(names, " or "))
	}
	if beside {
		return "", nil
	}
	var candidates []plan.Link
	for _, l := range all {
		if l.Type != unix.ARPHRD_LOOPBACK && l.Kind == plan.KindVeth {
			candidates = append(candidates, l)
		}
	}
	if len(candidates) == 1 {
		return candidates[0].Name, nil
	}
	return "", plan.Refuse("no interface has a default route here: name the pod's with --interface, out of %s", linkNames(all))
}
