package plan

import (
	"cmp"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// managedTapBinding is the wiring of KubeVirt's node agent, which podnic serves and never changes. It is made of the same
// links as podnic's own bridge, under other names and without marks.
type managedTapBinding struct{ bridgeBinding }

func (managedTapBinding) Name() string { return BindingManagedTap }

func (managedTapBinding) Ours() bool { return false }

func (managedTapBinding) Made(Link, []Link) bool { return false }

// Names are those that KubeVirt's node agent gives to the links, for a pod interface called eth0, netN, or pod and 11
// hexadecimal digits (kubevirt, pkg/network/link/names.go).
func (b managedTapBinding) Names(iface, tap string) Names {
	trimmed := strings.TrimPrefix(iface, "pod")
	n := Names{Binding: b, Interface: iface, NIC: trimmed + "-nic", Bridge: "k6t-" + trimmed, Tap: DefaultTap}
	if strings.HasPrefix(iface, "pod") || strings.HasPrefix(iface, "net") {
		n.Tap = "tap" + iface[len("pod"):]
	}
	n.Tap = cmp.Or(tap, n.Tap)
	return n
}

// Role knows a link by name: KubeVirt marks nothing.
func (managedTapBinding) Role(l Link, _ int, names Names) (Role, bool) {
	switch {
	case l.Kind == KindBridge && l.Name == names.Bridge:
		return Bridge, true
	case l.Kind == KindTun && l.Name == names.Tap:
		return Tap, true
	case l.Name == names.Interface:
		return Placeholder, true
	}
	return "", false
}

// Rebuild finds less than with podnic's own bridge: nothing keeps the routes, so that those of the addresses are guessed.
// Where the routers are, the plugin's notice says.
func (b managedTapBinding) Rebuild(wired *Snapshot, names Names) *Snapshot {
	original := b.bridgeBinding.Rebuild(wired, names)
	for _, a := range original.AddressesOf(NIC) {
		if a.Is4() {
			original.Routes = append(original.Routes, connectedRoute(a.Local))
		}
	}
	if n, ok := NoticeOf(original.Link(NIC).Alias); ok {
		original.Heed(n)
	}
	return original
}

// connectedRoute is the route that an address brings with it, unless the pod network took it away.
func connectedRoute(address netip.Prefix) Route {
	return Route{
		Destination: address.Masked(), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_KERNEL,
		Scope: unix.RT_SCOPE_LINK, PrefSrc: address.Addr(), Hops: []Hop{{Link: NIC}},
	}
}

// Options are those that KubeVirt chose. What becomes of IPv6, the plugin's notice says; without one, it passes.
func (b managedTapBinding) Options(wired *Snapshot, names Names) Options {
	o := b.bridgeBinding.Options(wired, names)
	o.Binding, o.Socket, o.IPv6 = b.Name(), SocketUDP, ""
	if nic := wired.Link(NIC); nic != nil {
		n, _ := NoticeOf(nic.Alias)
		o.IPv6 = n.IPv6
	}
	return o
}
