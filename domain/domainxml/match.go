package domainxml

import (
	"fmt"
	"slices"
	"strings"

	"github.com/beevik/etree"

	"github.com/podnic/podnic/network/identity"
)

// userAlias begins the aliases that libvirt leaves to users (VIR_DOMAIN_USER_ALIAS_PREFIX in src/conf/domain_conf.h).
const userAlias = "ua-"

// AliasOf is the alias by which a domain's interface says which of the pod's it is for.
func AliasOf(pod string) string { return userAlias + pod }

// rules are how an interface says whose it is, the first one that says anything first.
var rules = []struct {
	applies func(e *etree.Element, nic NIC) bool
	says    func(nic NIC) string
}{
	{
		func(e *etree.Element, nic NIC) bool { return value(child(e, "target"), "dev") == nic.Tap },
		func(nic NIC) string { return fmt.Sprintf("<target dev='%s'/>", nic.Tap) },
	},
	{
		func(e *etree.Element, nic NIC) bool {
			return nic.Name != "" && value(child(e, "alias"), "name") == AliasOf(nic.Name)
		},
		func(nic NIC) string { return fmt.Sprintf("<alias name='%s'/>", AliasOf(nic.Name)) },
	},
	{
		func(e *etree.Element, nic NIC) bool {
			return !nic.MAC.IsZero() && sameMAC(value(child(e, "mac"), "address"), nic.MAC.String())
		},
		func(nic NIC) string { return fmt.Sprintf("<mac address='%s'/>", nic.MAC) },
	},
}

// Match finds the interface of the domain that each of the pod's is for, by the name, tap and MAC of each: the one with the
// tap's name in <target dev=…>, else with the alias ua-NAME, else with the MAC, else, of those that are left, the next in
// order. Nil is one that the domain lacks, and that Fill adds. Where more are left in the domain than of the pod's, nobody can
// tell which it is, and the error shows both.
func (d *Document) Match(pod []NIC) ([]*Interface, error) {
	elements, err := d.match(pod, d.interfaces())
	if err != nil {
		return nil, err
	}
	matched := make([]*Interface, len(elements))
	for i, e := range elements {
		if e != nil {
			matched[i] = new(newInterface(e))
		}
	}
	return matched, nil
}

// match is Match among some of the domain's interfaces.
func (d *Document) match(pod []NIC, interfaces []*etree.Element) ([]*etree.Element, error) {
	found := make([]*etree.Element, len(pod))
	free := slices.Clone(interfaces)
	for _, rule := range rules {
		for i, nic := range pod {
			if found[i] != nil {
				continue
			}
			var fit []*etree.Element
			for _, e := range free {
				if rule.applies(e, nic) {
					fit = append(fit, e)
				}
			}
			switch {
			case len(fit) > 1:
				return nil, fmt.Errorf("domain %q: %d interfaces have %s: leave it on one", d.Name(), len(fit), rule.says(nic))
			case len(fit) == 1:
				found[i] = fit[0]
				free = slices.DeleteFunc(free, func(e *etree.Element) bool { return e == fit[0] })
			}
		}
	}
	if err := d.agree(pod, found); err != nil {
		return nil, err
	}
	var left []int
	for i := range pod {
		if found[i] == nil {
			left = append(left, i)
		}
	}
	if len(left) > 0 && len(free) > len(left) {
		nic := pod[left[0]]
		if len(pod) == 1 {
			return nil, fmt.Errorf("domain %q: %d interfaces, and none is marked as the pod's: "+
				"put <target dev='%s' managed='no'/> into the one that is%s", d.Name(), len(interfaces), nic.Tap, d.lists(pod, interfaces))
		}
		return nil, fmt.Errorf("domain %q: cannot tell which interface is the pod's %s: "+
			"put <target dev='%s' managed='no'/> into the one that is%s", d.Name(), nic.called(), nic.Tap, d.lists(pod, interfaces))
	}
	for n, e := range free[:min(len(free), len(left))] {
		found[left[n]] = e
	}
	return found, nil
}

// agree refuses an interface that says by its tap that it is for one of the pod's, and by its alias that it is for another.
func (d *Document) agree(pod []NIC, found []*etree.Element) error {
	for i, e := range found {
		alias := value(child(e, "alias"), "name")
		for j, other := range pod {
			if e != nil && i != j && other.Name != "" && alias == AliasOf(other.Name) {
				return fmt.Errorf("domain %q: an interface has <target dev='%s'/>, which is of %s, and <alias name='%s'/>: change one of them%s",
					d.Name(), pod[i].Tap, pod[i].called(), alias, d.lists(pod, d.interfaces()))
			}
		}
	}
	return nil
}

// lists are what the pod gives and what the domain has, for a message.
func (d *Document) lists(pod []NIC, interfaces []*etree.Element) string {
	var gives, has []string
	for _, nic := range pod {
		gives = append(gives, fmt.Sprintf("%s (%s, %s)", nic.called(), nic.Tap, nic.MAC))
	}
	for i, e := range interfaces {
		has = append(has, fmt.Sprintf("%d: %s", i+1, newInterface(e)))
	}
	return fmt.Sprintf(" (the pod gives %s; the domain has %s)", strings.Join(gives, ", "), strings.Join(has, ", "))
}

// called is the pod's name for the interface, or the tap's where nobody has said it.
func (n NIC) called() string {
	if n.Name == "" {
		return n.Tap
	}
	return n.Name
}

// String is what tells an interface from others.
func (i Interface) String() string {
	words := []string{"type " + i.Type}
	if i.Type == "" {
		words[0] = "no type"
	}
	for _, said := range []struct{ what, value string }{{"tap", i.Tap}, {"alias", i.Alias}, {"mac", macText(i.MAC)}} {
		if said.value != "" {
			words = append(words, said.what+" "+said.value)
		}
	}
	return strings.Join(words, " ")
}

func macText(mac identity.MAC) string {
	if mac.IsZero() {
		return ""
	}
	return mac.String()
}
