package domainxml

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/beevik/etree"

	"github.com/podnic/podnic/network/identity"
)

// NIC is what podnic puts into a domain's interface.
type NIC struct {
	// Name is the pod's for the interface, by which the document's author may have marked it (see Match). Empty is none.
	Name string
	// Tap is the name of the tap that is there for the guest.
	Tap string
	// MAC is the guest's.
	MAC identity.MAC
	// MTU in bytes. 0 leaves what the document says.
	MTU int
	// Queues of the tap; 0 and 1 mean that it has one.
	Queues int
	// Alias is the <alias name=…> of the interface, where the author of the document gave it one (libvirt keeps those
	// that begin with ua-). Then the interface is known by it, and one that has to be added is given it.
	Alias string
	// Model is that of an interface whose document names none; empty is virtio.
	Model string
	// Placement is that of an interface that has to be added. One that is there has its own.
	Placement
}

// Fill connects the domain to taps and returns the new document. The interface that Match finds for each gets the NIC's
// properties; one that the domain lacks is added. With an alias it is the interface of that alias, or else the one of the tap,
// and a domain that has neither gets one more. What says how an interface was connected otherwise goes, everything else stays,
// comments and what others keep in metadata too; blanks and quotes may be written otherwise. Filling a filled document changes
// nothing.
func (d *Document) Fill(nics ...NIC) ([]byte, error) {
	for _, nic := range nics {
		if nic.Tap == "" || nic.MAC.IsZero() {
			return nil, fmt.Errorf("domain %q: an interface needs a tap and a MAC address, have %q and %q", d.Name(), nic.Tap, nic.MAC)
		}
	}
	if d.entity != "" {
		return nil, fmt.Errorf("domain %q: write out what the entity &%s; stands for: libvirt would not know it", d.Name(), d.entity)
	}
	filled := &Document{tree: d.tree.Copy()}
	filled.top = filled.tree.Root()
	targets, err := filled.targets(nics)
	if err != nil {
		return nil, err
	}
	for i, nic := range nics {
		if err := nic.check(); err != nil {
			return nil, fmt.Errorf("domain %q: the interface of %s: %w", d.Name(), nic.Tap, err)
		}
		switch target := targets[i]; {
		case target == nil:
			if nic.Alias == "" && len(nics) > 1 && nic.Name != "" {
				nic.Alias = AliasOf(nic.Name)
			}
			filled.addInterface(nic)
		case nic.Queues > 1 && !newInterface(target).multiqueue():
			// libvirt would open a single queue of a tap that has several, and the kernel refuses that.
			return nil, fmt.Errorf("domain %q: the tap %s has %d queues, an interface of model %s can use one: "+
				"ask for one queue or use model virtio", d.Name(), nic.Tap, nic.Queues, newInterface(target).Model)
		default:
			fillInterface(target, nic)
		}
	}
	return write(filled.tree), nil
}

// targets are the elements that the NICs go into, nil for one that is to be added.
func (d *Document) targets(nics []NIC) ([]*etree.Element, error) {
	if len(nics) == 1 && nics[0].Alias != "" {
		target, err := d.choose(nics[0].Tap, nics[0].Alias)
		return []*etree.Element{target}, err
	}
	return d.match(nics, d.interfaces())
}

// addInterface adds an interface to a domain that does not have it.
func (d *Document) addInterface(nic NIC) {
	devices := child(d.top, "devices")
	if devices == nil {
		devices = d.top.CreateElement("devices")
	}
	nic.furnish(devices.CreateElement("interface"))
}

// Device is the NIC's interface alone, as XML: what a guest that runs is given.
func (n NIC) Device() []byte {
	device := etree.NewDocument()
	n.furnish(device.CreateElement("interface"))
	return write(device)
}

// furnish makes an empty element the NIC's interface.
func (n NIC) furnish(added *etree.Element) {
	added.CreateAttr("type", "ethernet")
	for _, p := range n.properties() {
		p.set(added.CreateElement(p.element))
	}
	if n.Alias != "" {
		added.CreateElement("alias").CreateAttr("name", n.Alias)
	}
	n.Placement.add(added)
}

// fillInterface makes an interface the NIC.
func fillInterface(target *etree.Element, nic NIC) {
	disconnect(target, newInterface(target).Unmanaged(nic.Tap))
	target.CreateAttr("type", "ethernet")
	var missing []property
	for _, p := range nic.properties() {
		e := child(target, p.element)
		switch {
		case e == nil:
			missing = append(missing, p)
		case p.given && value(e, p.attributes[0].name) != "":
		default:
			p.set(e)
		}
	}
	trimDriver(child(target, "driver"), nic)
	for _, p := range missing {
		p.set(target.CreateElement(p.element))
	}
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

func (p property) set(e *etree.Element) {
	for _, a := range p.attributes {
		if p.element != "mac" || !sameMAC(value(e, a.name), a.value) {
			e.CreateAttr(a.name, a.value)
		}
	}
}

// sameMAC compares regardless of case, so that a right address keeps its spelling.
func sameMAC(a, b string) bool {
	x, err := identity.ParseMAC(a)
	return err == nil && x.String() == b
}

// trimDriver removes from a driver element what does not hold for the NIC; an element that says nothing else goes.
func trimDriver(driver *etree.Element, nic NIC) {
	var wrong []string
	if slices.Contains([]string{"kvm", "vfio", "xen"}, value(driver, "name")) {
		// Passes a device through; an emulated one has qemu or vhost there.
		wrong = append(wrong, "name", "model")
	}
	if nic.Queues <= 1 {
		// A tap of one queue cannot be opened twice.
		wrong = append(wrong, "queues")
	}
	wrong = slices.DeleteFunc(wrong, func(name string) bool { return attribute(driver, name) == nil })
	switch {
	case len(wrong) == 0:
	case nic.Queues <= 1 && len(wrong) == len(driver.Attr) && len(driver.ChildElements()) == 0:
		remove(driver)
	default:
		for _, name := range wrong {
			driver.RemoveAttr(name)
		}
	}
}
