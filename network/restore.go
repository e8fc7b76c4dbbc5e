package network

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/plan"
)

// Restoration is what restore did.
type Restoration struct {
	Steps    []plan.Step
	Names    plan.Names
	Original *plan.Snapshot // nil when there was nothing to restore
	Warnings []string
}

// Restore gives the pod its interface back, exactly, and removes the record. Where nothing is wired it does nothing. With
// force it also does so while a guest holds the tap. That the record cannot be removed is a warning: it is of a wiring that
// is no more, which whoever reads it sees.
func Restore(ctx context.Context, req Request, force bool) (*Restoration, error) {
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := checkCapabilities(capNetAdmin); err != nil {
		return nil, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	links, err := s.rtnl.Links()
	if err != nil {
		return nil, err
	}
	if !anyMarked(links) {
		return s.forget()
	}
	if err := s.discover(req.Options); err != nil {
		return nil, err
	}
	record, err := s.recorded()
	if err != nil {
		return nil, err
	}
	if err := s.checkNamed(record); err != nil {
		return nil, err
	}
	if record != nil && record.managed() {
		return nil, kubeVirts(record, s.StateDir)
	}
	r := &Restoration{Names: s.found.names, Warnings: s.warnings}
	if record != nil {
		r.Names, r.Original = record.Options.Names(), record.Original
	}
	current, err := s.read(s.found.all, s.found.nic.Index, r.Names)
	if err != nil {
		return nil, err
	}
	if tap := current.Link(plan.Tap); tap != nil && tap.LowerUp && !force {
		return nil, plan.Refuse("a guest holds %s: it would lose its network; end it first, or pass --force", tap.Name)
	}
	switch nic := current.Link(plan.NIC); {
	case nic == nil:
		// The pod's link was deleted, as a pod network does when it takes the pod down. What we made goes too.
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s, which was wired, is gone: only what podnic made was removed", r.Names.Interface))
		r.Original = &plan.Snapshot{Links: []plan.Link{{Role: plan.NIC, Index: s.found.nic.Index}}}
	case r.Original == nil:
		r.Original = plan.Rebuild(current, r.Names)
		r.Warnings = append(r.Warnings, lostRecord(s.store.Path()))
	}
	if err := checkRestorable(s.found.all, r.Original.Link(plan.NIC)); err != nil {
		return nil, err
	}
	if r.Steps, err = s.reach(current, r.Original, r.Names); err != nil {
		return nil, &StuckError{Cause: fmt.Errorf("restore %s: %w", r.Names.Interface, err)}
	}
	r.remove(s.store)
	return r, nil
}

// remove removes a record.
func (r *Restoration) remove(store Store) {
	if err := store.Remove(); err != nil {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the interface is the pod's, but its record stays: %v; the next prepare replaces it", err))
	}
}

// checkNamed refuses to restore another interface than the one that was asked for. Where the wiring has lost so much that the
// interface's name is a guess, and the record too, the one that there is is meant.
func (s *session) checkNamed(record *Record) error {
	name, wired := s.Options.Interface, s.found.names.Interface
	if record != nil {
		wired = record.Options.Interface
	}
	if name == "" || name == wired || slices.Contains(s.found.nic.AltNames, name) || record == nil && s.found.guessed {
		return nil
	}
	return plan.Refuse("%s is not wired, and %s is: name that one with --interface", name, wired)
}

// forget is what restore does where nothing is wired: what records of the namespace remember is past.
func (s *session) forget() (*Restoration, error) {
	r, name := &Restoration{}, s.Options.Interface
	if err := s.discover(s.Options); err == nil {
		r.Names, name = s.found.names, s.found.names.Interface
	}
	if name != "" {
		record, err := s.load(name)
		if err != nil {
			return nil, err
		}
		if record != nil && record.managed() {
			return nil, kubeVirts(record, s.StateDir)
		}
		r.remove(s.store)
	}
	for _, record := range records(s.StateDir) {
		if record.Namespace == s.id && !record.managed() && s.Options.Interface == "" && record.Options.Interface != name {
			r.remove(Store{s.StateDir, record.Options.Interface})
		}
	}
	r.Warnings = append(r.Warnings, s.warnings...)
	return r, nil
}

func kubeVirts(record *Record, stateDir string) error {
	return plan.Refuse("the record %s is of an interface that KubeVirt wires, and podnic has nothing to take back", record.path(stateDir))
}

func anyMarked(links []plan.Link) bool {
	for _, l := range links {
		if plan.IsMark(l.Group) {
			return true
		}
	}
	return false
}

// checkRestorable refuses when somebody took the name that the pod's interface must have again.
func checkRestorable(all []plan.Link, nic *plan.Link) error {
	for _, l := range all {
		if l.Index != nic.Index && !plan.IsMark(l.Group) && nic.Name != "" && (l.Name == nic.Name || slices.Contains(l.AltNames, nic.Name)) {
			return plan.Refuse("the name %s is needed and taken by a link that podnic did not make: rename or remove it", nic.Name)
		}
	}
	return nil
}

func join(list []string) string { return strings.Join(list, "; ") }
