package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// bridgeBinding joins the pod's link and the tap as ports of a bridge. The pod's link gives its name, MAC and addresses to a
// placeholder.
type bridgeBinding struct{}

func (bridgeBinding) Name() string { return BindingBridge }

func (bridgeBinding) Ours() bool { return true }

func (bridgeBinding) KeepsNIC() bool { return false }

// nicSuffix ends the name that the pod's link has as a port.
const nicSuffix = "-nic"

func (b bridgeBinding) Names(iface, tap string) Names {
	return Names{
		Binding:   b,
		Interface: iface,
		NIC:       derivedName(iface, nicSuffix),
		Bridge:    derivedName(iface, "-br"),
		Tap:       tap,
		Aside:     derivedName(iface, "-id"),
	}
}

// Made goes by another link than the tap, or another name of the pod's than its own.
func (bridgeBinding) Made(nic Link, marked []Link) bool {
	return strings.HasSuffix(nic.Name, nicSuffix) ||
		slices.ContainsFunc(marked, func(l Link) bool { return l.Kind != KindTun })
}

// Recognize goes by the placeholder, which bears the interface's name, or is not in place yet, and the NIC still does.
func (b bridgeBinding) Recognize(nic Link, marked []Link, tap string) (names Names, guessed bool) {
	var bridges []string
	for _, l := range marked {
		switch l.Kind {
		case KindTun:
			tap = l.Name
		case KindBridge:
			bridges = append(bridges, l.Name)
		}
	}
	for _, candidate := range append(slices.Clone(bridges), nic.Name) {
		names := b.Names(candidate, tap)
		if slices.Contains(bridges, names.Bridge) || nic.Name == names.NIC {
			return names, false
		}
	}
	// Neither: the placeholder is gone or aside.
	for _, suffix := range []string{nicSuffix, "-br", "-id"} {
		for _, name := range append([]string{nic.Name}, bridges...) {
			if base, ok := strings.CutSuffix(name, suffix); ok {
				return b.Names(base, tap), true
			}
		}
	}
	return b.Names(nic.Name, tap), true
}

// Role knows a link of ours by mark, kind and name.
func (bridgeBinding) Role(l Link, nic int, names Names) (Role, bool) {
	switch {
	case !MarkedFor(l.Group, nic):
		return "", false
	case l.Kind == KindTun && l.Name == names.Tap:
		return Tap, true
	case l.Kind == KindBridge && l.Name == names.Bridge:
		return Bridge, true
	case l.Kind == KindBridge && (l.Name == names.Interface || l.Name == names.Aside):
		return Placeholder, true
	}
	return strayRole(l), true
}

// linkKinds says of each kind of link that people give to pods why it cannot be a port for a guest, and what would work.
var linkKinds = map[string]string{
	"macvlan": "it passes only frames of its own MAC, and the guest's frames would come from a bridge port with another; give the pod a veth (a bridge or ptp network), or the guest a macvtap of its own",
	"ipvlan":  "it shares its parent's MAC and sorts frames by IP address, so that a bridge behind it hears nothing; give the pod a veth (a bridge or ptp network)",
	"netkit":  "in its L3 mode it has no MAC to give away; configure the pod network to use veth",
	"bridge":  "a bridge cannot be a port of another bridge",
	"tun":     "it belongs to the program that holds it",
	"vlan":    "its frames would be bridged below it; give the pod a veth on the VLAN's bridge",
	"":        "it is a device of the machine (an SR-IOV function, a moved NIC), whose hardware passes only frames of its own MAC; hand it to the guest by PCI passthrough",
}

// Accepts refuses a link that cannot be a bridge port for a guest, and one on which something is that podnic could not take
// along. Nexthop objects vanish when the link is set down, and a snapshot does not hold them.
func (bridgeBinding) Accepts(nic Link, all []Link, nexthops []uint32) error {
	if err := acceptKind(nic); err != nil {
		return err
	}
	if err := acceptFree(nic, all, "once "+nic.Name+" is a bridge port"); err != nil {
		return err
	}
	if len(nexthops) > 0 {
		return Refuse("%s has the nexthop object %d, which podnic cannot put back: use routes with their own next hops", nic.Name, nexthops[0])
	}
	return nil
}

