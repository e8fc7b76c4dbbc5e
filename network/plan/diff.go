package plan

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Diff is the ordered list of steps that lead from current to wanted, and empty where nothing differs. It is a pure
// function; the steps already count on what each of them takes along in the kernel. Their order is the binding's.
func Diff(b Binding, current, wanted *Snapshot) []Step {
	p := &planner{now: current.Clone(), want: wanted}
	b.steps(p)
	return p.steps
}

// planner holds the state that the steps so far lead to.
type planner struct {
	now   *Snapshot
	want  *Snapshot
	steps []Step
}

func (p *planner) step(do, object, detail string, c Change) {
	p.steps = append(p.steps, Step{Do: do, Object: object, Detail: detail, Change: c})
	p.now.Model(c)
}

// name is what the link is called at this point of the plan.
func (p *planner) name(role Role) string {
	if l := p.now.Link(role); l != nil {
		return l.Name
	}
	return string(role)
}

// both finds a link in what is and in what is wanted.
func (p *planner) both(role Role) (have, want *Link, ok bool) {
	have, want = p.now.Link(role), p.want.Link(role)
	return have, want, have != nil && want != nil
}

// removeMisfits removes links of ours that the wiring has no place for, or whose creation was another one. Nothing is
// removed here that the wanted namespace can do without: that goes last.
func (p *planner) removeMisfits() {
	if len(p.want.Links) <= 1 {
		return
	}
	for _, l := range slices.Clone(p.now.Links) {
		if l.Role == NIC {
			continue
		}
		want := p.want.Link(l.Role)
		if want == nil || want.Kind != l.Kind || !SameTap(want.TapSettings, l.TapSettings) {
			p.leaveGroups(l.Role)
			p.step("delete link", l.Name, "", DeleteLink{l.Role})
		}
	}
}

func (p *planner) createLinks() {
	for _, want := range p.want.Links {
		if p.now.Link(want.Role) != nil || want.Role == NIC {
			continue
		}
		l := want
		if taken := p.holder(l.Name); taken != nil {
			l.Name = derivedName(want.Name, "-id")
		}
		p.step("add link", l.Name, describeLink(l), CreateLink{l})
		p.set(l.Role, SettingAddrGenMode)
	}
}

// minMTU6 is IPV6_MIN_MTU: a link with less has no IPv6, and takes no route of it (addrconf_notify in net/ipv6/addrconf.c).
const minMTU6 = 1280

// widen gives links IPv6 back before anything of it is put on them. A bridge follows the smallest MTU of its ports.
func (p *planner) widen(roles ...Role) {
	for _, role := range roles {
		if have, want, ok := p.both(role); ok && have.MTU < minMTU6 && want.MTU >= minMTU6 {
			p.set(role, SettingMTU)
		}
	}
}

func describeLink(l Link) string {
	kind := l.Kind
	if l.TapSettings != nil {
		kind = "tap"
		if l.TapSettings.MultiQueue {
			kind += " multi_queue"
		}
		if l.TapSettings.Owner != nil {
			kind += fmt.Sprintf(" user %d", *l.TapSettings.Owner)
		}
		if l.TapSettings.Group != nil {
			kind += fmt.Sprintf(" group %d", *l.TapSettings.Group)
		}
	}
	arp := ""
	if l.NoARP {
		arp = " arp off"
	}
	return fmt.Sprintf("type %s address %s mtu %d%s group %#x", kind, l.MAC, l.MTU, arp, l.Group)
}

// holder is the link that has the name at this point of the plan.
func (p *planner) holder(name string) *Link {
	for i := range p.now.Links {
		if p.now.Links[i].Name == name {
			return &p.now.Links[i]
		}
	}
	return nil
}

// set makes one property what it should be.
func (p *planner) set(role Role, setting *LinkSetting) {
	have, want, ok := p.both(role)
	if !ok || setting.nicOnly && role != NIC || !setting.differ(have, want) {
		return
	}
	detail := setting.detail(have, want)
	if setting == SettingMaster && want.Master != "" {
		detail = p.name(want.Master)
	}
	p.step(setting.do, have.Name, detail, SetLink{role, setting, *want})
}

// raise sets links up that should be. The tap and the bridge are up before the NIC, so that the guest's side is ready
// when the pod network is.
func (p *planner) raise(roles ...Role) {
	for _, role := range roles {
		if have, want, ok := p.both(role); ok && want.Up && !have.Up {
			if role == NIC {
				p.quiet(role)
			}
			p.set(role, SettingUp)
		}
	}
}

