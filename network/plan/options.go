package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// How the DHCP server hears the guest. It decides how the bridge is made.
const (
	SocketPacket = "packet" // a packet socket on the tap; the bridge has no address and no ARP
	SocketUDP    = "udp"    // a UDP socket on the bridge, which then holds identity.ServerLinkLocal
)

// DefaultTap is what the tap is called unless somebody says otherwise.
const DefaultTap = "tap0"

// TapName is what the taps of several interfaces are called in turn: the first is [DefaultTap].
func TapName(i int) string { return fmt.Sprintf("tap%d", i) }

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
	// Mark is what a redirect tells the guest's frames by. It is random, chosen by podnic; 0: the kernel has no use for one.
	Mark uint32 `json:"mark,omitempty"`
	// SpoofGuard has the filter drop what the guest sends in another's name; nil: not set, and it does not.
	SpoofGuard *bool `json:"spoofGuard,omitempty"`
	// TC says that a redirect is done by tc, since the kernel's nftables cannot. Podnic chooses it, too.
	TC bool `json:"tc,omitempty"`
	// PodPorts are what the containers keep, and GuestPorts what 127.0.0.1 leads to the guest by, where both share the address.
	PodPorts   Ports `json:"podPorts,omitempty"`
	GuestPorts Ports `json:"guestPorts,omitempty"`
	// Sources are the ports that the pod's connections come from then. They are read from the pod, and cannot be chosen.
	Sources PortRange `json:"sources,omitzero"`
	// IPv6 is what becomes of IPv6. Empty in records of podnics that knew none: it passes.
	IPv6 string `json:"ipv6,omitempty"`
}

// Names are the names of the links of such a wiring.
func (o Options) Names() Names { return o.binding().Names(o.Interface, o.Tap) }

// Guarded reports whether the guest is kept from posing as another.
func (o Options) Guarded() bool { return o.SpoofGuard != nil && *o.SpoofGuard }

// Ours reports whether podnic makes such a wiring, or somebody else does.
func (o Options) Ours() bool { return o.binding().Ours() }

// binding is the one that the options name, and the bridge where they name none.
func (o Options) binding() Binding {
	switch b := BindingOf(o.Binding); {
	case o.Binding == BindingRedirect:
		return redirectBinding{tc: o.TC}
	case b != nil:
		return b
	}
	return bridgeBinding{}
}

// Check refuses options that cannot be used, whatever the namespace.
func (o Options) Check() error {
	_, err := o.Normal()
	return err
}

// Normal fills in the defaults and refuses what cannot be wired.
func (o Options) Normal() (Options, error) {
	if o.Binding == "" {
		o.Binding = BindingAuto
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
	if o.IPv6 == "" {
		o.IPv6 = IPv6Auto
	}
	switch {
	case !slices.Contains(BindingNames(), o.Binding):
		return o, Refuse("no binding is called %q: --binding takes %s", o.Binding, OneOf(BindingNames()))
	case o.Socket != SocketPacket && o.Socket != SocketUDP:
		return o, Refuse("no socket is called %q: --socket takes packet or udp", o.Socket)
	case strings.HasPrefix(o.Tap, "vnet"):
		return o, Refuse("the tap cannot be called %s: libvirt takes names that begin with vnet for its own and deletes them; choose another with --tap", o.Tap)
	case !ValidName(o.Tap):
		return o, Refuse("%q cannot be the name of a link: choose one of 1 to %d characters without slash, colon or space with --tap (in a CNI configuration, tap)", o.Tap, MaxName)
	case o.Interface != "" && o.Names().CheckTap() != nil:
		return o, o.Names().CheckTap()
	case !slices.Contains(ipv6Modes, o.IPv6):
		return o, Refuse("IPv6 cannot be %q: --ipv6 takes %s", o.IPv6, strings.Join(ipv6Modes, ", "))
	case o.Queues < 1 || o.Queues > maxQueues:
		return o, Refuse("a tap has 1 to %d queues, not %d: choose another number with --queues (in a CNI configuration, queues)", maxQueues, o.Queues)
	}
	return o, o.checkPorts()
}

// maxQueues is MAX_TAP_QUEUES (include/linux/if_tap.h).
const maxQueues = 256

// ValidName follows dev_valid_name (net/core/dev.c).
func ValidName(name string) bool {
	return name != "" && len(name) <= MaxName && name != "." && name != ".." && !strings.ContainsAny(name, "/: \t\n\v\f\r")
}

// ofTap are the options that a tap tells.
func (o *Options) ofTap(tap *Link) {
	if tap.TapSettings == nil {
		return
	}
	o.TapOwner, o.TapGroup = tap.TapSettings.Owner, tap.TapSettings.Group
	if tap.TapSettings.MultiQueue {
		o.Queues = 2
	}
}

// Otherwise is o with what the others say where it says nothing.
func (o Options) Otherwise(others Options) Options {
	if o.Binding == BindingAuto {
		o.Binding = ""
	}
	o.Interface, o.Binding = cmp.Or(o.Interface, others.Interface), cmp.Or(o.Binding, others.Binding)
	o.Socket, o.Tap = cmp.Or(o.Socket, others.Socket), cmp.Or(o.Tap, others.Tap)
	o.TapOwner, o.TapGroup = cmp.Or(o.TapOwner, others.TapOwner), cmp.Or(o.TapGroup, others.TapGroup)
	o.Queues, o.Mark, o.IPv6 = cmp.Or(o.Queues, others.Queues), cmp.Or(o.Mark, others.Mark), cmp.Or(o.IPv6, others.IPv6)
	o.SpoofGuard = cmp.Or(o.SpoofGuard, others.SpoofGuard)
	o.TC = o.TC || others.TC
	if o.PodPorts == nil {
		o.PodPorts = others.PodPorts
	}
	if o.GuestPorts == nil {
		o.GuestPorts = others.GuestPorts
	}
	o.Sources = cmp.Or(o.Sources, others.Sources)
	return o
}

// Conflicts names the options in which o is not what the record has, for a message.
func (o Options) Conflicts(recorded Options) []string {
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
	add("spoof-guard", o.Guarded(), recorded.Guarded())
	add("ipv6", o.IPv6, recorded.IPv6)
	add("pod-ports", o.PodPorts.String(), recorded.PodPorts.String())
	add("guest-ports", o.GuestPorts.String(), recorded.GuestPorts.String())
	return diff
}
