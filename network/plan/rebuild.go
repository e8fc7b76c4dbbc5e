package plan

import (
	"slices"
	"strings"
)

// Rebuild is the original as far as a wired namespace itself carries it: MAC, MTU, addresses and neighbours by the
// placeholder, routes parked on the bridge. It serves programs that cannot read the record, and the case that it is lost.
//
// A wiring that is half done has some of it on the pod's link still; what both have counts once.
func Rebuild(wired *Snapshot, names Names) *Snapshot {
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
	return original
}

// OptionsOf reads from the wiring what it was made with.
func OptionsOf(wired *Snapshot, names Names) Options {
	o := Options{Interface: names.Interface, Binding: BindingBridge, Socket: SocketPacket, Tap: names.Tap, Queues: 1}
	if bridge := wired.Link(Bridge); bridge != nil && !bridge.NoARP {
		o.Socket = SocketUDP
	}
	if tap := wired.Link(Tap); tap != nil && tap.TapOptions != nil {
		o.TapOwner, o.TapGroup = tap.TapOptions.Owner, tap.TapOptions.Group
		if tap.TapOptions.MultiQueue {
			o.Queues = 2
		}
	}
	return o
}