// quiet keeps the kernel from making link-local addresses when the link comes up: those that the link should have are
// added, without running duplicate address detection again on addresses that had passed it.
func (p *planner) quiet(role Role) {
	have := p.now.Link(role)
	none := *have
	none.AddrGenMode = "none"
	if SettingAddrGenMode.differ(have, &none) {
		p.step(SettingAddrGenMode.do, have.Name, none.AddrGenMode, SetLink{role, SettingAddrGenMode, none})
	}
}

func (p *planner) setAddrGenMode(role Role) { p.set(role, SettingAddrGenMode) }

// putFilter comes before the first frame can pass between the ports.
func (p *planner) putFilter() {
	if want := p.want.Filter; want != nil && !want.Same(p.now.Filter) {
		p.step("set filter", want.Table, fmt.Sprintf("%d rules", len(want.Rules)), PutFilter{want, p.now.Filter != nil})
	}
}

// replaceFilter puts the filter in place anew although it reads the same.
func (p *planner) replaceFilter() {
	want := p.want.Filter
	p.step("set filter", want.Table, fmt.Sprintf("%d rules", len(want.Rules)), PutFilter{want, true})
}

func (p *planner) removeFilter() {
	if have := p.now.Filter; have != nil && p.want.Filter == nil {
		p.step("delete filter", have.Table, "", RemoveFilter{have.Family, have.Table})
	}
}

// moveNIC makes the pod's link what it should be, all but up. Whatever needs it down happens in one go.
func (p *planner) moveNIC() {
	have, want, ok := p.both(NIC)
	if !ok {
		return
	}
	down := !want.Up || SettingName.differ(have, want)
	for _, s := range linkSettings {
		down = down || s.down && s.differ(have, want)
	}
	if have.Up && down {
		p.leaveGroups(NIC)
		lower := *want
		lower.Up = false
		p.step(SettingUp.do, have.Name, "down", SetLink{NIC, SettingUp, lower})
	}
	p.swapNames()
	for _, s := range linkSettings {
		if s == SettingAddrGenMode && want.Up && want.AddrGenMode != "none" {
			continue // once it is up and has its addresses
		}
		p.set(NIC, s)
	}
}

// leaveGroups deletes the addresses that groups were joined with. An IPv6 address goes when its link goes down, and one of
// either family with its link, but the memberships do not (addrconf_ifdown, inetdev_destroy): the same address could not
// be added again, or a few times only.
func (p *planner) leaveGroups(role Role) {
	for _, a := range slices.Backward(p.now.AddressesOf(role)) {
		if a.Flags&unix.IFA_F_MCAUTOJOIN != 0 && (role != NIC || !a.Is4()) {
			p.step("delete address", p.name(role), a.String(), DeleteAddress{a})
		}
	}
}

// swapNames gives NIC and placeholder their names. A link whose name another link needs steps aside first.
func (p *planner) swapNames() {
	have, want, ok := p.both(NIC)
	if !ok {
		return
	}
	if have.Name != want.Name {
		if in := p.holder(want.Name); in != nil {
			aside := *in
			aside.Name = derivedName(want.Name, "-id")
			p.lower(in.Role)
			p.step(SettingName.do, in.Name, SettingName.detail(in, &aside), SetLink{in.Role, SettingName, aside})
		}
		p.set(NIC, SettingName)
	}
	for _, role := range []Role{Placeholder, Bridge, Tap} {
		if have, want, ok := p.both(role); ok && SettingName.differ(have, want) {
			p.lower(role)
			p.set(role, SettingName)
		}
	}
}

// stripNIC takes away the addresses that the pod's link should not have, before it comes up with them. By now they are
// somewhere else.
func (p *planner) stripNIC() {
	have, _, ok := p.both(NIC)
	if !ok || have.Up {
		return
	}
	wanted := p.want.AddressesOf(NIC)
	for _, a := range slices.Backward(p.now.AddressesOf(NIC)) {
		if !slices.ContainsFunc(wanted, a.Same) {
			p.step("delete address", have.Name, a.String(), DeleteAddress{a})
		}
	}
}

func (p *planner) lower(role Role) {
	if have := p.now.Link(role); have.Up {
		down := *have
		down.Up = false
		p.step(SettingUp.do, have.Name, "down", SetLink{role, SettingUp, down})
	}
}

