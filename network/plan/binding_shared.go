package plan

import (
	"net/netip"
	"slices"
	"strings"

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

// Made goes by the tap's alias.
func (sharedBinding) Made(nic Link, marked []Link) bool {
	return !bridgeBinding{}.Made(nic, marked) && slices.ContainsFunc(marked, isShared)
}

func (b sharedBinding) Recognize(nic Link, marked []Link, tap string) (names Names, guessed bool) {
	names, guessed = b.redirectBinding.Recognize(nic, marked, tap)
	names.Binding = b
	return names, guessed
}

func (b sharedBinding) Wired(original *Snapshot, o Options) *Snapshot {
	w := b.redirectBinding.Wired(original, o)
	tap := w.Link(Tap)
	tap.Alias = o.sharedAlias()
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
	if tap := wired.Link(Tap); tap != nil && !o.PortsTold() {
		o.PodPorts, o.GuestPorts, o.Sources = portsOfAlias(tap.Alias)
	}
	o.IPv6 = ipv6Of(b, wired, o)
	return o
}

// The tap's alias says that the address is shared, and by which ports, to whoever may see no filter: it begins as the filter's
// comment does. Ports for which it has no room are in the filter and the record alone.
const (
	aliasKept    = "pod-ports "
	aliasGuest   = "guest-ports "
	aliasSources = "sources "
)

// sharedAlias is that alias.
func (o Options) sharedAlias() string {
	facts := []string{sharedComment}
	if len(o.PodPorts) > 0 {
		facts = append(facts, aliasKept+o.PodPorts.String())
	}
	if len(o.GuestPorts) > 0 {
		facts = append(facts, aliasGuest+o.GuestPorts.String())
	}
	text := strings.Join(append(facts, aliasSources+o.Sources.String()), ", ")
	if len(text) > maxAlias {
		return sharedComment
	}
	return text
}

// isShared reports whether a tap's alias says so.
func isShared(tap Link) bool {
	facts, _ := redirectFactsOf(tap.Alias)
	return facts.Shared
}

// portsOfAlias are those that the alias has. What it has not, or not as it was written, is empty.
func portsOfAlias(alias string) (kept, guest Ports, sources PortRange) {
	for fact := range strings.SplitSeq(alias, ", ") {
		if text, is := strings.CutPrefix(fact, aliasKept); is {
			kept, _ = ParsePorts(text)
		}
		if text, is := strings.CutPrefix(fact, aliasGuest); is {
			guest, _ = ParsePorts(text)
		}
		if text, is := strings.CutPrefix(fact, aliasSources); is {
			sources, _ = ParsePortRange(text)
		}
	}
	return kept, guest, sources
}

// PortsTold reports whether it is known which ports are whose. It is not where the record and the filter are not for this
// process to read and the tap's alias had no room for them.
func (o Options) PortsTold() bool { return o.Binding != BindingShared || o.Sources != (PortRange{}) }

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
