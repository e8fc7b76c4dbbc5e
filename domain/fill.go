package domain

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/podnic/podnic/network/identity"
)

// NIC is what podnic puts into a domain's interface.
type NIC struct {
	// Tap is the name of the tap that is there for the guest.
	Tap string
	// MAC is the guest's.
	MAC identity.MAC
	// MTU in bytes. 0 leaves what the document says.
	MTU int
	// Queues of the tap; 0 and 1 mean that it has one.
	Queues int
	// Alias is the <alias name=…> of the interface, where whoever wrote the document gave it one (libvirt takes such that
	// begin with ua-). Then the interface is known by it, and one that has to be added is given it.
	Alias string
	// Model is that of an interface whose document names none; empty is virtio.
	Model string
}

// Fill connects the domain to a tap and returns the new document. The interface that has the tap's name in <target dev=…>,
// or else the only interface, gets the NIC's properties; a domain without interfaces gets one. With an alias it is the
// interface of that alias, or else the one of the tap, and a domain that has neither gets one more. What says how that
// interface was connected otherwise goes, everything else stays, byte by byte. Filling a filled document changes nothing.
func (d *Document) Fill(nic NIC) ([]byte, error) {
	if nic.Tap == "" || nic.MAC.IsZero() {
		return nil, fmt.Errorf("domain %q: an interface needs a tap and a MAC address, have %q and %q", d.Name(), nic.Tap, nic.MAC)
	}
	target, err := d.choose(nic.Tap, nic.Alias)
	if err != nil {
		return nil, err
	}
	s := &splice{data: d.data}
	switch {
	case target == nil:
		d.addInterface(s, nic)
	case nic.Queues > 1 && !newInterface(target).multiqueue():
		// libvirt would open a single queue of a tap that has several, and the kernel refuses that.
		return nil, fmt.Errorf("domain %q: the tap %s has %d queues, an interface of model %s can use one: "+
			"ask for one queue or use model virtio", d.Name(), nic.Tap, nic.Queues, newInterface(target).Model)
	default:
		fillInterface(s, target, nic)
	}
	return append(slices.Clone(d.mark), s.bytes()...), nil
}

// addInterface adds an interface to a domain that does not have it.
func (d *Document) addInterface(s *splice, nic NIC) {
	added := markup{tag: "interface type='ethernet'"}
	for _, p := range nic.properties() {
		added.children = append(added.children, p.markup())
	}
	if nic.Alias != "" {
		added.children = append(added.children, markup{tag: "alias name='" + escape(nic.Alias) + "'"})
	}
	if devices := d.top.child("devices"); devices != nil {
		s.add(devices, []markup{added})
		return
	}
	s.add(d.top, []markup{{tag: "devices", children: []markup{added}}})
}

// fillInterface makes an interface the NIC.
func fillInterface(s *splice, target *element, nic NIC) {
	disconnect(s, target, newInterface(target).Unmanaged(nic.Tap))
	s.set(target, "type", "ethernet")

	var missing []markup
	for _, p := range nic.properties() {
		e := target.child(p.element)
		switch {
		case e == nil:
			missing = append(missing, p.markup())
		case p.given && e.value(p.attributes[0].name) != "":
		default:
			p.set(s, e)
		}
	}
	trimDriver(s, target.child("driver"), nic)
	s.add(target, missing)
}

// property is an element of an interface, and what its attributes must be.
type property struct {
	element    string
	attributes []struct{ name, value string }
	given      bool // a value that the document gives is kept
}

// properties are the NIC as elements, in the order in which libvirt prints them.
func (n NIC) properties() []property {
	type attributes = []struct{ name, value string }
	properties := []property{
		{element: "mac", attributes: attributes{{"address", n.MAC.String()}}},
		// Without managed='no' libvirt would make the tap, fail since it is there, and delete it.
		{element: "target", attributes: attributes{{"dev", n.Tap}, {"managed", "no"}}},
		// What libvirt takes when nothing is said depends on the machine type, and on PCs it is an rtl8139.
		{element: "model", attributes: attributes{{"type", cmp.Or(n.Model, "virtio")}}, given: true},
	}
	if n.Queues > 1 {
		properties = append(properties, property{element: "driver", attributes: attributes{{"queues", strconv.Itoa(n.Queues)}}})
	}
	if n.MTU > 0 {
		// libvirt does not touch the MTU of an unmanaged tap; a virtio guest is told of this one.
		properties = append(properties, property{element: "mtu", attributes: attributes{{"size", strconv.Itoa(n.MTU)}}})
	}
	return properties
}

func (p property) markup() markup {
	tag := p.element
	for _, a := range p.attributes {
		tag += " " + a.name + "='" + escape(a.value) + "'"
	}
	return markup{tag: tag}
}

func (p property) set(s *splice, e *element) {
	for _, a := range p.attributes {
		if p.element == "mac" && sameMAC(e.value(a.name), a.value) {
			continue
		}
		s.set(e, a.name, a.value)
	}
}

// sameMAC compares regardless of case, so that a right address keeps its spelling.
func sameMAC(a, b string) bool {
	x, err := identity.ParseMAC(a)
	return err == nil && x.String() == b
}

// trimDriver removes from a driver element what does not hold for the NIC; an element that says nothing else goes.
func trimDriver(s *splice, driver *element, nic NIC) {
	var wrong []string
	if slices.Contains([]string{"kvm", "vfio", "xen"}, driver.value("name")) {
		// Passes a device through; an emulated one has qemu or vhost there.
		wrong = append(wrong, "name", "model")
	}
	if nic.Queues <= 1 {
		// A tap of one queue cannot be opened twice.
		wrong = append(wrong, "queues")
	}
	wrong = slices.DeleteFunc(wrong, func(name string) bool { return driver.attribute(name) == nil })
	switch {
	case len(wrong) == 0:
	case nic.Queues <= 1 && len(wrong) == len(driver.attributes) && s.empty(driver):
		s.remove(driver)
	default:
		for _, name := range wrong {
			s.unset(driver, name)
		}
	}
}
