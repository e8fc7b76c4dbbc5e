package domain

import "slices"

// connections are the parts of an <interface> that belong to other ways of being connected than an unmanaged tap. libvirt
// refuses most of them in an interface of type ethernet, when it reads the document or when it starts the domain
// (virDomainNetDefValidate and virDomainActualNetDefValidate in src/conf/domain_validate.c, and the QEMU driver's
// qemu_validate.c); the table says what else each would do. Elements that are not in it describe the guest's device
// (address, alias, boot, rom, acpi, tune, link, teaming of a persistent device) or are enforced on the tap
// because the user asked for that (bandwidth, filterref), and stay.
var connections = []struct {
	element string
	// when says which elements of that name are meant; nil means all.
	when func(e *element) bool
	// unlessUnmanaged keeps the element in an interface that is this very tap, unmanaged: who writes that knows whose tap
	// it is, and means what is beside it.
	unlessUnmanaged bool
}{
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
	{element: "backend", when: func(e *element) bool { return !slices.Contains([]string{"", "default"}, e.value("type")) }},
	// A transient device is a passed-through one that leaves for a migration.
	{element: "teaming", when: func(e *element) bool { return e.value("type") == "transient" }},
}

// disconnect removes what connects an interface to something else. unmanaged says that it is the wanted tap already.
func disconnect(s *splice, target *element, unmanaged bool) {
	for _, c := range connections {
		if unmanaged && c.unlessUnmanaged {
			continue
		}
		for e := range target.named(c.element) {
			if c.when == nil || c.when(e) {
				s.remove(e)
			}
		}
	}
	// Belongs to type hostdev: who detaches the passed-through device from the host.
	s.unset(target, "managed")
	disconnectBandwidth(s, target.child("bandwidth"))
}

// disconnectBandwidth removes the guaranteed rate, which only a libvirt network can guarantee (virNetDevBandwidthParse).
// A direction that says nothing else would be refused for that.
func disconnectBandwidth(s *splice, bandwidth *element) {
	for inbound := range bandwidth.named("inbound") {
		switch {
		case inbound.attribute("floor") == nil:
		case inbound.attribute("average") == nil:
			s.remove(inbound)
		default:
			s.unset(inbound, "floor")
		}
	}
}