func acceptKind(l Link) error {
	switch {
	case l.Type == unix.ARPHRD_LOOPBACK:
		return Refuse("%s is the loopback: name the pod's interface with --interface", l.Name)
	case l.Kind == KindVeth:
		return nil
	}
	reason, known := linkKinds[l.Kind]
	if !known {
		reason = "podnic knows how to wire veth alone; give the pod a veth (a bridge or ptp network)"
	}
	return Refuse("%s cannot be wired to a guest: it is a %s link, and %s", l.Name, kindName(l), reason)
}

func kindName(l Link) string { return cmp.Or(l.Kind, "physical") }

// acceptFree refuses a link that is a port of another, and one on which others stand, which hear nothing then.
func acceptFree(nic Link, all []Link, then string) error {
	if nic.MasterIndex != 0 {
		return Refuse("%s is already a port of %s: take it out first (ip link set %s nomaster)", nic.Name, NameOf(all, nic.MasterIndex), nic.Name)
	}
	for _, l := range all {
		if l.ParentIndex == nic.Index && !l.HasPeer && l.Kind != KindVeth {
			return Refuse("the %s link %s stands on %s, and would hear nothing %s: remove it first", l.Kind, l.Name, nic.Name, then)
		}
	}
	return nil
}

// forwardLLDP has a bridge treat frames to 01:80:c2:00:00:0e, LLDP's address (IEEE 802.1AB), as all others. Of the sixteen
// reserved group addresses this is the one whose frames a bridge without that bit gives to the port's own stack past the
// filter (br_handle_frame, net/bridge/br_input.c): with 00 they are bridged where there is no spanning tree, with 01
// dropped, with the other ones shown to the filter's input chain, which drops them. See ADR 20.
const forwardLLDP = 1 << 0xe

func (bridgeBinding) Wired(original *Snapshot, o Options) *Snapshot {
	pod := original.Link(NIC)
	names := o.Names()
	mark := MarkFor(pod.Index)
	quiet := ""
	if pod.AddrGenMode != "" {
		quiet = "none" // no IPv6 link-local address of its own, so that the stack says nothing on the link
	}

	nic := *pod
	nic.AltNames = slices.Clone(pod.AltNames)
	nic.Name, nic.MAC, nic.Up, nic.AddrGenMode = names.NIC, derivedMAC(pod.MAC, NIC), true, quiet
	nic.Master, nic.MasterIndex, nic.Learning = Bridge, 0, false

	bridge := Link{
		Role: Bridge, Name: names.Bridge, Kind: KindBridge, MAC: derivedMAC(pod.MAC, Bridge), MTU: tapMTU(pod.MTU), Up: true,
		NoARP: o.Socket == SocketPacket, Group: mark, AddrGenMode: quiet, BridgeSettings: &BridgeSettings{GroupForwardMask: forwardLLDP},
	}
	tap := Link{
		Role: Tap, Name: names.Tap, Kind: KindTun, MAC: derivedMAC(pod.MAC, Tap), MTU: tapMTU(pod.MTU), Up: true, Group: mark,
		AddrGenMode: quiet, Master: Bridge,
		TapSettings: &TapSettings{Owner: o.TapOwner, Group: o.TapGroup, VNetHdr: true, MultiQueue: o.Queues > 1, Persistent: true},
	}
	// The placeholder is a bridge without ports: every kernel that can do the rest has that. It stays down, so that it
	// neither answers nor routes. It also keeps how the pod's interface makes link-local addresses.
	placeholder := Link{
		Role: Placeholder, Name: names.Interface, Kind: KindBridge, MAC: pod.MAC, MTU: pod.MTU, Group: mark,
		AddrGenMode: pod.AddrGenMode, BridgeSettings: &BridgeSettings{},
	}

	w := &Snapshot{Links: []Link{nic, bridge, tap, placeholder}, Rules: original.Rules, Barriers: original.Barriers}
	for _, a := range original.Addresses {
		a.Link = Placeholder
		w.Addresses = append(w.Addresses, a)
	}
	w.Addresses = append(w.Addresses, o.serverAddresses(original, Bridge, names.Bridge)...)
	for _, n := range original.Neighbours {
		n.Link = Placeholder
		w.Neighbours = append(w.Neighbours, n)
	}
	w.Neighbours = append(w.Neighbours, original.signposts(o)...)
	w.Routes = park(original.Routes)
	w.Filter = WantedFilter(original, o)
	return w
}

