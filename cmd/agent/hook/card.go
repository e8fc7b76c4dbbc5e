package hook

import (
	"cmp"
	"slices"

	"github.com/podnic/podnic/cmd/agent/wiring"
	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

// card is one of the pod's interfaces, with that of the domain which is for it.
type card struct {
	asked plan.Options // by the metadata and the configuration
	nic   domainxml.Interface
	seen  *network.Inspection
}

// name is the pod's for the interface.
func (c *card) name() string {
	if c.seen == nil {
		return c.asked.Interface
	}
	return c.seen.Names.Interface
}

// options are what the interface is wired with: the tap is the domain's.
func (c *card) options() plan.Options {
	o := c.asked
	if c.seen.Wired {
		o = c.seen.Options
	} else {
		o.Tap, o.Queues = c.nic.Tap, c.nic.TapQueues()
	}
	o.Interface = c.name()
	return o
}

// asked is the request for the interfaces of the guest: those of the metadata, or else of the configuration.
func (h *hook) asked() (network.Request, error) {
	pod, err := h.document.Pod()
	if err != nil {
		return h.Request, &plan.RefusalError{Reason: err}
	}
	if pod == nil {
		return h.Request, nil
	}
	said := pod.Interfaces
	if len(said) == 0 {
		said = []domainxml.PodInterface{{
			Name: pod.Interface, Binding: pod.Binding, SpoofGuard: pod.SpoofGuard, IPv6: pod.IPv6, PodPorts: pod.PodPorts, GuestPorts: pod.GuestPorts,
		}}
	}
	if len(said) == 1 && said[0].Name == "" { // the configuration's
		req := h.Request
		options := eachOf(req)
		for i := range options {
			if err := h.apply(&options[i], said[0]); err != nil {
				return h.Request, err
			}
		}
		if req.All {
			req.Options = options[0]
			return req, nil
		}
		return req.Only(options...), nil
	}
	var options []plan.Options
	for _, i := range said {
		o := h.configured(i.Name)
		if len(said) > 1 && len(h.Interfaces) == 0 && o.Interface == "" {
			o.Tap = "" // one cannot be that of each
		}
		o.Interface = i.Name
		if err := h.apply(&o, i); err != nil {
			return h.Request, err
		}
		options = append(options, o)
	}
	return h.Only(options...), nil
}

// configured is what the configuration says of an interface.
func (h *hook) configured(name string) plan.Options {
	for _, o := range h.Interfaces {
		if o.Interface == name {
			return o
		}
	}
	o := h.Options
	if len(h.Interfaces) > 0 || o.Interface != "" && o.Interface != name {
		o.Tap = ""
	}
	return o
}

// apply adds what the metadata says of an interface.
func (h *hook) apply(o *plan.Options, i domainxml.PodInterface) error {
	o.Binding, o.Tap, o.Socket = cmp.Or(i.Binding, o.Binding), cmp.Or(i.Tap, o.Tap), cmp.Or(i.Socket, o.Socket)
	o.Queues = cmp.Or(i.Queues, o.Queues)
	o.IPv6 = cmp.Or(i.IPv6, o.IPv6)
	if i.SpoofGuard != "" {
		o.SpoofGuard = new(i.SpoofGuard == "on")
	}
	for _, list := range []struct {
		name, text string
		ports      *plan.Ports
	}{{"pod-ports", i.PodPorts, &o.PodPorts}, {"guest-ports", i.GuestPorts, &o.GuestPorts}} {
		if list.text == "" {
			continue
		}
		ports, err := plan.ParsePorts(list.text)
		if err != nil {
			return plan.Refuse("domain %q: %s in the metadata: %w", h.document.Name(), list.name, err)
		}
		*list.ports = ports
	}
	return nil
}

// eachOf are the options of each interface that a request names, or of the one that it does not.
func eachOf(req network.Request) []plan.Options {
	if len(req.Interfaces) > 0 {
		return slices.Clone(req.Interfaces)
	}
	return []plan.Options{req.Options}
}

// cards finds the pod's interfaces that are asked for, and those of the domain that they are for.
func (h *hook) cards() ([]*card, error) {
	req, err := h.asked()
	if err != nil {
		return nil, err
	}
	selected, warnings, err := network.Select(req)
	if err != nil {
		return nil, err
	}
	h.entry.Warnings = append(h.entry.Warnings, warnings...)
	selected = h.stillThere(selected)
	var nics []domainxml.NIC
	for _, s := range selected {
		nics = append(nics, domainxml.NIC{Name: s.Options.Interface, Tap: s.Tap, MAC: s.MAC})
	}
	found, err := h.document.Taps(nics)
	if err != nil {
		return nil, &plan.RefusalError{Reason: err}
	}
	var cards []*card
	for i, s := range selected {
		seen, err := network.Inspect(h.Only(s.Options))
		if err != nil {
			return nil, err
		}
		cards = append(cards, &card{asked: s.Options, nic: found[i], seen: seen})
	}
	return cards, nil
}

// stillThere leaves out what was detached from a guest that runs, or unplugged.
func (h *hook) stillThere(selected []network.Selection) []network.Selection {
	if !h.Call.Tolerant() {
		return selected
	}
	var there []network.Selection
	for _, s := range selected {
		if slices.ContainsFunc(h.document.Interfaces(), func(i domainxml.Interface) bool { return i.Unmanaged(s.Tap) }) {
			there = append(there, s)
		} else {
			h.entry.Warnings = append(h.entry.Warnings, "the guest has no interface for "+s.Options.Interface+" any more")
		}
	}
	if len(there) == 0 {
		return selected
	}
	return there
}

// attached adds the interfaces that were attached to the guest while it ran. One that libvirt has unplugged since is left out.
func (h *hook) attached(cards []*card) ([]*card, error) {
	given, err := network.GivenTo(h.Request, *h.guest())
	if err != nil {
		return nil, err
	}
	for _, name := range given {
		if slices.ContainsFunc(cards, func(c *card) bool { return c.name() == name }) {
			continue
		}
		seen, err := network.Inspect(h.Only(plan.Options{Interface: name}))
		if err != nil || !seen.Wired || !h.isGuest(wiring.RecordedDomain(seen)) {
			continue // its record is of the past
		}
		for _, i := range h.document.Interfaces() {
			if i.Unmanaged(seen.Names.Tap) {
				cards = append(cards, &card{asked: plan.Options{Interface: name}, nic: i, seen: seen})
			}
		}
	}
	return cards, nil
}
