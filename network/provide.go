package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/probe"
	"golang.org/x/sys/unix"
)

// Provide makes the namespace fit for a server without capabilities, and, where guest and containers are to share the address, for
// that: connections of the pod come from other ports than a guest's. links are those of a wiring that somebody else will
// make for the interface of the options, and nil for podnic's own. It is idempotent. others are the provisions that were
// made for other interfaces, of which those of the same namespace share settings and address with this one. After an
// error of a first call, the namespace is what it was.
func Provide(ctx context.Context, req Request, links *plan.Names, others []*Provision) (warnings []string, err error) {
	s, err := openLocked(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	warnings = s.warnings
	p, err := s.store.LoadProvision()
	if err != nil {
		return nil, err
	}
	fresh := p == nil || p.Namespace != s.id
	if !fresh {
		if err := p.checkFor(req.Options.Interface); err != nil {
			return nil, err
		}
	}
	if fresh {
		var more []string
		if p, more, err = s.newProvision(links, others); err != nil {
			return nil, err
		}
		warnings = append(warnings, more...)
		if err := s.store.Writable(); err != nil {
			return nil, err
		}
		store := s.store.open()
		defer store.close()
		if err := store.save(provisionFile, p); err != nil {
			return nil, &plan.RefusalError{Reason: err}
		}
	}
	if links != nil && p.Links == nil {
		warnings = append(warnings, fmt.Sprintf("%s has no IPv4 address, and IPv6 is not served: there is nothing to serve, and no filter", links.Interface))
	}
	err = s.provide(p)
	if errors.Is(err, rtnl.ErrNoFilter) {
		warnings, err = append(warnings, plan.Unfiltered(plan.Options{})), nil
	}
	if err != nil && fresh {
		if undone := s.withdraw(p, others); undone != nil {
			return nil, &StuckError{Cause: err, Rollback: undone}
		}
		return nil, errors.Join(fmt.Errorf("%w (everything was put back)", err), s.store.removeProvision())
	}
	return warnings, err
}

// openLocked opens a session that changes something.
func openLocked(ctx context.Context, req Request) (*session, error) {
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	err = probe.CheckCapabilities(probe.NetAdmin)
	if err == nil {
		err = s.lock(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// newProvision is what has to be given, and what is there now.
func (s *session) newProvision(links *plan.Names, others []*Provision) (p *Provision, warnings []string, err error) {
	all, link, err := s.named(s.Options.Interface)
	if err != nil {
		return nil, nil, err
	}
	p = &Provision{Version: provisionVersion, Namespace: s.id, Links: links, Sysctls: make(map[string]string)}
	if links != nil && plan.IsMark(link.Group) {
		return nil, nil, plan.Refuse("%s is wired by podnic already, so nobody else can wire it: run `podnic restore` first", link.Name)
	}
	if links != nil {
		if warnings, err = s.provideIPv6(p, all, link, links); err != nil {
			return nil, nil, err
		}
		if p.NoIPv4 && p.Guest == nil {
			p.Links = nil // nothing is served, and a server of the pod network must be heard
		}
		if p.Blocked, err = s.blocked(link.Index); err != nil {
			return nil, nil, asRefusal(err)
		}
	}
	p.Capable = links == nil && s.Options.Socket == plan.SocketPacket
	if s.Options.Binding == plan.BindingShared {
		if p.Sources, err = s.sourcesWanted(); err != nil {
			return nil, nil, err
		}
	}
	for name := range p.wanted() {
		value, err := s.sysctl(name)
		if err != nil {
			return nil, nil, err
		}
		p.Sysctls[name] = value
	}
	if p.Links != nil && !p.NoIPv4 {
		there, err := s.everyAddress()
		if err != nil {
			return nil, nil, err
		}
		if err := p.chooseServer(there, p.sharing(others)); err != nil {
			return nil, nil, err
		}
	}
	wanted := p.wanted()
	for _, o := range p.sharing(others) {
		for name, before := range o.Sysctls {
			if _, is := wanted[name]; is {
				p.Sysctls[name] = before
			}
		}
	}
	return p, warnings, nil
}

// blocked are the destinations that the namespace blocks as it is, for a link.
func (s *session) blocked(nic int) ([]plan.Blocked, error) {
	var now plan.Snapshot
	var err error
	if now.Routes, now.Barriers, err = s.rtnl.Routes(map[int]plan.Role{nic: plan.NIC}, 0); err != nil {
		return nil, err
	}
	if now.Rules, err = s.rtnl.Rules(); err != nil {
		return nil, err
	}
	return now.Blocked(), nil
}

// sharing are those of the others that are of the same namespace. What they were given by the first of them stays until
// the last of them goes.
func (p *Provision) sharing(others []*Provision) []*Provision {
	return slices.DeleteFunc(slices.Clone(others), func(o *Provision) bool { return o.Namespace != p.Namespace })
}

// named finds a link by name, in a namespace that is not a node's.
func (s *session) named(name string) (all []plan.Link, link plan.Link, err error) {
	if all, err = s.rtnl.Links(); err != nil {
		return nil, link, err
	}
	if !s.AllowHostNamespace {
		if err := checkNotNode(all); err != nil {
			return nil, link, err
		}
	}
	i := slices.IndexFunc(all, func(l plan.Link) bool { return l.Name == name })
	if i < 0 {
		return nil, link, noInterface(name, all)
	}
	return all, all[i], nil
}

// provide gives what is not there. Without nftables for bridges it does the rest and returns rtnl.ErrNoFilter.
func (s *session) provide(p *Provision) error {
	for name, value := range p.wanted() {
		if err := s.setSysctl(name, value); err != nil {
			return err
		}
	}
	if p.Links == nil {
		return nil
	}
	if !p.NoIPv4 {
		index, err := s.rtnl.IndexOf("lo")
		if err != nil {
			return err
		}
		err = s.rtnl.Do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, rtnl.EncodeAddress(p.serverAddress(), index, 0)...)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %s to lo: %w", p.serverAddress(), err)
		}
	}
	if p.Guest != nil {
		if err := s.leaveNotice(p); err != nil {
			return err
		}
	}
	for _, wanted := range p.filters() {
		have, err := s.nft.Read(wanted.Family, wanted.Table)
		if err != nil {
			return err
		}
		if have.Same(wanted) {
			continue
		}
		if err := s.nft.Put(wanted, have != nil); err != nil {
			return fmt.Errorf("put filter %s: %w", wanted.Name(), err)
		}
	}
	return nil
}

// Withdraw takes back what Provide gave and removes the record of it. Where nothing was given, or in another namespace, it
// only does the latter. What one of the others shares stays.
func Withdraw(ctx context.Context, req Request, others []*Provision) (warnings []string, err error) {
	store := Store{req.StateDir, req.Options.Interface}
	p, err := store.LoadProvision()
	if p == nil || err != nil {
		return nil, err
	}
	s, err := openLocked(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if p.Namespace == s.id {
		if err := p.checkFor(req.Options.Interface); err != nil {
			return s.warnings, err
		}
		if err := s.withdraw(p, others); err != nil {
			return s.warnings, &StuckError{Cause: err}
		}
	}
	return s.warnings, store.removeProvision()
}

func (s *session) withdraw(p *Provision, others []*Provision) error {
	others = p.sharing(others)
	if p.Links != nil {
		for _, f := range p.filters() {
			if err := s.nft.Remove(f.Family, f.Table); err != nil && !errors.Is(err, rtnl.ErrNoFilter) {
				return fmt.Errorf("remove filter %s: %w", f.Name(), err)
			}
		}
		if err := s.takeAddress(p, others); err != nil {
			return err
		}
		if p.Guest != nil {
			if err := s.takeNotice(p); err != nil {
				return err
			}
		}
	}
	wanted := p.wanted()
	for name, before := range p.Sysctls {
		if slices.ContainsFunc(others, func(o *Provision) bool { _, is := o.wanted()[name]; return is }) {
			continue // another's still
		}
		now, err := s.sysctl(name)
		if err != nil {
			return err
		}
		if now != wanted[name] {
			continue // somebody has set it since: it is theirs
		}
		if err := s.setSysctl(name, before); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) takeAddress(p *Provision, others []*Provision) error {
	if !p.Address || slices.ContainsFunc(others, func(o *Provision) bool { return o.Links != nil && !o.NoIPv4 && o.server() == p.server() }) {
		return nil
	}
	index, err := s.rtnl.IndexOf("lo")
	if err != nil {
		return err
	}
	if err := rtnl.Gone(s.rtnl.Do(unix.RTM_DELADDR, 0, rtnl.EncodeAddressDelete(p.serverAddress(), index)...)); err != nil {
		return fmt.Errorf("delete address %s from lo: %w", p.serverAddress(), err)
	}
	return nil
}
