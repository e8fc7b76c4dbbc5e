package network

import (
	"context"
	"errors"
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
// force it also does so while a guest holds the tap. A record that cannot be removed is a warning: it is of a
// wiring that is gone, as a reader sees.
func Restore(ctx context.Context, req Request, force bool) (*Restoration, error) {
	s, v, err := openWired(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if !v.ours() {
		return s.forget()
	}
	d, err := s.wiredOne(v, req.Options)
	if err != nil {
		return nil, err
	}
	t := s.of(d)
	t.warnings = s.warnings
	return t.restore(force)
}

// RestoreAll does so for the interfaces of the request, or for all that are wired where it names none. After one that fails it
// goes on with the others; the error is that of all that failed.
func RestoreAll(ctx context.Context, req Request, force bool) ([]*Restoration, error) {
	s, v, err := openWired(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if !v.ours() {
		for _, o := range req.each() {
			if err := s.known(v, o.Interface); err != nil {
				return nil, err
			}
		}
		s.Options = req.each()[0]
		r, err := s.forget()
		return []*Restoration{r}, err
	}
	var chosen []*discovery
	every := false
	for _, o := range req.each() {
		if every = o.Interface == ""; every {
			chosen = slices.DeleteFunc(slices.Clone(v.wired), func(d *discovery) bool { return !d.wired() })
			break
		}
		d, err := s.wiredOne(v, o)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, d)
	}
	var all []*Restoration
	var failed []error
	for i, d := range chosen {
		t := s.of(d)
		if i == 0 {
			t.warnings = s.warnings
		}
		r, err := t.restore(force)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all = append(all, r)
	}
	if every && len(all) > 0 {
		s.forgetPast(v, all[len(all)-1])
	}
	return all, errors.Join(failed...)
}

// known refuses a name that neither a link nor a record of the namespace has: misspelt, most likely.
func (s *session) known(v *discoveries, name string) error {
	if name == "" {
		return nil
	}
	_, err := v.named(plan.Options{Interface: name})
	if err == nil || !IsRefusal(err) {
		return err
	}
	if slices.ContainsFunc(records(s.StateDir), func(r *Record) bool { return r.Namespace == s.id && r.Options.Interface == name }) {
		return nil
	}
	return plan.Refuse("%w", notWiredError{err})
}

// forgetPast removes records of what is not wired, such as a prepare that was killed leaves.
func (s *session) forgetPast(v *discoveries, r *Restoration) {
	for _, record := range records(s.StateDir) {
		wired := slices.ContainsFunc(v.wired, func(d *discovery) bool { return d.isOf(record) })
		if record.Namespace == s.id && !record.managed() && !wired {
			r.remove(Store{s.StateDir, record.Options.Interface})
		}
	}
}

// openWired looks for what is wired, under the lock.
func openWired(ctx context.Context, req Request) (*session, *discoveries, error) {
	s, err := openLocked(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.discoverAll()
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return s, v, nil
}

// ours reports whether podnic has wired anything.
func (v *discoveries) ours() bool { return slices.ContainsFunc(v.wired, (*discovery).wired) }

// notWiredError says that an interface which was named is not wired, and that others are.
type notWiredError struct{ error }

// IsNotWired reports whether err means that there is nothing to restore of the interface that was named.
func IsNotWired(err error) bool { return errors.As(err, new(notWiredError)) }

// wiredOne is the interface that was asked for, which has to be wired: another one is not restored in its place.
func (s *session) wiredOne(v *discoveries, o plan.Options) (*discovery, error) {
	var d *discovery
	var err error
	if o.Interface != "" {
		d, err = v.named(o)
	} else {
		ours := slices.DeleteFunc(slices.Clone(v.wired), func(d *discovery) bool { return !d.wired() })
		if len(ours) == 1 {
			return ours[0], nil
		}
		d, err = s.pick(v, o)
	}
	switch {
	case err != nil && !IsRefusal(err):
		return nil, err
	case err != nil, !d.wired() && d.names.Binding.Ours():
		is := " is"
		if len(v.wired) > 1 {
			is = " are"
		}
		return nil, plan.Refuse("%w", notWiredError{fmt.Errorf("%s is not wired, and %s%s: name one that is with --interface", o.Interface, v.names(), is)})
	}
	return d, nil
}

// restore gives the interface that was found back.
func (s *session) restore(force bool) (*Restoration, error) {
	record, err := s.recorded()
	if err != nil {
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
		r.Original = r.Names.Binding.Rebuild(current, r.Names)
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
