package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// redirectBinding hands the frames that one of two links receives to the other: the pod's link, which stays as it is, and the
// tap. What of the pod's link it sets is whether it is up and whether it takes all multicast.
//
// tc does it where the kernel's nftables cannot: other hooks do the same.
type redirectBinding struct{ tc bool }

func (redirectBinding) Name() string { return BindingRedirect }

func (redirectBinding) Ours() bool { return true }

func (redirectBinding) KeepsNIC() bool { return true }

// Accepts refuses a link that is not an Ethernet link, and one on which other links stand: they would hear nothing.
func (redirectBinding) Accepts(nic Link, all []Link, _ []uint32) error {
	why := ""
	switch {
	case nic.Type == unix.ARPHRD_LOOPBACK:
		return Refuse("%s is the loopback: name the pod's interface with --interface", nic.Name)
	case nic.Kind == KindBridge:
		why = "its ports are what frames are for; name one of them"
	case nic.Kind == KindTun:
		why = "it belongs to the program that holds it"
	case nic.Mode != "" && nic.Mode != ModeL2:
		why = fmt.Sprintf("in its mode %s it has no MAC to give away; configure the pod network to use L2", nic.Mode)
	case nic.Type != unix.ARPHRD_ETHER || nic.MAC.IsZero():
		why = "it has no Ethernet MAC to give away; give the pod a link that has (a veth, macvlan or virtual function)"
	}
	if why != "" {
		return Refuse("%s cannot be wired to a guest: it is a %s link, and %s", nic.Name, kindName(nic), why)
	}
	return acceptFree(nic, all, "once its frames go to the guest")
}

// Names are few: the pod's link keeps its own.
func (b redirectBinding) Names(iface, tap string) Names {
	return Names{Binding: b, Interface: iface, NIC: iface, Tap: tap}
}

// Made is what no other says of itself.
func (redirectBinding) Made(nic Link, marked []Link) bool {
	return !bridgeBinding{}.Made(nic, marked) && !sharedBinding{}.Made(nic, marked)
}

// Recognize goes by the pod's link, which has its name.
func (b redirectBinding) Recognize(nic Link, marked []Link, tap string) (names Names, guessed bool) {
	for _, l := range marked {
		if l.Kind == KindTun {
			tap = l.Name
		}
	}
	return b.Names(nic.Name, tap), nic.Name == ""
}

// Role knows a link of ours by mark, kind and name.
func (redirectBinding) Role(l Link, nic int, names Names) (Role, bool) {
	switch {
	case !MarkedFor(l.Group, nic):
		return "", false
	case l.Kind == KindTun && l.Name == names.Tap:
		return Tap, true
	}
	return strayRole(l), true
}

// sieves reports whether a link drops multicast to groups that the pod's stack has not joined, which the guest's may have:
// the kinds do that stand on another link (macvlan_set_mac_lists, drivers/net/macvlan.c, and the like), and hardware. Without
// it no neighbour is found by IPv6.
func sieves(l Link) bool { return l.Kind != KindVeth && l.Kind != KindNetkit }

// MayMerge reports whether a link may merge what it receives: hardware does, and what stands on it says so too.
func MayMerge(l Link) bool { return sieves(l) && l.Type == unix.ARPHRD_ETHER }

func (b redirectBinding) Wired(original *Snapshot, o Options) *Snapshot {
	pod := original.Link(NIC)
	names := o.Names()
	quiet := ""
	if pod.AddrGenMode != "" {
		quiet = "none"
	}
	nic := *pod
	nic.AltNames = slices.Clone(pod.AltNames)
	// A merged segment is more than the guest's MTU, and a tap takes none that the kernel cannot cut up again
	// (virtio_net_hdr_from_skb): as a bridge would (br_add_if), the redirect has the link merge none.
	nic.Up, nic.AllMulti, nic.LRO = true, pod.AllMulti || sieves(*pod), false
	w := original.Clone()
	w.Links = []Link{nic, {
		Role: Tap, Name: names.Tap, Kind: KindTun, MAC: derivedMAC(pod.MAC, Tap), MTU: tapMTU(pod.MTU), Up: true,
		NoARP: o.Socket == SocketPacket, Group: MarkFor(pod.Index), AddrGenMode: quiet, LocalSources: o.Socket == SocketUDP,
		TapSettings: &TapSettings{Owner: o.TapOwner, Group: o.TapGroup, VNetHdr: true, MultiQueue: o.Queues > 1, Persistent: true},
	}}
	w.Addresses = append(w.Addresses, o.serverAddresses(original, Tap, names.Tap)...)
	w.Neighbours = append(w.Neighbours, original.signposts(o)...)
	w.Filter = b.Filter(original, o)
	if b.tc {
		w.Links[1].Alias = factsOfTC(original, o).String()
		_, w.Qdiscs, _ = RedirectByTC(original, o) // CheckTC has the error
	}
	return w
}

func (b redirectBinding) Filter(original *Snapshot, o Options) *Filter {
	if b.tc {
		f, _, _ := RedirectByTC(original, o)
		return f
	}
	nic := original.Link(NIC)
	return RedirectFilter(original, o, RedirectFacts{Mark: o.Mark, AllMulticast: nic.AllMulti, LRO: nic.LRO})
}

func (b redirectBinding) FilterFamily() *FilterFamily {
	if b.tc {
		return RedirectTCFamily
	}
	return RedirectFamily
}

