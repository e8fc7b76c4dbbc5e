package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
)

// Result is what prepare did, or found done.
type Result struct {
	Record *Record
	Names  plan.Names
	// Steps are the changes that were made; none if everything was as it should be.
	Steps []plan.Step
	// Found says that the interface was wired before, well or not.
	Found bool
	// Repaired says that the steps mended a wiring that was there.
	Repaired bool
	// Discovered and Wired are when the pod's interface was known and when the wiring was complete.
	Discovered, Wired time.Time
	// TapRemade says that the guest, if one runs, holds a tap that is no longer there, and must be restarted.
	TapRemade bool
	Warnings  []string
	// State is what a look at the namespace showed at the end.
	State *State
}

// Prepare gives the pod's interface to a bridge and a tap. It is idempotent: a wiring that is there is checked and
// mended. After an error that is neither a refusal nor a [StuckError], the namespace is what it was.
func Prepare(ctx context.Context, req Request) (*Result, error) {
	p, err := preparationFor(ctx, req)
	if err != nil {
		return nil, err
	}
	defer p.close()
	return p.prepare()
}

// Plan lists what Prepare would do, and changes nothing.
func Plan(ctx context.Context, req Request) ([]plan.Step, error) {
	p, err := preparationFor(ctx, req)
	if err != nil {
		return nil, err
	}
	defer p.close()
	return difference(p.current, p.wanted)
}

// preparation is all that is known before the first change.
type preparation struct {
	*session
	asked    plan.Options // as they were given, without the defaults
	record   *Record
	fresh    bool // the record is not on disk yet
	names    plan.Names
	current  *plan.Snapshot
	wanted   *plan.Snapshot
	warnings []string
	known    time.Time
}

