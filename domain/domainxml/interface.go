package domainxml

import (
	"fmt"
	"strconv"

	"github.com/beevik/etree"

	"github.com/podnic/podnic/network/identity"
)

// Interface is what a domain's XML says of one network interface. What it does not say, or not in a way that can be read,
// has the zero value.
type Interface struct {
	Type    string       // how it is connected: ethernet, bridge, network, user, …
	MAC     identity.MAC //
	Tap     string       // <target dev=…>
	Managed string       // <target managed=…>: "no" when the tap is somebody else's than libvirt's
	MTU     int          // bytes
	Queues  int          // <driver queues=…>
	Model   string       // virtio, e1000, …
	Alias   string       // <alias name=…>
	// LinkDown says that the guest sees a network card without a carrier (<link state='down'/>).
	LinkDown bool
}

func newInterface(e *etree.Element) Interface {
	mac, err := identity.ParseMAC(value(child(e, "mac"), "address"))
	if err != nil {
		mac = identity.MAC{}
	}
	return Interface{
		Type:    value(e, "type"),
		MAC:     mac,
		Tap:     value(child(e, "target"), "dev"),
		Managed: value(child(e, "target"), "managed"),
		MTU:     number(value(child(e, "mtu"), "size")),
		Queues:  number(value(child(e, "driver"), "queues")),
		Model:   value(child(e, "model"), "type"),
		Alias:   value(child(e, "alias"), "name"),

		LinkDown: value(child(e, "link"), "state") == "down",
	}
}

// Unmanaged reports whether the interface is a tap of that name which libvirt is told not to make: the only form in which
// libvirt takes a tap that is there already.
func (i Interface) Unmanaged(tap string) bool {
	return i.Type == "ethernet" && i.Tap == tap && i.Managed == "no"
}

// Queues is how many queues the interface that Fill would fill asks for, 0 when it says nothing: what the tap should be made
// with. The error is Fill's, when it could not choose an interface.
func (d *Document) Queues(nic NIC) (int, error) {
	targets, err := d.targets([]NIC{nic})
	if err != nil || targets[0] == nil {
		return 0, err
	}
	return new(newInterface(targets[0])).AskedQueues(), nil
}

// AskedQueues is how many queues the interface asks for, 0 when it says nothing, or could not have them. One that is not there
// says nothing.
func (i *Interface) AskedQueues() int {
	if i != nil && i.multiqueue() {
		return i.Queues
	}
	return 0
}

// multiqueue reports whether the model can have more than one queue. libvirt reads <driver queues=…> for virtio only
// (virDomainNetIsVirtioModel). No model means virtio, since that is what Fill makes of it.
func (i Interface) multiqueue() bool {
	switch i.Model {
	case "", "virtio", "virtio-transitional", "virtio-non-transitional":
		return true
	}
	return false
}

// InterfaceOf is the interface that names the tap; nil when there is none.
func (d *Document) InterfaceOf(tap string) (*Interface, error) {
	e, err := d.choose(tap, "")
	if e == nil || err != nil {
		return nil, err
	}
	return new(newInterface(e)), nil
}

// choose finds the interface of an alias, else the one that names the tap. No interface and no error means that there is none.
func (d *Document) choose(tap, alias string) (*etree.Element, error) {
	var named, aliased []*etree.Element
	for _, e := range d.interfaces() {
		if value(child(e, "target"), "dev") == tap {
			named = append(named, e)
		}
		if alias != "" && value(child(e, "alias"), "name") == alias {
			aliased = append(aliased, e)
		}
	}
	switch {
	case len(aliased) == 1:
		return aliased[0], nil
	case len(aliased) > 1:
		return nil, fmt.Errorf("domain %q: %d interfaces have <alias name='%s'/>", d.Name(), len(aliased), alias)
	case len(named) == 1:
		return named[0], nil
	case len(named) > 1:
		return nil, fmt.Errorf("domain %q: %d interfaces have <target dev='%s'/>: leave it on one", d.Name(), len(named), tap)
	}
	return nil, nil
}

func number(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}