// Rebuild finds MAC, MTU, addresses and neighbours on the placeholder, and routes parked on the bridge. A wiring that is half done has some of it on the pod's link still; what both have counts once.
func (bridgeBinding) Rebuild(wired *Snapshot, names Names) *Snapshot {
	original := &Snapshot{Rules: wired.Rules, Barriers: wired.Barriers}
	nic := *wired.Link(NIC)
	nic.Name, nic.Up = names.Interface, true
	nic.Master, nic.MasterIndex, nic.Learning = "", 0, false
	if keeper := wired.Link(Placeholder); keeper != nil {
		nic.MAC, nic.MTU = keeper.MAC, keeper.MTU
		if nic.AddrGenMode != "" && keeper.AddrGenMode != "" {
			nic.AddrGenMode = keeper.AddrGenMode
		}
	}
	original.Links = []Link{nic}
	for _, a := range wired.Addresses {
		if a.Link != Placeholder && a.Link != NIC {
			continue
		}
		a.Link = NIC
		if a.Label != "" && !strings.HasPrefix(a.Label, names.Interface+":") {
			a.Label = names.Interface
		}
		if !slices.ContainsFunc(original.Addresses, a.Same) {
			original.Addresses = append(original.Addresses, a)
		}
	}
	for _, n := range wired.Neighbours {
		if n.Link == Placeholder || n.Link == NIC {
			n.Link = NIC
			if !slices.Contains(original.Neighbours, n) {
				original.Neighbours = append(original.Neighbours, n)
			}
		}
	}
	add := func(r Route) {
		if !slices.ContainsFunc(original.Routes, r.Same) {
			original.Routes = append(original.Routes, r)
		}
	}
	for _, r := range unpark(wired.Routes) {
		add(r)
	}
	for _, r := range wired.Routes {
		if r.uses(NIC) {
			add(r.clone())
		}
	}
	original.recallRouters(wired)
	return original
}

func (b bridgeBinding) Options(wired *Snapshot, names Names) Options {
	o := Options{Interface: names.Interface, Binding: BindingBridge, Socket: SocketPacket, Tap: names.Tap, Queues: 1}
	if bridge := wired.Link(Bridge); bridge != nil && !bridge.NoARP {
		o.Socket = SocketUDP
	}
	o.SpoofGuard = guarded(wired.Filter)
	if tap := wired.Link(Tap); tap != nil {
		o.ofTap(tap)
	}
	o.IPv6 = ipv6Of(b, wired, o)
	return o
}

// Notes warn of what runs out: what differs is a deviation. The pod's own clients and its stack hear nobody behind a bridge.
func (bridgeBinding) Notes(original, _ *Snapshot) []string {
	var leased []string
	for _, a := range original.AddressesOf(NIC) {
		if a.ValidUntil != 0 {
			leased = append(leased, a.Local.String())
		}
	}
	if len(leased) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("addresses of %s run out (%s), and behind a bridge nobody can renew them for the pod: use --binding redirect if the guest lives longer than they do",
		original.Link(NIC).Name, some(leased))}
}

func (bridgeBinding) deviations(c *comparison, have, want *Link) { c.all(have, want) }

func (bridgeBinding) Identify(original *Snapshot, o Options) (identity.Identity, []string) {
	return Identify(original, o)
}

func (bridgeBinding) ServerLink(names Names, socket string) string {
	if socket == SocketUDP {
		return names.Bridge
	}
	return names.Tap
}

func (bridgeBinding) FilterFamily() *FilterFamily { return BridgeFilter }

// steps keep the pod's identity in the namespace at every moment: what is new is made and furnished first, then the pod's
// link is moved, and what is no longer wanted goes last. Mind also that a link is renamed and attached while it is down, that
// addresses come before the routes that use them, and routes on the link before those with gateways.
func (bridgeBinding) steps(p *planner) {
	p.removeMisfits()
	p.createLinks()
	p.widen(Bridge, Tap, Placeholder)
	p.furnish(Bridge, Tap, Placeholder)
	p.putFilter()
	p.moveNIC()
	p.setLinks(Placeholder, Bridge, Tap)
	p.furnish(Placeholder, Bridge, Tap)
	p.stripNIC()
	p.raise(Bridge, Tap, NIC)
	p.furnish(NIC, Bridge, Tap, Placeholder)
	p.setAddrGenMode(NIC)
	p.removeFilter()
	p.removeLinks()
}