// preparationFor finds out what is and what should be.
func preparationFor(ctx context.Context, req Request) (_ *preparation, err error) {
	asked := req.Options
	if req.Options, err = req.Options.Normal(); err != nil {
		return nil, err
	}
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := MayWire(); err != nil {
		return nil, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	p := &preparation{session: s, asked: asked}
	if err := s.discover(req.Options); err != nil {
		return nil, err
	}
	if p.record, err = s.recorded(); err != nil {
		return nil, err
	}
	if err := s.refuseManaged(); err != nil {
		return nil, err
	}
	p.known = time.Now()
	if err := p.read(); err != nil {
		return nil, asRefusal(err)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	p.wanted = p.wired(p.record.Original, p.record.Options)
	p.spareGuest()
	return p, nil
}

// read settles on the original: that of the record, that of the namespace as it is, or, where a wired namespace has lost
// its record, the one that it carries.
func (p *preparation) read() (err error) {
	wired := len(p.found.marked) > 0
	if p.record != nil && (!wired || p.record.managed()) {
		p.record = nil // nothing is wired that the record is of: what it remembers is past
	}
	if p.record != nil {
		if diff := p.asked.Otherwise(p.record.Options).Differences(p.record.Options); len(diff) > 0 {
			return plan.Refuse("the interface is wired already, with other options: %s; use the same, or run `podnic restore` first", join(diff))
		}
		p.names = p.record.Options.Names()
		nic := p.record.Original.Link(plan.NIC).Index
		if p.found.nic.Index != nic || p.found.nic.Name == "" {
			return plan.Refuse("%s, which was wired, is gone (link %d): the pod's network was taken away; run `podnic restore` to remove what is left", p.names.Interface, nic)
		}
		p.current, err = p.session.read(p.found.all, nic, p.names)
		return err
	}
	if wired && p.Options.Interface != "" && p.Options.Interface != p.found.names.Interface {
		return plan.Refuse("%s is wired already, and podnic serves one interface for now: restore it first", p.found.names.Interface)
	}
	if wired && p.found.nic.Name == "" {
		return plan.Refuse("%s, which was wired, is gone (link %d): the pod's network was taken away; run `podnic restore` to remove what is left", p.found.names.Interface, p.found.nic.Index)
	}
	p.names, p.store.Interface = p.found.names, p.found.names.Interface
	options := p.Options
	options.Interface, options.Tap = p.names.Interface, p.names.Tap
	if p.current, err = p.session.read(p.found.all, p.found.nic.Index, p.names); err != nil {
		return err
	}
	original := p.current
	if wired {
		if p.asked.Tap != "" && p.asked.Tap != options.Tap {
			return plan.Refuse("the interface is wired already, with the tap %s: pass --tap %s, or run `podnic restore` first", options.Tap, options.Tap)
		}
		if options, err = p.asked.Otherwise(plan.OptionsOf(p.current, p.names)).Normal(); err != nil {
			return err
		}
		original = plan.Rebuild(p.current, p.names)
		p.warnings = append(p.warnings, lostRecord(p.store.Path()))
	}
	p.fresh = true
	p.record = &Record{Version: recordVersion, Namespace: p.id, Options: options, Original: original.Clone(), Prepared: time.Now().UTC()}
	return nil
}

func lostRecord(path string) string {
	return fmt.Sprintf("the namespace is wired, but there is no record %s: the original was rebuilt from what the namespace carries, which may lack flags of addresses and routes", path)
}

// check refuses what cannot be wired. A namespace that is wired already passed.
func (p *preparation) check() error {
	if err := checkReserved(p.names.Interface); err != nil {
		return err
	}
	if err := checkNames(p.found.all, p.found.nic.Index, p.names); err != nil {
		return err
	}
	if len(p.found.marked) == 0 {
		if err := checkKind(p.found.nic); err != nil {
			return err
		}
		if err := checkFree(p.found.all, p.found.nic); err != nil {
			return err
		}
		if err := checkNexthops(p.rtnl, p.found.nic); err != nil {
			return err
		}
		if err := plan.CheckMTU(p.record.Original); err != nil {
			return err
		}
	}
	return p.ns.Do(rtnl.CheckTunDevice)
}

// spareGuest keeps the tap as it is while a guest holds it, whatever somebody did to it: one that is made again is one
// that the guest has lost.
func (p *preparation) spareGuest() {
	have, want := p.current.Link(plan.Tap), p.wanted.Link(plan.Tap)
	if have == nil || !have.LowerUp || plan.SameTap(have.TapOptions, want.TapOptions) {
		return
	}
	want.TapOptions = have.TapOptions
	p.warnings = append(p.warnings, fmt.Sprintf("%s is not as prepare made it (owner, queues), and is left so, since a guest holds it", want.Name))
}

func (p *preparation) prepare() (*Result, error) {
	// A record of version 1 that stays lies in a directory that is podnic's own.
	if !(p.record.first && p.StayFirst) {
		if err := p.store.Writable(); err != nil {
			return nil, err
		}
	}
	if p.Domain != nil && (p.record.Domain == nil || *p.record.Domain != *p.Domain) {
		p.record.Domain, p.fresh = p.Domain, true
	}
	if p.record.first && !p.StayFirst {
		p.record.first, p.fresh = false, true
	}
	if p.fresh {
		if err := p.store.Save(p.record); err != nil {
			return nil, &plan.RefusalError{Reason: err}
		}
	}
	repair := len(p.found.marked) > 0
	r := &Result{Record: p.record, Names: p.names, Discovered: p.known, Found: repair}
	before := p.record.Original
	if repair {
		before = p.current
	}
	steps, err := p.reach(p.current, p.wanted, p.names)
	if errors.Is(err, rtnl.ErrNoFilter) {
		steps, err = p.withoutFilter()
	}
	if err != nil {
		err = p.back(err, before, p.names)
		var stuck *StuckError
		if p.fresh && !repair && !errors.As(err, &stuck) {
			err = errors.Join(err, p.store.Remove())
		}
		return nil, err
	}
	r.Steps, r.Repaired, r.Wired = steps, repair && len(steps) > 0, time.Now()
	r.Warnings = append(p.session.warnings, p.warnings...)
	if r.Repaired {
		p.record.Repairs++
		if err := p.store.Save(p.record); err != nil {
			r.Warnings = append(r.Warnings, "the repair is not counted: "+err.Error())
		}
	}
	if p.noFilter && plan.WantedFilter(p.record.Original, p.record.Options) != nil {
		r.Warnings = append(r.Warnings, unfiltered)
	}
	if repair {
		for _, s := range steps {
			if c, ok := s.Change.(plan.CreateLink); ok && c.Link.Role == plan.Tap {
				r.TapRemade = true
				r.Warnings = append(r.Warnings, fmt.Sprintf("%s was gone and has been made again: a guest that runs holds the old one and must be restarted", c.Link.Name))
			}
		}
	}
	r.State = p.state()
	return r, nil
}

// state is what Inspect would see of a wiring that is as wanted.
func (p *preparation) state() *State {
	s := &State{
		ID: p.id, Wired: true, Names: p.names, Record: p.record, Options: p.record.Options, Original: p.record.Original,
		Current: p.reached, Attached: p.reached.Link(plan.Tap).LowerUp,
	}
	if p.noFilter && plan.WantedFilter(s.Original, s.Options) != nil {
		s.Warnings = append(s.Warnings, unfiltered)
	}
	return s
}

// withoutFilter goes on where the kernel turned out to have no nftables for bridges, which only a table shows.
func (p *preparation) withoutFilter() ([]plan.Step, error) {
	p.noFilter = true
	p.wanted.Filter = nil
	now, err := p.snapshot(p.wanted.Link(plan.NIC).Index, p.names)
	if err != nil {
		return nil, err
	}
	return p.reach(now, p.wanted, p.names)
}
