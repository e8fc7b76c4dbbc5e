package network

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/podnic/podnic/network/gateways"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
)

// GuestIPv6 is what the filter of a wiring that somebody else makes depends on where IPv6 is served.
type GuestIPv6 struct {
	MAC identity.MAC `json:"mac"`
	// Routers are those of the pod, that of the default route first. The server answers neighbour solicitations for some, and
	// for Neighbours.
	Routers    []identity.Router    `json:"routers,omitempty"`
	Neighbours []identity.Neighbour `json:"neighbours,omitempty"`
	// Alias is what the pod's link had before it was given the notice.
	Alias string `json:"alias,omitempty"`
}

// provideIPv6 finds out what becomes of IPv6 on a link that somebody else is going to wire, and where its routers are.
func (s *session) provideIPv6(p *Provision, all []plan.Link, link plan.Link, links *plan.Names) (warnings []string, err error) {
	original, err := s.rtnl.Read(all, link.Index, plan.BindingOf(plan.BindingRedirect).Names(link.Name, links.Tap))
	if err != nil {
		return nil, asRefusal(err)
	}
	o := plan.Options{
		Interface: link.Name, Binding: plan.BindingManagedTap, Socket: plan.SocketUDP, IPv6: cmp.Or(s.Options.IPv6, plan.IPv6Auto),
	}
	if err := o.CheckIPv6(original); err != nil {
		return nil, err
	}
	p.NoIPv4 = !slices.ContainsFunc(original.AddressesOf(plan.NIC), plan.Address.Is4)
	mode := o.IPv6For(original)
	if mode == plan.IPv6Pass {
		return nil, nil
	}
	p.Version, p.IPv6, p.Guest = provisionVersionOfIPv6, mode, &GuestIPv6{MAC: link.MAC, Alias: link.Alias}
	if _, ours := plan.NoticeOf(link.Alias); ours { // of a plugin whose record is lost
		p.Guest.Alias = ""
	}
	if mode == plan.IPv6Off {
		return nil, nil
	}
	original.Routers = nil
	warnings = s.routersOf(original)
	id, more := plan.Identify(original, o)
	p.Guest.Routers, p.Guest.Neighbours = id.Routers, id.V6.Neighbours
	alias, fits := p.notice().String()
	for _, r := range id.Routers[min(fits, len(id.Routers)):] {
		warnings = append(warnings, fmt.Sprintf("the guest gets no route by %s: with it the alias of %s, %q, would be too long", r.Gateway, link.Name, alias))
	}
	return append(warnings, more...), nil
}

// routersOf completes what is known of a link that is not wired.
func (s *session) routersOf(original *plan.Snapshot) (warnings []string) {
	nic := original.Link(plan.NIC)
	if !nic.Up {
		return nil
	}
	age, err := s.rtnl.IPv6Age(nic.Index)
	if err != nil {
		warnings = append(warnings, err.Error())
	}
	found, err := gateways.FindRouters(s.ns, nic.Name, 0, original, age, gateways.RouterUp)
	if err != nil {
		warnings = append(warnings, err.Error())
	}
	original.Routers = found
	return warnings
}

// notice is what the pod's link is given as its alias.
func (p *Provision) notice() plan.Notice { return plan.Notice{IPv6: p.IPv6, Routers: p.Guest.Routers} }

// guest is who the guest will be, as far as the filter depends on it.
func (p *Provision) guest() identity.Identity {
	var id identity.Identity
	if !p.NoIPv4 {
		id.V4.Addresses = make([]identity.Address, 1)
	}
	if p.Guest != nil {
		id.MAC = p.Guest.MAC
	}
	if p.IPv6 == plan.IPv6Serve {
		id.V6 = identity.Family{Addresses: make([]identity.Address, 1), Neighbours: p.Guest.Neighbours}
		id.Routers = p.Guest.Routers
	}
	return id
}

// checkIPv6 is what of a record is about IPv6.
func (p *Provision) checkIPv6() error {
	if p.Guest == nil {
		if p.IPv6 != "" {
			return fmt.Errorf("IPv6 is to be %q, but it names no guest", p.IPv6)
		}
		return nil
	}
	if p.IPv6 != plan.IPv6Serve && p.IPv6 != plan.IPv6Off || p.Links == nil {
		return fmt.Errorf("IPv6 cannot be %q", p.IPv6)
	}
	return plan.CheckGuest(p.Guest.MAC, p.Guest.Routers, p.Guest.Neighbours, p.Guest.Alias)
}

// noticed is the pod's link, whatever it is called now. Before the wiring it has the interface's name.
func (s *session) noticed(p *Provision) (plan.Link, error) {
	all, err := s.rtnl.Links()
	if err != nil {
		return plan.Link{}, err
	}
	for _, name := range []string{p.Links.NIC, p.Links.Interface} {
		if i := slices.IndexFunc(all, func(l plan.Link) bool { return l.Name == name }); i >= 0 {
			return all[i], nil
		}
	}
	return plan.Link{}, noInterface(p.Links.Interface, all)
}

// leaveNotice gives the pod's link its alias.
func (s *session) leaveNotice(p *Provision) error {
	link, err := s.noticed(p)
	if err != nil {
		return err
	}
	alias, _ := p.notice().String()
	return s.setAlias(link, alias)
}

// takeNotice gives the pod's link the alias that it had, unless somebody has set another since.
func (s *session) takeNotice(p *Provision) error {
	link, err := s.noticed(p)
	if IsRefusal(err) {
		return nil // the pod's network was taken away
	}
	if err != nil {
		return err
	}
	if alias, _ := p.notice().String(); link.Alias != alias {
		return nil
	}
	return s.setAlias(link, p.Guest.Alias)
}

func (s *session) setAlias(link plan.Link, alias string) error {
	if link.Alias == alias {
		return nil
	}
	return s.rtnl.SetAlias(link, alias)
}