// setLinks makes links of ours what they should be, all but up.
func (p *planner) setLinks(roles ...Role) {
	for _, role := range roles {
		if have, want, ok := p.both(role); ok {
			if have.Up && !want.Up {
				p.set(role, SettingUp)
			}
			for _, s := range linkSettings {
				p.set(role, s)
			}
		}
	}
}

// furnish gives links their addresses, neighbours and routes, and takes away what they should not have.
func (p *planner) furnish(roles ...Role) {
	for _, role := range roles {
		have, want, ok := p.both(role)
		if !ok {
			continue
		}
		if role == Bridge && want.Up && !have.Up {
			for _, s := range linkSettings {
				p.set(role, s)
			}
			p.raise(role) // a link that is down takes no routes
		}
		// The kernel rewrites IPv4 labels when a link is renamed (inetdev_changename), so they wait for the name.
		named := have.Name == want.Name
		p.addresses(role, false)
		if named {
			p.addresses(role, true)
		}
		p.neighbours(role)
	}
	for _, role := range roles {
		if have, want, ok := p.both(role); ok && have.Up == want.Up {
			p.routes(role)
		}
	}
}

// addresses keeps the longest beginning that is as wanted and sets the rest anew, since order is part of what an address
// list says: the first one is the source of connections.
func (p *planner) addresses(role Role, is4 bool) {
	pick := func(s *Snapshot) []Address {
		return slices.DeleteFunc(s.AddressesOf(role), func(a Address) bool { return a.Is4() != is4 })
	}
	have, want := pick(p.now), pick(p.want)
	name := p.name(role)
	same := 0
	for same < min(len(have), len(want)) && have[same].Same(want[same]) {
		if !have[same].SameLifetimes(want[same]) {
			p.step("change address", name, want[same].String(), ChangeAddress{want[same]})
		}
		same++
	}
	for _, a := range slices.Backward(have[same:]) {
		p.step("delete address", name, a.String(), DeleteAddress{a})
	}
	for _, a := range want[same:] {
		p.step("add address", name, a.String(), AddAddress{a})
	}
}

func (p *planner) neighbours(role Role) {
	of := func(s *Snapshot) []Neighbour {
		return slices.DeleteFunc(slices.Clone(s.Neighbours), func(n Neighbour) bool { return n.Link != role })
	}
	have, want := of(p.now), of(p.want)
	for _, n := range have {
		if !slices.Contains(want, n) {
			p.step("delete neighbour", p.name(role), n.String(), DeleteNeighbour{n})
		}
	}
	for _, n := range want {
		if !slices.Contains(have, n) {
			p.step("add neighbour", p.name(role), n.String(), AddNeighbour{n})
		}
	}
}

// routes sets the routes of a link. One that uses another link as well is left alone as long as the NIC is a port: the
// kernel marks our hop dead and revives it, and the other hop is somebody's.
func (p *planner) routes(role Role) {
	wired := p.want.Link(Bridge) != nil
	of := func(s *Snapshot) []Route {
		return slices.DeleteFunc(slices.Clone(s.Routes), func(r Route) bool {
			return !r.uses(role) || wired && !r.usesOnly(role)
		})
	}
	have, want := of(p.now), of(p.want)
	for _, r := range have {
		if !slices.ContainsFunc(want, r.Same) {
			p.step("delete route", p.name(role), r.String(), DeleteRoute{r})
		}
	}
	slices.SortStableFunc(want, func(a, b Route) int { return cmp.Compare(boolByte(!a.Direct()), boolByte(!b.Direct())) })
	for _, r := range want {
		if !slices.ContainsFunc(have, r.Same) {
			p.step("add route", p.name(role), r.String(), AddRoute{r})
		}
	}
}

// removeLinks removes what is left over of ours.
func (p *planner) removeLinks() {
	var left []Link
	for _, l := range p.now.Links {
		if l.Role != NIC && p.want.Link(l.Role) == nil {
			left = append(left, l)
			p.leaveGroups(l.Role)
		}
	}
	if len(left) == 0 {
		return
	}
	if len(p.want.Links) <= 1 {
		names := ""
		for _, l := range left {
			names += " " + l.Name
		}
		p.step("delete links", fmt.Sprintf("group %#x", left[0].Group), names[1:], DeleteMarked{left[0].Group})
		return
	}
	for _, l := range left {
		p.step("delete link", l.Name, "", DeleteLink{l.Role})
	}
}