// Rebuild finds everything on the pod's link, but for what the filter or the tap keeps of it.
func (b redirectBinding) Rebuild(wired *Snapshot, _ Names) *Snapshot {
	original := wired.Clone()
	nic := *original.Link(NIC)
	if facts, found := b.facts(wired); found {
		nic.AllMulti, nic.LRO = facts.AllMulticast, facts.LRO
	}
	original.Links, original.Filter, original.Qdiscs = []Link{nic}, nil, nil
	original.Addresses = original.AddressesOf(NIC)
	original.Routes = slices.DeleteFunc(original.Routes, func(r Route) bool { return !r.uses(NIC) })
	original.Neighbours = slices.DeleteFunc(original.Neighbours, func(n Neighbour) bool { return n.Link != NIC })
	original.recallRouters(wired)
	return original
}

func (b redirectBinding) Options(wired *Snapshot, names Names) Options {
	o := Options{Interface: names.Interface, Binding: b.Name(), Socket: SocketPacket, Tap: names.Tap, Queues: 1}
	if tap := wired.Link(Tap); tap != nil {
		if !tap.NoARP {
			o.Socket = SocketUDP
		}
		o.ofTap(tap)
	}
	facts, _ := b.facts(wired)
	o.Mark, o.SpoofGuard, o.TC = facts.Mark, guarded(wired.Filter), b.tc
	if facts.Guard {
		o.SpoofGuard = new(true)
	}
	o.IPv6 = ipv6Of(b, wired, o)
	return o
}

// facts are what the filter keeps, or, where tc redirects, the tap.
func (b redirectBinding) facts(wired *Snapshot) (RedirectFacts, bool) {
	if tap := wired.Link(Tap); b.tc && tap != nil {
		return redirectFactsOf(tap.Alias)
	}
	return RedirectFactsOf(wired.Filter)
}

func (redirectBinding) Identify(original *Snapshot, o Options) (identity.Identity, []string) {
	return Identify(original, o)
}

func (redirectBinding) ServerLink(names Names, _ string) string { return names.Tap }

// steps make the tap before the filter, which is what hands frames over, and takes them back in one transaction. A filter
// holds the tap's index: for another tap it is made anew. It also holds whether the link took all multicast, so that it is
// there as long as the link does for the guest's sake.
func (redirectBinding) steps(p *planner) {
	if p.want.Link(Tap) == nil {
		p.removeQdiscs(NIC)
		p.set(NIC, SettingAllMulti)
		p.set(NIC, SettingLRO)
		p.removeFilter()
		if have, want, ok := p.both(NIC); ok && have.Up && !want.Up {
			p.set(NIC, SettingUp)
		}
		p.removeLinks()
		return
	}
	p.removeMisfits()
	made := p.now.Link(Tap) == nil
	p.createLinks()
	p.setLinks(Tap)
	p.raise(Tap)
	p.furnish(Tap)
	if have, want, ok := p.both(NIC); ok && !have.Up && want.Up {
		p.set(NIC, SettingUp)
	}
	if p.want.Filter != nil && p.now.Filter != nil && made && p.want.Qdiscs == nil {
		p.replaceFilter()
	} else {
		p.putFilter()
		p.removeFilter()
	}
	p.putQdiscs(Tap, NIC)
	p.set(NIC, SettingAllMulti)
	p.set(NIC, SettingLRO)
}

// deviations are those of the pod's link that matter: what else others have changed on it is theirs, and stays.
func (redirectBinding) deviations(c *comparison, have, want *Link) {
	say := func(format string, args ...any) { c.add(NIC, have.Name, fmt.Sprintf(format, args...)) }
	if SettingUp.differ(have, want) {
		say("is %s", SettingUp.detail(want, have))
	}
	for _, s := range []*LinkSetting{SettingAllMulti, SettingLRO} {
		if s.differ(have, want) {
			c.setting(s, have, want)
		}
	}
	const remedy = "restore it and prepare it anew, for the guest to get what is there now"
	if have.MAC != want.MAC {
		say("has the MAC %s, and the guest has %s: %s", have.MAC, want.MAC, remedy)
	}
	c.qdiscs(have)
	had, has := toldAddresses(c.want), toldAddresses(c.have)
	for _, a := range had {
		if !slices.Contains(has, a) {
			say("has lost the address %s, which the guest has: %s", a, remedy)
		}
	}
	for _, a := range has {
		if !slices.Contains(had, a) {
			say("has the address %s, which the guest has not been told: %s", a, remedy)
		}
	}
}

// toldAddresses are the addresses of the pod's link that a guest may be given.
func toldAddresses(s *Snapshot) (all []netip.Prefix) {
	for _, a := range s.AddressesOf(NIC) {
		if !a.Local.Addr().IsLinkLocalUnicast() {
			all = append(all, a.Local)
		}
	}
	return all
}

// Notes say what others have changed on the pod's link since it was wired, which the guest has not been told. It stays.
func (redirectBinding) Notes(original, current *Snapshot) (notes []string) {
	was, is := original.Link(NIC), current.Link(NIC)
	if is == nil {
		return nil
	}
	if was.MTU != is.MTU {
		notes = append(notes, fmt.Sprintf("%s has the MTU %d since it was wired, and the guest has %d", is.Name, is.MTU, tapMTU(was.MTU)))
	}
	routes := func(s *Snapshot) []Route {
		return slices.DeleteFunc(slices.Clone(s.Routes), func(r Route) bool { return !r.uses(NIC) || !r.usable() })
	}
	had, has := routes(original), routes(current)
	lacking := func(of, in []Route) (n int) {
		for _, r := range of {
			if !slices.ContainsFunc(in, r.Same) {
				n++
			}
		}
		return n
	}
	if gone, come := lacking(had, has), lacking(has, had); gone+come > 0 {
		notes = append(notes, fmt.Sprintf("routes of %s were changed since it was wired (%d gone, %d new), and the guest has the old ones", is.Name, gone, come))
	}
	return notes
}
