package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// discovery says which link is the pod's and how far the namespace is wired already.
type discovery struct {
	all   []Link
	nic   Link
	names Names
	// marked are the links of ours that are there.
	marked []Link
	// guessed says that too little of ours is left to tell the interface's name for certain.
	guessed bool
}

// discover finds the pod's interface: the one that our links were made for if there are any, else the one that is named,
// else the one with the default routes.
func discover(r *rtnl, o Options) (*discovery, error) {
	all, err := r.links()
	if err != nil {
		return nil, err
	}
	d := &discovery{all: all}
	for _, l := range all {
		if isMark(l.Group) {
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
	i := slices.IndexFunc(all, func(l Link) bool { return l.Name == name || slices.Contains(l.AltNames, name) })
	if i < 0 {
		return nil, noInterface(name, all)
	}
	d.nic = all[i]
	d.names = namesFor(d.nic.Name, cmp.Or(o.Tap, DefaultTap))
	return d, nil
}

func noInterface(name string, all []Link) error {
	return Refuse("there is no interface %s here: name one of %s with --interface", name, linkNames(all))
}

func linkNames(all []Link) string {
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
func (d *discovery) fromMarks(o Options) error {
	mark := d.marked[0].Group
	for _, l := range d.marked {
		if l.Group != mark {
			return Refuse("the links %s and %s were made for different interfaces, and podnic serves one: restore the other first", d.marked[0].Name, l.Name)
		}
	}
	i := slices.IndexFunc(d.all, func(l Link) bool { return markedFor(mark, l.Index) && l.Group != mark })
	if i >= 0 {
		d.nic = d.all[i]
	} else {
		d.nic = Link{Role: NIC, Index: markedIndex(mark)} // gone
	}
	tap := cmp.Or(o.Tap, DefaultTap)
	var bridges []string
	for _, l := range d.marked {
		switch l.Kind {
		case kindTun:
			tap = l.Name
		case kindBridge:
			bridges = append(bridges, l.Name)
		}
	}
	// The placeholder bears the interface's name, or it is not in place yet and the NIC still does.
	for _, candidate := range append(slices.Clone(bridges), d.nic.Name) {
		names := namesFor(candidate, tap)
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
				d.names = namesFor(base, tap)
				return nil
			}
		}
	}
	d.names = namesFor(d.nic.Name, tap)
	return nil
}

// defaultInterface is the link of the default routes, or the only link there is. Where IPv4 and IPv6 leave by different
// links, or a default route in two halves by another than the one that it goes before, nobody can tell which the guest's is.
func defaultInterface(r *rtnl, all []Link) (string, error) {
	defaults, err := r.defaults()
	if err != nil {
		return "", fmt.Errorf("list routes: %w", err)
	}
	if defaults[firstHalf].link != defaults[secondHalf].link {
		delete(defaults, firstHalf)
		delete(defaults, secondHalf)
	}
	var found []int
	var ways, names []string
	for _, what := range []string{wholeIPv4, firstHalf, wholeIPv6} {
		if link := defaults[what].link; link != 0 {
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
		return "", Refuse("the pod's default routes are on different links (%s), and podnic gives one to the guest: pass %s", strings.Join(ways, ", "), strings.Join(names, " or "))
	}
	var candidates []Link
	for _, l := range all {
		if l.Type != unix.ARPHRD_LOOPBACK && l.Kind == kindVeth {
			candidates = append(candidates, l)
		}
	}
	if len(candidates) == 1 {
		return candidates[0].Name, nil
	}
	return "", Refuse("no interface has a default route here: name the pod's with --interface, out of %s", linkNames(all))
}

// What a default route leads to, in the words of a refusal.
const (
	wholeIPv4  = "IPv4"
	firstHalf  = "IPv4 in two halves"
	secondHalf = "the second half"
	wholeIPv6  = "IPv6"
)

// egress is where a default route leads.
type egress struct {
	link   int
	metric uint32
}

// defaults are the default routes of the table main, of whatever link, by what they are.
func (r *rtnl) defaults() (map[string]egress, error) {
	messages, err := r.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{})
	if err != nil {
		return nil, err
	}
	defaults := make(map[string]egress)
	for _, m := range messages {
		if err := addDefault(defaults, m); err != nil {
			return nil, err
		}
	}
	return defaults, nil
}

// addDefault keeps the default route with the lowest metric of each kind, given one route.
func addDefault(defaults map[string]egress, m []byte) error {
	if len(m) < unix.SizeofRtMsg {
		return nil
	}
	h := nl.DeserializeRtMsg(m)
	if h.Type != unix.RTN_UNICAST || h.Table != unix.RT_TABLE_MAIN || h.Flags&unix.RTM_F_CLONED != 0 || h.Tos != 0 {
		return nil
	}
	attrs, err := attributes(m[unix.SizeofRtMsg:])
	if err != nil {
		return err
	}
	var what string
	switch destination, _ := netip.AddrFromSlice(attrs.get(unix.RTA_DST)); {
	case h.Family == unix.AF_INET && h.Dst_len == 0:
		what = wholeIPv4
	case h.Family == unix.AF_INET6 && h.Dst_len == 0 && h.Src_len == 0:
		what = wholeIPv6
	case h.Family != unix.AF_INET || h.Dst_len != 1:
		return nil
	case destination == halves[1].Addr():
		what = secondHalf
	default:
		what = firstHalf
	}
	index := int(u32(attrs.get(unix.RTA_OIF)))
	if hops := attrs.get(unix.RTA_MULTIPATH); index == 0 && len(hops) >= unix.SizeofRtNexthop {
		index = int(int32(u32(hops[4:])))
	}
	metric := u32(attrs.get(unix.RTA_PRIORITY))
	if best, ok := defaults[what]; index != 0 && (!ok || metric < best.metric) {
		defaults[what] = egress{index, metric}
	}
	return nil
}
