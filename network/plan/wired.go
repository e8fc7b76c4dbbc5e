package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/identity"
	"golang.org/x/sys/unix"
)

// How the DHCP server hears the guest. It decides how the bridge is made.
const (
	SocketPacket = "packet" // a packet socket on the tap; the bridge has no address and no ARP
	SocketUDP    = "udp"    // a UDP socket on the bridge, which then holds identity.ServerLinkLocal
)

// BindingBridge joins NIC and tap with a bridge. It is the only binding.
const BindingBridge = "bridge"

// DefaultTap is what the tap is called unless somebody says otherwise.
const DefaultTap = "tap0"

// Options decide how a namespace is wired. They are part of the record. What a request leaves at zero is what the interface
// is wired with already, and else the default; a second prepare that asks for something else is refused.
type Options struct {
	Interface string  `json:"interface"`
	Binding   string  `json:"binding"`
	Socket    string  `json:"socket"`
	Tap       string  `json:"tap"`
	TapOwner  *uint32 `json:"tapOwner,omitempty"`
	TapGroup  *uint32 `json:"tapGroup,omitempty"`
	Queues    int     `json:"queues"` // 1: a tap with a single queue; more: one that QEMU may attach as many to
}

// Names are the names of the links of such a wiring.
func (o Options) Names() Names { return NamesFor(o.Interface, o.Tap) }

// Check refuses options that cannot be used, whatever the namespace.
func (o Options) Check() error {
	_, err := o.Normal()
	return err
}

// Normal fills in the defaults and refuses what cannot be wired.
func (o Options) Normal() (Options, error) {
	if o.Binding == "" {
		o.Binding = BindingBridge
	}
	if o.Socket == "" {
		o.Socket = SocketPacket
	}
	if o.Tap == "" {
		o.Tap = DefaultTap
	}
	if o.Queues == 0 {
		o.Queues = 1
	}
	switch {
	case o.Binding != BindingBridge:
		return o, Refuse("no binding is called %q: --binding takes bridge", o.Binding)
	case o.Socket != SocketPacket && o.Socket != SocketUDP:
		return o, Refuse("no socket is called %q: --socket takes packet or udp", o.Socket)
	case strings.HasPrefix(o.Tap, "vnet"):
		return o, Refuse("the tap cannot be called %s: libvirt takes names that begin with vnet for its own and deletes them; choose another with --tap", o.Tap)
	case !ValidName(o.Tap):
		return o, Refuse("%q cannot be the name of a link: 1 to %d characters, no slash, colon or space", o.Tap, MaxName)
	case o.Interface != "" && o.Names().CheckTap() != nil:
		return o, o.Names().CheckTap()
	case o.Queues < 1 || o.Queues > maxQueues:
		return o, Refuse("a tap has 1 to %d queues, not %d", maxQueues, o.Queues)
	}
	return o, nil
}

// maxQueues is MAX_TAP_QUEUES (include/linux/if_tap.h).
const maxQueues = 256

// ValidName follows dev_valid_name (net/core/dev.c).
func ValidName(name string) bool {
	return name != "" && len(name) <= MaxName && name != "." && name != ".." && !strings.ContainsAny(name, "/: \t\n\v\f\r")
}

// Otherwise is o with what the others say where it says nothing.
func (o Options) Otherwise(others Options) Options {
	o.Interface, o.Binding = cmp.Or(o.Interface, others.Interface), cmp.Or(o.Binding, others.Binding)
	o.Socket, o.Tap = cmp.Or(o.Socket, others.Socket), cmp.Or(o.Tap, others.Tap)
	o.TapOwner, o.TapGroup = cmp.Or(o.TapOwner, others.TapOwner), cmp.Or(o.TapGroup, others.TapGroup)
	o.Queues = cmp.Or(o.Queues, others.Queues)
	return o
}

// Differences names the options in which o is not what the record has, for a message.
func (o Options) Differences(recorded Options) []string {
	var diff []string
	add := func(flag string, asked, have any) {
		if asked != have {
			diff = append(diff, fmt.Sprintf("--%s is %v here and %v there", flag, asked, have))
		}
	}
	id := func(p *uint32) string {
		if p == nil {
			return "nobody"
		}
		return fmt.Sprint(*p)
	}
	add("interface", o.Interface, recorded.Interface)
	add("binding", o.Binding, recorded.Binding)
	add("socket", o.Socket, recorded.Socket)
	add("tap", o.Tap, recorded.Tap)
	add("tap-owner", id(o.TapOwner), id(recorded.TapOwner))
	add("tap-group", id(o.TapGroup), id(recorded.TapGroup))
	add("queues", o.Queues, recorded.Queues)
	return diff
}

// forwardLLDP has a bridge treat frames to 01:80:c2:00:00:0e, LLDP's address (IEEE 802.1AB), as all others. Of the sixteen
// reserved group addresses this is the one whose frames a bridge without that bit gives to the port's own stack past the
// filter (br_handle_frame, net/bridge/br_input.c): with 00 they are bridged where there is no spanning tree, with 01
// dropped, with the other ones shown to the filter's input chain, which drops them. See ADR 20.
const forwardLLDP = 1 << 0xe

// Wired is the namespace that a guest needs, given what the pod's interface held. It is a pure function.
func Wired(original *Snapshot, o Options) *Snapshot {
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
		NoARP: o.Socket == SocketPacket, Group: mark, AddrGenMode: quiet, BridgeOptions: &BridgeOptions{GroupForwardMask: forwardLLDP},
	}
	tap := Link{
		Role: Tap, Name: names.Tap, Kind: KindTun, MAC: derivedMAC(pod.MAC, Tap), MTU: tapMTU(pod.MTU), Up: true, Group: mark,
		AddrGenMode: quiet, Master: Bridge,
		TapOptions: &TapOptions{Owner: o.TapOwner, Group: o.TapGroup, VNetHdr: true, MultiQueue: o.Queues > 1, Persistent: true},
	}
	// The placeholder is a bridge without ports: every kernel that can do the rest has that. It stays down, so that it
	// neither answers nor routes. It also keeps how the pod's interface makes link-local addresses.
	placeholder := Link{
		Role: Placeholder, Name: names.Interface, Kind: KindBridge, MAC: pod.MAC, MTU: pod.MTU, Group: mark,
		AddrGenMode: pod.AddrGenMode, BridgeOptions: &BridgeOptions{},
	}

	w := &Snapshot{Links: []Link{nic, bridge, tap, placeholder}, Rules: original.Rules, Barriers: original.Barriers}
	for _, a := range original.Addresses {
		a.Link = Placeholder
		w.Addresses = append(w.Addresses, a)
	}
	if o.Socket == SocketUDP && slices.ContainsFunc(original.Addresses, Address.Is4) {
		w.Addresses = append(w.Addresses, Address{
			Link: Bridge, Local: netip.PrefixFrom(identity.ServerLinkLocal, 32), Label: names.Bridge, Scope: unix.RT_SCOPE_LINK,
		})
	}
	for _, n := range original.Neighbours {
		n.Link = Placeholder
		w.Neighbours = append(w.Neighbours, n)
	}
	w.Routes = park(original.Routes)
	w.Filter = WantedFilter(original, o)
	return w
}

// BindingManagedTap says that KubeVirt's node agent joins NIC and tap, and not podnic. Nobody can ask for it: it is what a
// record has that a sidecar made, and what a look at such a namespace finds.
const BindingManagedTap = "managedTap"
