package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
)

// Inspection is what inspecting a namespace shows. Nothing is changed or locked, and no privilege is needed: where the record
// cannot be read, the namespace itself says who the guest must be.
type Inspection struct {
	ID     NamespaceID
	Wired  bool
	Names  plan.Names
	Record *Record // nil when there is none that this process may read
	// Options are those of the record, or what can be told of them from the wiring.
	Options plan.Options
	// Why says for what reason the binding was chosen, or would be, where nobody asks for it by name.
	Why string
	// Refusal says why the interface cannot be given to a guest, where nothing is wired.
	Refusal error
	// Original is what the pod's interface held before, and holds now if nothing is wired.
	Original *plan.Snapshot
	Current  *plan.Snapshot
	// Repairs are the changes that would mend the wiring. None if it is as it should be.
	Repairs []plan.Step
	// Deviations say what Repairs would mend.
	Deviations []plan.Deviation
	// Server is the address that a UDP server answers from. Where the wiring is KubeVirt's, ServerHeld says whether a link
	// has it: else nothing can be sent.
	Server     netip.Addr
	ServerHeld bool
	// FilterHidden says that this process may not see the filter: reading it requires CAP_NET_ADMIN.
	FilterHidden bool
	// Attached says that somebody, a guest, holds the tap's other end.
	Attached bool
	Warnings []string

	underWay bool // somebody else is wiring the interface, and has not finished
}

// Inspect inspects an interface of a namespace.
func Inspect(req Request) (*Inspection, error) {
	req.inspects = true
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.discover(req.Options); err != nil {
		return nil, err
	}
	return s.inspect()
}

// Lost is a wired interface that cannot be inspected: its link is gone, say.
type Lost struct {
	Names  plan.Names
	Reason error // a refusal
}

// InspectAll inspects the interfaces of the request, or where it names none at all that are wired, that with the default route
// first. Where nothing is wired, it inspects the one that would be. There is one at least. Those that are lost are left out.
func InspectAll(req Request) ([]*Inspection, error) {
	all, _, err := InspectEach(req)
	return all, err
}

// InspectEach is InspectAll with those that are lost beside the others. Where all are, that is an error, and they are returned with
// it. An interface that was asked for by name, is not wired and cannot be inspected is an error, whatever the others are.
func InspectEach(req Request) ([]*Inspection, []Lost, error) {
	req.inspects = true
	s, err := open(req)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	v, err := s.discoverAll()
	if err != nil {
		return nil, nil, err
	}
	var chosen []*discovery
	for _, o := range req.each() {
		if o.Interface == "" && len(v.wired) > 0 {
			chosen = v.wired
			break
		}
		d, err := s.pick(v, o)
		if err != nil {
			return nil, nil, err
		}
		chosen = append(chosen, d)
	}
	all, lost, err := v.inspect(chosen, func(d *discovery) (*Inspection, error) {
		t := s.of(d)
		t.Options = req.Options
		return t.inspect()
	})
	if err != nil {
		return nil, lost, err
	}
	if len(chosen) == len(v.wired) && len(req.Interfaces) == 0 {
		slices.SortStableFunc(all, func(a, b *Inspection) int {
			return cmp.Compare(boolOf(b.Original.HasDefault()), boolOf(a.Original.HasDefault()))
		})
	}
	return all, lost, nil
}

// inspect inspects those of the interfaces that can be. Only what is wired can be lost.
func (v *discoveries) inspect(chosen []*discovery, inspect func(*discovery) (*Inspection, error)) (all []*Inspection, lost []Lost, err error) {
	var failed []error
	for _, d := range chosen {
		seen, err := inspect(d)
		switch {
		case err == nil:
			all = append(all, seen)
		case IsRefusal(err) && slices.Contains(v.wired, d): // the others are there all the same
			lost, failed = append(lost, Lost{d.names, err}), append(failed, err)
		default:
			return nil, nil, err
		}
	}
	if len(all) == 0 {
		return nil, lost, errors.Join(failed...)
	}
	return all, lost, nil
}

// Wired are the names of the interfaces that are wired, by podnic or KubeVirt.
func Wired(req Request) ([]string, error) {
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	v, err := s.discoverAll()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range v.wired {
		names = append(names, d.names.Interface)
	}
	return names, nil
}

