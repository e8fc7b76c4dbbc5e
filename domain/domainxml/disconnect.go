package domainxml

import (
	"slices"

	"github.com/beevik/etree"
)

// connections are the parts of an <interface> that belong to other ways of being connected than an unmanaged tap. libvirt
// refuses most of them in an interface of type ethernet, when it reads the document or when it starts the domain
// (virDomainNetDefValidate and virDomainActualNetDefValidate in src/conf/domain_validate.c, and the QEMU driver's
// qemu_validate.c); the table says what else each would do. Elements that are not in it describe the guest's device
// (address, alias, boot, rom, acpi, tune, link, teaming of a persistent device) or are enforced on the tap
// because the user asked for that (bandwidth, filterref), and stay.
var connections = []connection{
	// Names a bridge, a network, a device or a socket to connect to. In an interface of type ethernet it holds addresses that
	// libvirt puts on the tap, which is a bridge's port.
	{element: "source", unlessUnmanaged: true},
	// Programs that connect the tap to something (and take it off again). libvirt runs them with managed='no', too
	// (qemuInterfaceEthernetConnect), and they would take the tap out of podnic's bridge.
	{element: "script", unlessUnmanaged: true},
	{element: "downscript", unlessUnmanaged: true},
	// The port of a switch: Open vSwitch, 802.1Qbg and Qbh, midonet.
	{element: "virtualport"},
	{element: "vlan"},
	{element: "port"},
	// Interrupt coalescing of the tap, which libvirt sets on taps that it makes for bridges and networks.
	{element: "coalesce", unlessUnmanaged: true},
	// Addresses on the guest's side and forwarded ports: of user-mode networking, and of containers.
	{element: "ip"},
	{element: "route"},
	{element: "portForward"},
	// <backend type='passt'/> is user-mode networking. Without a type it names the files of tap and vhost, which hold here.
	{element: "backend", when: func(e *etree.Element) bool { return !slices.Contains([]string{"", "default"}, value(e, "type")) }},
	// A transient device is a passed-through one that leaves for a migration.
	{element: "teaming", when: func(e *etree.Element) bool { return value(e, "type") == "transient" }},
}

type connection struct {
	element string
	// when says which elements of that name are meant; nil means all.
	when func(e *etree.Element) bool
	// unlessUnmanaged keeps the element in an interface that is this very tap, unmanaged: its author knows
	// whose tap it is, and means what is beside it.
	unlessUnmanaged bool
}

// disconnect removes what connects an interface to something else. unmanaged says that it is the wanted tap already.
func disconnect(target *etree.Element, unmanaged bool) {
	for _, c := range connections {
		if unmanaged && c.unlessUnmanaged {
			continue
		}
		for _, e := range slices.Collect(named(target, c.element)) {
			if c.when == nil || c.when(e) {
				remove(e)
			}
		}
	}
	// Belongs to type hostdev: who detaches the passed-through device from the host.
	target.RemoveAttr("managed")
	disconnectBandwidth(child(target, "bandwidth"))
}

// disconnectBandwidth removes the guaranteed rate, which only a libvirt network can guarantee (virNetDevBandwidthParse).
// A direction that says nothing else would be refused for that.
func disconnectBandwidth(bandwidth *etree.Element) {
	for _, inbound := range slices.Collect(named(bandwidth, "inbound")) {
		switch {
		case attribute(inbound, "floor") == nil:
		case attribute(inbound, "average") == nil:
			remove(inbound)
		default:
			inbound.RemoveAttr("floor")
		}
	}
}
