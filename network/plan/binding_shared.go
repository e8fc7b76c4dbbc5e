package plan

import (
	"net/netip"
	"slices"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// sharedBinding is a redirect by nftables that leaves ports of the pod's address to its containers. By the tap, which has
// the address that guest and containers reach each other by, the pod's stack takes what the guest sends there.
type sharedBinding struct{ redirectBinding }

func (sharedBinding) Name() string { return BindingShared }

func (b sharedBinding) Names(iface, tap string) Names {
	n := b.redirectBinding.Names(iface, tap)
	n.Binding = b
	return n
}

func (b sharedBinding) Recognize(nic Link, marked []Link, tap string) (names Names, guessed bool) {
	names, guessed = b.redirectBinding.Recognize(nic, marked, tap)
	names.Binding = b
	return names, guessed
}

func (b sharedBinding) Wired(original *Snapshot, o Options) *Snapshot {
	w := b.redirectBinding.Wired(original, o)
	tap := w.Link(Tap)
	own4, own6 := original.shared(o)
	add := func(a netip.Addr) {
		of := Address{Link: Tap, Local: netip.PrefixFrom(a, a.BitLen())}
		if a.Is4() {
			of.Label, of.Scope = tap.Name, unix.RT_SCOPE_LINK
		} else {
			of.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
		}
		if !slices.ContainsFunc(w.Addresses, of.Same) {
			w.Addresses = append(w.Addresses, of)
		}
	}
	if own4.IsValid() {
		tap.LocalSources, tap.LoopbackSources = true, len(o.GuestPorts) > 0
		add(identity.ServerLinkLocal)
		if o.Socket == SocketUDP && len(o.GuestPorts) > 0 {
			add(identity.Localhost4) // whom the guest asks for by ARP is answered by the stack
		}
	}
	if own6.IsValid() {
		add(identity.Other6)
	}
	w.Filter = b.Filter(original, o)
	return w
}

func (sharedBinding) Filter(original *Snapshot, o Options) *Filter {
	nic := original.Link(NIC)
	return RedirectFilter(original, o, RedirectFacts{Shared: true, Mark: o.Mark, AllMulticast: nic.AllMulti, LRO: nic.LRO})
}

func (b sharedBinding) Options(wired *Snapshot, names Names) Options {
	o := Options{Interface: names.Interface, Binding: b.Name(), Socket: SocketPacket, Tap: names.Tap, Queues: 1}
	if tap := wired.Link(Tap); tap != nil {
		if !tap.NoARP {
			o.Socket = SocketUDP
		}
		o.ofTap(tap)
	}
	facts, _ := RedirectFactsOf(wired.Filter)
	o.Mark, o.SpoofGuard = facts.Mark, guarded(wired.Filter)
	o.PodPorts, o.GuestPorts, o.Sources = sharedPorts(wired.Filter)
	o.IPv6 = ipv6Of(b, wired, o)
	return o
}

// CheckShared refuses an interface that has no address to share.
func (o Options) CheckShared(original *Snapshot) error {
	if o.Binding != BindingShared {
		return nil
	}
	if id, _ := Identify(original, o); id.Layer2Only() {
		return Refuse("%s has no address that guest and containers could share: pass --binding redirect", o.Interface)
	}
	return o.CheckSources()
}