func boolOf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// inspect inspects the interface that was found.
func (s *session) inspect() (*Inspection, error) {
	seen := &Inspection{ID: s.id, Server: identity.ServerLinkLocal}
	record, err := s.recorded()
	if err != nil && !errors.Is(err, fs.ErrPermission) { // without permission, the namespace decides
		seen.Warnings = append(seen.Warnings, err.Error())
	}
	seen.Warnings = append(seen.Warnings, s.warnings...)
	managed := !s.found.names.Binding.Ours()
	seen.Wired, seen.Names = managed || s.found.wired(), s.found.names
	redirect := record != nil && record.Options.Names().Binding.KeepsNIC()
	if !seen.Wired && s.found.hidden && (redirect || errors.Is(err, fs.ErrPermission)) {
		seen.Warnings = append(seen.Warnings, fmt.Sprintf("this process cannot tell whether %s is wired: there is a record and no tap, and to see whether there is a filter requires CAP_NET_ADMIN", seen.Names.Interface))
	}
	if seen.Wired && record != nil && record.managed() == managed {
		seen.Record = record
	}
	if seen.Record != nil && !managed {
		seen.Names = record.Options.Names()
	}
	if !seen.Wired {
		if err := s.original(seen); err != nil {
			return nil, err
		}
		return seen, nil
	}
	s.brief = s.Brief && seen.Record != nil && !managed
	if seen.Current, err = s.read(s.found.all, s.found.nic.Index, seen.Names); err != nil {
		return nil, asRefusal(err)
	}
	if tap := seen.Current.Link(plan.Tap); tap != nil {
		seen.Attached = tap.LowerUp
	}
	if seen.Current.Link(plan.NIC) == nil {
		return nil, plan.Refuse("%s, which was wired, is gone: the pod's network was taken away; run `podnic restore` to remove what is left", cmp.Or(seen.Names.Interface, "the interface of "+seen.Names.Tap))
	}
	switch {
	case managed:
		seen.managed()
		seen.FilterHidden = s.hiddenFilter
		seen.Server, seen.ServerHeld, err = s.serverOf(seen.Names.Interface)
		return seen, err
	case seen.Record != nil:
		seen.Options, seen.Original, seen.Why = record.Options, record.Original, record.Why
	default:
		seen.Options, seen.Original = seen.Names.Binding.Options(seen.Current, seen.Names), seen.Names.Binding.Rebuild(seen.Current, seen.Names)
	}
	if s.hiddenFilter && !seen.Options.PortsTold() { // nor can be told what of the wiring depends on them
		seen.FilterHidden = true
		seen.Warnings = append(seen.Warnings, fmt.Sprintf("this process cannot tell which ports of %s are the pod's and which the guest's: it may not read the record, the tap's alias has no room for them, and to see the filter requires CAP_NET_ADMIN", seen.Names.Interface))
		return seen, nil
	}
	if err := s.compare(seen); err != nil {
		return nil, err
	}
	if s.noFilter && plan.WantedFilter(seen.Original, seen.Options) != nil {
		seen.Warnings = append(seen.Warnings, plan.Unfiltered(seen.Options))
	}
	seen.Warnings = append(seen.Warnings, seen.Names.Binding.Notes(seen.Original, seen.Current)...)
	if other := s.otherSources(seen.Options); other != "" {
		seen.Warnings = append(seen.Warnings, other)
	}
	if seen.Options.Binding == plan.BindingShared {
		seen.Warnings = append(seen.Warnings, s.unlisted(seen.Original, seen.Options)...)
	}
	return seen, nil
}

// compare says in what a wiring is not as it should be, unless nobody wants to know.
func (s *session) compare(state *Inspection) error {
	if state.FilterHidden = s.hiddenFilter; s.brief {
		return nil
	}
	wanted := s.wired(state.Original, state.Options, state.Current)
	if s.hiddenFilter {
		state.Current.Filter = wanted.Filter
	}
	now, err := rtnl.BootTime()
	if err != nil {
		return err
	}
	wanted = wanted.At(now)
	state.Repairs, state.Deviations = plan.Diff(state.Names.Binding, state.Current, wanted), plan.Deviations(state.Names.Binding, state.Current, wanted)
	return nil
}

// original completes what Inspect sees where nothing is wired, with the binding that a wiring would have.
func (s *session) original(state *Inspection) error {
	state.Options = s.Options
	state.Options.Interface, state.Options.IPv6 = state.Names.Interface, cmp.Or(s.Options.IPv6, plan.IPv6Auto)
	state.underWay = managedUnderWay(s.found.all, state.Names.Interface)
	c, err := s.choose(s.Options)
	switch {
	case err == nil:
		state.Names, state.Current, state.Why, state.Options.Binding = c.names, c.current, c.why, c.names.Binding.Name()
	case IsRefusal(err):
		state.Refusal = err
		// What could not be put back can be looked at.
		state.Names = plan.BindingOf(plan.BindingRedirect).Names(state.Names.Interface, state.Names.Tap)
		if state.Current, err = s.read(s.found.all, s.found.nic.Index, state.Names); err != nil {
			return asRefusal(err)
		}
	default:
		return err
	}
	state.Original = state.Current
	return nil
}

// Recorded is the record of the namespace's interface; nil when there is none that counts. Nothing is locked.
func Recorded(req Request) (*Record, error) {
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.discover(req.Options); err == nil {
		return s.recorded()
	}
	for _, record := range records(req.StateDir) { // the pod's network was taken away
		if record.Namespace == s.id && (req.Options.Interface == "" || req.Options.Interface == record.Options.Interface) {
			return record, nil
		}
	}
	return nil, nil
}

// GivenTo are the interfaces of the namespace that records give to a domain, whatever has become of their wiring. Nothing is
// locked.
func GivenTo(req Request, domain DomainRef) ([]string, error) {
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var names []string
	for _, r := range records(req.StateDir) {
		if r.Namespace == s.id && r.Domain.Is(domain.Name, domain.UUID) {
			names = append(names, r.Options.Interface)
		}
	}
	return names, nil
}

// SetDomain writes into an interface's record which guest was given the interface; nil is none.
func SetDomain(ctx context.Context, req Request, iface string, domain *DomainRef) error {
	s, err := openLocked(ctx, req)
	if err != nil {
		return err
	}
	defer s.close()
	r, err := s.load(iface)
	if err != nil {
		return err
	}
	if r == nil {
		return plan.Refuse("there is no record %s to write the guest's name into", s.store.Path())
	}
	r.Domain = domain
	return s.store.Save(r)
}

// Identity is who the guest has to be, and warnings of what it does not get.
func (s *Inspection) Identity() (identity.Identity, []string) {
	return s.Names.Binding.Identify(s.Original, s.Options)
}
