package network

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// discovery says which link is the pod's and how far the namespace is wired already.
type discovery struct {
	all   []plan.Link
	nic   plan.Link
	names plan.Names
	// marked are the links of ours that are there.
	marked []plan.Link
	// guessed says that too little of ours is left to tell the interface's name for certain.
	guessed bool
}

// discover finds the pod's interface: the one that our links were made for if there are any, else the one that is named,
// else the one with the default routes.
func discover(r *rtnl.Conn, o plan.Options) (*discovery, error) {
	all, err := r.Links()
	if err != nil {
		return nil, err
	}
	d := &discovery{all: all}
	for _, l := range all {
		if plan.IsMark(l.Group) {
			d.marked = append(d.marked, l)
		}
	}
	if len(d.marked) > 0 {
		return d, d.fromMarks(o)
	}
	if managed := discoverManaged(all, o.Interface); managed != nil {
		return managed, nil
	}
	name := o.Interface
	if name == "" {
		if name, err = defaultInterface(r, all); err != nil {
			return nil, err
		}
	}
	i := slices.IndexFunc(all, func(l plan.Link) bool { return l.Name == name || slices.Contains(l.AltNames, name) })
	if i < 0 {
		return nil, noInterface(name, all)
	}
	d.nic = all[i]
	d.names = plan.NamesFor(d.nic.Name, cmp.Or(o.Tap, plan.DefaultTap))
	return d, nil
}

func noInterface(name string, all []plan.Link) error {
	return plan.Refuse("there is no interface %s here: name one of %s with --interface", name, linkNames(all))
}

func linkNames(all []plan.Link) string {
	var names []string
	for _, l := range all {
		if l.Type != unix.ARPHRD_LOOPBACK {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		return "none (there is only the loopback)"
	}
	return strings.Join(names, ", ")
}

// fromMarks reads from our own links what they were made for.
func (d *discovery) fromMarks(o plan.Options) error {
	mark := d.marked[0].Group
	for _, l := range d.marked {
		if l.Group != mark {
			return plan.Refuse("the links %s and %s were made for different interfaces, and podnic serves one: restore the other first", d.marked[0].Name, l.Name)
		}
	}
	i := slices.IndexFunc(d.all, func(l plan.Link) bool { return plan.MarkedFor(mark, l.Index) && l.Group != mark })
	if i >= 0 {
		d.nic = d.all[i]
	} else {
		d.nic = plan.Link{Role: plan.NIC, Index: plan.MarkedIndex(mark)} // gone
	}
	tap := cmp.Or(o.Tap, plan.DefaultTap)
	var bridges []string
	for _, l := range d.marked {
		switch l.Kind {
		case plan.KindTun:
			tap = l.Name
		case plan.KindBridge:
			bridges = append(bridges, l.Name)
		}
	}
	// The placeholder bears the interface's name, or it is not in place yet and the NIC still does.
	for _, candidate := range append(slices.Clone(bridges), d.nic.Name) {
		names := plan.NamesFor(candidate, tap)
		if slices.Contains(bridges, names.Bridge) || d.nic.Name == names.NIC {
			d.names = names
			return nil
		}
	}
	// Neither: the placeholder is gone or aside.
	d.guessed = true
	for _, suffix := range []string{"-nic", "-br", "-id"} {
		for _, name := range append([]string{d.nic.Name}, bridges...) {
			if base, ok := strings.CutSuffix(name, suffix); ok {
				d.names = plan.NamesFor(base, tap)
				return nil
			}
		}
	}
	d.names = plan.NamesFor(d.nic.Name, tap)
	return nil
}

// defaultInterface is the link of the default routes, or the only link there is. Where IPv4 and IPv6 leave by different
// links, or a default route in two halves by another than the one that it goes before, nobody can tell which the guest's is.
func defaultInterface(r *rtnl.Conn, all []plan.Link) (string, error) {
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
				found, names = append(found, link), append(names, "--interface "+nameOf(all, link))
			}
			ways = append(ways, fmt.Sprintf("%s by %s", what, nameOf(all, link)))
		}
	}
	switch {
	case len(found) == 1:
		return nameOf(all, found[0]), nil
	case len(found) > 1:
		return "", plan.Refuse("the pod's default routes are on different links (%s), and podnic gives one to the guest: pass %s", strings.Join(ways, ", "), strings.Join(names, " or "))
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
