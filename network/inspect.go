package network

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
)

// State is what a look at the namespace shows. Nothing is changed or locked, and no privilege is needed: where the record
// cannot be read, the namespace itself says who the guest must be.
type State struct {
	ID     NamespaceID
	Wired  bool
	Names  plan.Names
	Record *Record // nil when there is none that this process may read
	// Options are those of the record, or what can be told of them from the wiring.
	Options plan.Options
	// Original is what the pod's interface held before, and holds now if nothing is wired.
	Original *plan.Snapshot
	Current  *plan.Snapshot
	// Missing are the changes that would mend the wiring. None if it is as it should be.
	Missing []plan.Step
	// Deviations say what Missing would mend.
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

// Inspect looks at a namespace.
func Inspect(req Request) (*State, error) {
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	state := &State{ID: s.id, Server: identity.ServerLinkLocal}
	if err := s.discover(req.Options); err != nil {
		return nil, err
	}
	record, err := s.recorded()
	if err != nil && !errors.Is(err, fs.ErrPermission) { // who may not read it goes by the namespace
		state.Warnings = append(state.Warnings, err.Error())
	}
	state.Warnings = append(state.Warnings, s.warnings...)
	managed := s.found.names.Managed
	state.Wired, state.Names = managed || len(s.found.marked) > 0, s.found.names
	if state.Wired && record != nil && record.managed() == managed {
		state.Record = record
	}
	if state.Record != nil && !managed {
		state.Names = record.Options.Names()
	}
	if state.Current, err = s.read(s.found.all, s.found.nic.Index, state.Names); err != nil {
		return nil, asRefusal(err)
	}
	if tap := state.Current.Link(plan.Tap); tap != nil {
		state.Attached = tap.LowerUp
	}
	if state.Current.Link(plan.NIC) == nil {
		return nil, plan.Refuse("%s, which was wired, is gone: the pod's network was taken away; run `podnic restore` to remove what is left", state.Names.Interface)
	}
	switch {
	case !state.Wired:
		state.Options, state.Original = req.Options, state.Current
		state.Options.Interface = state.Names.Interface
		state.underWay = managedUnderWay(s.found.all, state.Names.Interface)
		return state, nil
	case managed:
		state.managed()
		state.FilterHidden = s.hiddenFilter
		state.Server, state.ServerHeld, err = s.serverOf(state.Names.Interface)
		return state, err
	case state.Record != nil:
		state.Options, state.Original = record.Options, record.Original
	default:
		state.Options, state.Original = plan.OptionsOf(state.Current, state.Names), plan.Rebuild(state.Current, state.Names)
	}
	wanted := s.wired(state.Original, state.Options)
	if s.hiddenFilter {
		state.Current.Filter, state.FilterHidden = wanted.Filter, true
	}
	if s.noFilter && plan.WantedFilter(state.Original, state.Options) != nil {
		state.Warnings = append(state.Warnings, unfiltered)
	}
	now, err := rtnl.BootTime()
	if err != nil {
		return nil, err
	}
	wanted = wanted.At(now)
	state.Missing, state.Deviations = plan.Diff(state.Current, wanted), plan.Deviations(state.Current, wanted)
	return state, nil
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
		if record.Namespace == s.id {
			return record, nil
		}
	}
	return nil, nil
}

// SetDomain writes into an interface's record which guest was given the interface.
func SetDomain(ctx context.Context, req Request, iface string, domain DomainRef) error {
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
	r.Domain = &domain
	return s.store.Save(r)
}

// Identity is who the guest has to be, and warnings of what it does not get.
func (s *State) Identity() (identity.Identity, []string) { return plan.Identify(s.Original) }
