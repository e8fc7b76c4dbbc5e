package domainxml

import (
	"errors"
	"fmt"
	"strings"

	"github.com/beevik/etree"

	"github.com/podnic/podnic/network/identity"
)

// MayBePods reports whether an interface is a tap that somebody else than libvirt makes: without one, the guest is not
// podnic's, whatever its name.
func (d *Document) MayBePods() bool {
	for _, i := range d.Interfaces() {
		if i.Unmanaged(i.Tap) {
			return true
		}
	}
	return false
}

// Taps finds the interfaces that the pod's are for, in a domain whose XML can no longer be changed: as Match does, among those
// that are taps which libvirt is not to make. The error says what to change.
func (d *Document) Taps(pod []NIC) ([]Interface, error) {
	var taps []*etree.Element
	for _, e := range d.interfaces() {
		if i := newInterface(e); i.Unmanaged(i.Tap) {
			taps = append(taps, e)
		}
	}
	elements, err := d.match(pod, taps)
	if err != nil {
		return nil, err
	}
	found := make([]Interface, len(elements))
	for i, e := range elements {
		if e == nil {
			return nil, d.lacks(pod, i)
		}
		found[i] = newInterface(e)
	}
	return found, nil
}

// lacks says what to change in a domain that lacks an interface for one of the pod's.
func (d *Document) lacks(pod []NIC, missing int) error {
	name, interfaces := pod[missing].Tap, d.Interfaces()
	switch {
	case len(pod) > 1:
		return fmt.Errorf("domain %q has no interface for the pod's %s: "+
			"add <interface type='ethernet'> with <target dev='%s' managed='no'/> and <mac address='%s'/>%s",
			d.Name(), pod[missing].called(), name, pod[missing].MAC, d.lists(pod, d.interfaces()))
	case len(interfaces) == 0:
		return fmt.Errorf("domain %q has no interface for the pod's network: "+
			"add <interface type='ethernet'> with <target dev='%s' managed='no'/>", d.Name(), name)
	}
	// Which one is the pod's is not said, so the first one is the example.
	i := interfaces[0]
	if i.Type != "ethernet" {
		return fmt.Errorf("domain %q has no interface for the pod's network: "+
			"change <interface type='%s'> to type='ethernet', and its <target> to dev='%s' managed='no'", d.Name(), i.Type, name)
	}
	if i.Tap == "" {
		i.Tap = name
	}
	return fmt.Errorf("domain %q: change <target> of its interface to dev='%s' managed='no': "+
		"without that libvirt makes a tap of its own", d.Name(), i.Tap)
}

// Fits reports what an interface says that the pod cannot give, as what to change. Tap and Queues of the NIC are what is
// wired or wanted already, "" and 0 when anything will do.
func (i Interface) Fits(nic NIC) error {
	var change []string
	add := func(format string, args ...any) { change = append(change, "change "+fmt.Sprintf(format, args...)) }
	if nic.Tap != "" && i.Tap != nic.Tap {
		add("<target dev='%s'/> to dev='%s'", i.Tap, nic.Tap)
	} else if strings.HasPrefix(i.Tap, "vnet") {
		add("<target dev='%s'/> to a name that does not begin with vnet, which libvirt takes for its own", i.Tap)
	}
	switch i.MAC {
	case nic.MAC:
	case identity.MAC{}:
		change = append(change, fmt.Sprintf("add <mac address='%s'/>, the pod's", nic.MAC))
	default:
		add("<mac address='%s'/> to address='%s', the pod's", i.MAC, nic.MAC)
	}
	if nic.MTU > 0 && i.MTU > nic.MTU {
		add("<mtu size='%d'/> to size='%d', the pod's, or less", i.MTU, nic.MTU)
	}
	if have := i.TapQueues(); nic.Queues > 0 && have != nic.Queues {
		switch {
		case nic.Queues == 1:
			add("<driver queues='%d'/> to queues='1'", have)
		case i.multiqueue():
			add("<driver> to queues='%d'", nic.Queues)
		default:
			add("<model type='%s'/> to type='virtio', with <driver queues='%d'/>", i.Model, nic.Queues)
		}
	}
	if len(change) == 0 {
		return nil
	}
	return errors.New(strings.Join(change, "; "))
}

// TapQueues is how many queues the tap must have for the interface, at least 1.
func (i Interface) TapQueues() int {
	if i.multiqueue() {
		return max(i.Queues, 1)
	}
	return 1
}
