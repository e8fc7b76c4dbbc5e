package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// Seen is what inspecting the namespace showed at the end.
	Seen *Inspection
}

// Prepare gives the pod's interface to a bridge and a tap. It is idempotent: an existing wiring is checked and
// mended. After an error that is neither a refusal nor a [StuckError], the namespace is what it was.
func Prepare(ctx context.Context, req Request) (*Result, error) {
	req.Interfaces = nil
	all, err := PrepareAll(ctx, req)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// PrepareAll does so for each interface of the request, or for none: all are looked at before the first change, and after an
// error what was done to the others is undone.
func PrepareAll(ctx context.Context, req Request) ([]*Result, error) {
	s, all, err := preparationsFor(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var results []*Result
	for i, p := range all {
		var r *Result
		if i > 0 {
			err = p.readAgain()
		}
		if err == nil {
			r, err = p.prepare()
		}
		if err != nil {
			return nil, undo(err, all[:i])
		}
		results = append(results, r)
	}
	return results, nil
}

// undo takes back what was done to interfaces, the last first, because of what happened to another.
func undo(cause error, done []*preparation) error {
	for _, p := range slices.Backward(done) {
		if err := p.takeBack(); err != nil {
			return &StuckError{Cause: cause, Rollback: err}
		}
	}
	return cause
}

// Planned is what Prepare would do.
type Planned struct {
	Interface string      `json:"interface"`
	Steps     []plan.Step `json:"steps"`
	Binding   string      `json:"binding"`
	// Why says for what reason the binding was chosen, where nobody asked for it by name.
	Why string `json:"bindingReason,omitempty"`
}

// Plan is what PrepareAll would do to each interface. It changes nothing.
func Plan(ctx context.Context, req Request) ([]*Planned, error) {
	req.inspects = true
	s, all, err := preparationsFor(ctx, req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var planned []*Planned
	for _, p := range all {
		steps, err := diffNow(p.names.Binding, p.current, p.wanted)
		if err != nil {
			return nil, err
		}
		planned = append(planned, &Planned{p.names.Interface, append([]plan.Step{}, steps...), p.names.Binding.Name(), p.record.Why})
	}
	return planned, nil
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
	before   *plan.Snapshot // what an error leads back to
	warnings []string
	known    time.Time
}

// preparationsFor finds out what is and what should be, of each interface of a request, under the lock that the session has.
func preparationsFor(ctx context.Context, req Request) (_ *session, all []*preparation, err error) {
	if err := req.check(); err != nil {
		return nil, nil, err
	}
	s, err := open(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := MayWire(); err != nil {
		return nil, nil, err
	}
	if err := s.lock(ctx); err != nil {
		return nil, nil, err
	}
	v, err := s.discoverAll()
	if err != nil {
		return nil, nil, err
	}
	err = s.eachFound(v, func(d *discovery, o plan.Options) error {
		t := s.of(d)
		t.Options = o
		p, err := t.preparation()
		if err == nil {
			err = p.refuseSecondShared(v)
		}
		all = append(all, p)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	all[0].session.warnings = append(slices.Clone(s.warnings), all[0].session.warnings...)
	return s, all, nil
}

// check looks at the options.
func (r Request) check() error {
	for _, o := range r.each() {
		if err := o.Check(); err != nil {
			return err
		}
	}
	return nil
}

// eachFound calls f with each interface that is asked for, in order. The name of a tap that nobody has chosen depends on those
// before.
func (s *session) eachFound(v *discoveries, f func(*discovery, plan.Options) error) (err error) {
	asked := s.each()
	if s.All {
		if asked, err = s.every(v, s.Options); err != nil {
			return err
		}
	}
	var found []*discovery
	for _, o := range asked {
		d, err := s.pick(v, o)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(found, func(other *discovery) bool { return other.nic.Index == d.nic.Index }) {
			return plan.Refuse("%s is named twice: name each interface once", d.names.Interface)
		}
		found = append(found, d)
		if err := f(d, o); err != nil {
			return err
		}
		if !slices.Contains(v.wired, d) {
			v.wired = append(v.wired, d) // its tap's name is taken
		}
	}
	return nil
}

// every is asked for where all are: those that are wired, and what a guest can be given besides, in the order of the links, but
// the one with the default route first. What cannot be given is warned of.
func (s *session) every(v *discoveries, o plan.Options) ([]plan.Options, error) {
	main, err := s.pick(v, o)
	if err != nil {
		return nil, err
	}
	found := []*discovery{main}
	add := func(d *discovery) {
		if d.nic.Index != main.nic.Index {
			found = append(found, d)
		}
	}
	for _, d := range v.wired {
		add(d)
	}
	for _, l := range v.all {
		if !isPodLink(l) || plan.IsMark(l.Group) || slices.ContainsFunc(v.wired, func(d *discovery) bool { return d.nic.Index == l.Index }) {
			continue
		}
		one := o
		one.Interface = l.Name
		d, err := v.named(one)
		if err == nil {
			_, err = s.of(d).choose(one)
		}
		if err != nil {
			if !IsRefusal(err) {
				return nil, err
			}
			s.warnings = append(s.warnings, fmt.Sprintf("%s stays the pod's: %v", l.Name, err))
			continue
		}
		add(d)
	}
	var all []plan.Options
	for _, d := range found {
		one := o
		one.Interface = d.names.Interface
		all = append(all, one)
	}
	return all, nil
}

// preparation is that of the interface that was found.
func (s *session) preparation() (p *preparation, err error) {
	p = &preparation{session: s, asked: s.Options}
	if s.Options, err = s.Options.Normal(); err != nil {
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
	p.lookForRouters()
	p.wanted = p.wired(p.record.Original, p.record.Options, p.current)
	p.spareGuest()
	return p, nil
}

// readAgain takes the state after another interface was wired from the inspection at the end of that.
func (p *preparation) readAgain() error {
	all, err := p.rtnl.Links()
	if err == nil {
		p.current, err = p.session.read(all, p.record.Original.Link(plan.NIC).Index, p.names)
	}
	return err
}

// read settles on the original: that of the record, that of the namespace as it is, or, where a wired namespace has lost
// its record, the one that it carries.
func (p *preparation) read() (err error) {
	wired := p.found.wired()
	if p.record != nil && (!wired || p.record.managed()) {
		p.record = nil // nothing is wired that the record is of: what it remembers is past
	}
	if p.record != nil {
		if diff := p.asked.Otherwise(p.record.Options).Conflicts(p.record.Options); len(diff) > 0 {
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
	if wired && p.found.nic.Name == "" {
		return plan.Refuse("%s, which was wired, is gone (link %d): the pod's network was taken away; run `podnic restore` to remove what is left", p.found.names.Interface, p.found.nic.Index)
	}
	p.names, p.store.Interface = p.found.names, p.found.names.Interface
	options := p.Options
	why := ""
	if wired {
		p.current, err = p.session.read(p.found.all, p.found.nic.Index, p.names)
	} else {
		var c *choice
		if c, err = p.choose(p.Options); err == nil {
			p.names, p.current, why = c.names, c.current, c.why
			b := c.names.Binding
			options.Binding, options.Mark, options.TC = b.Name(), newMark(b), plan.ByTC(b)
			options.Sources, err = p.sources(b)
		}
	}
	if err != nil {
		return err
	}
	options.Interface, options.Tap = p.names.Interface, p.names.Tap
	original := p.current
	if wired {
		if p.asked.Tap != "" && p.asked.Tap != options.Tap {
			return plan.Refuse("the interface is wired already, with the tap %s: pass --tap %s, or run `podnic restore` first", options.Tap, options.Tap)
		}
		there := p.names.Binding.Options(p.current, p.names)
		if binding := p.asked.Otherwise(there).Binding; binding != there.Binding {
			return plan.Refuse("the interface is wired already, with the binding %s, and not %s: run `podnic restore` first", there.Binding, binding)
		}
		if options, err = p.asked.Otherwise(there).Normal(); err != nil {
			return err
		}
		if options.Mark == 0 {
			options.Mark = newMark(p.names.Binding)
		}
		if !options.PortsTold() {
			if options.Sources, err = p.sources(p.names.Binding); err != nil {
				return err
			}
		}
		original = p.names.Binding.Rebuild(p.current, p.names)
		p.warnings = append(p.warnings, lostRecord(p.store.Path()))
	}
	p.fresh = true
	p.record = &Record{Version: recordVersion, Namespace: p.id, Options: options, Original: original.Clone(), Prepared: time.Now().UTC(), Why: why}
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
	if !p.found.wired() {
		if err := plan.CheckMTU(p.record.Original); err != nil {
			return err
		}
		if err := p.record.Options.CheckIPv6(p.record.Original); err != nil {
			return err
		}
		if err := p.checkNewLinks(); err != nil {
			return err
		}
		if err := p.record.Options.CheckShared(p.record.Original); err != nil {
			return err
		}
	}
	return p.ns.Do(rtnl.CheckTunDevice)
}

// checkNewLinks sees to it that IPv6 is served only where links that are made have it: a server's address and a router that
// was found cannot be put on others, and only a process that may write /proc/sys can change that.
func (p *preparation) checkNewLinks() error {
	o := &p.record.Options
	if o.IPv6For(p.record.Original) != plan.IPv6Serve || !p.newLinksLackIPv6() {
		return nil
	}
	const why = "since new links have none (net.ipv6.conf.default.disable_ipv6 is 1): set it to 0 in the pod's namespace"
	if o.IPv6 == plan.IPv6Serve {
		return plan.Refuse("IPv6 cannot be served, %s, or pass --ipv6 auto", why)
	}
	o.IPv6 = plan.IPv6Pass
	p.warnings = append(p.warnings, fmt.Sprintf("IPv6 is not served, %s before the interface is wired", why))
	return nil
}

// spareGuest keeps the tap as it is while a guest holds it, whatever somebody did to it: one that is made again is one
// that the guest has lost.
func (p *preparation) spareGuest() {
	have, want := p.current.Link(plan.Tap), p.wanted.Link(plan.Tap)
	if have == nil || !have.LowerUp || plan.SameTap(have.TapSettings, want.TapSettings) {
		return
	}
	want.TapSettings = have.TapSettings
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
	repair := p.found.wired()
	r := &Result{Record: p.record, Names: p.names, Discovered: p.known, Found: repair}
	p.before = p.record.Original
	if repair {
		p.before = p.current
	}
	steps, err := p.reach(p.current, p.wanted, p.names)
	if shared := p.names.Binding.Name() == plan.BindingShared; shared && (errors.Is(err, rtnl.ErrNoEgress) || lacksForward(err)) {
		return nil, p.refuse(sharedTakes(err))
	}
	if errors.Is(err, rtnl.ErrNoEgress) {
		steps, err = p.withoutEgress()
	}
	switch byNFT := p.names.Binding.KeepsNIC() && !plan.ByTC(p.names.Binding); {
	case byNFT && lacksForward(err):
		done := beforeFilter(steps)
		steps, err = p.byTC(err)
		steps = append(done, steps...)
	case errors.Is(err, rtnl.ErrNoFilter):
		steps, err = p.withoutFilter()
	}
	if err != nil {
		if failed := p.takeBack(); failed != nil {
			return nil, &StuckError{Cause: err, Rollback: failed}
		}
		return nil, fmt.Errorf("%w (everything was put back)", err)
	}
	r.Names = p.names // tc may have come in
	r.Steps, r.Repaired, r.Wired = steps, repair && len(steps) > 0, time.Now()
	r.Warnings = append(p.session.warnings, p.warnings...)
	if r.Repaired {
		p.record.Repairs++
		if err := p.store.Save(p.record); err != nil {
			r.Warnings = append(r.Warnings, "the repair is not counted: "+err.Error())
		}
	}
	if p.noFilter && plan.WantedFilter(p.record.Original, p.record.Options) != nil {
		r.Warnings = append(r.Warnings, plan.Unfiltered(p.record.Options))
	}
	if repair {
		for _, s := range steps {
			if c, ok := s.Change.(plan.CreateLink); ok && c.Link.Role == plan.Tap {
				r.TapRemade = true
				r.Warnings = append(r.Warnings, fmt.Sprintf("%s was gone and has been made again: a guest that runs holds the old one and must be restarted", c.Link.Name))
			}
		}
	}
	r.Seen = p.seen()
	return r, nil
}

// refuse is the refusal, once everything is put back.
func (p *preparation) refuse(err error) error {
	if failed := p.takeBack(); failed != nil {
		return &StuckError{Cause: err, Rollback: failed}
	}
	return err
}

// takeBack undoes prepare: the namespace is as before, and so is the state directory.
func (p *preparation) takeBack() error {
	p.fault = nil
	now, err := p.snapshot(p.before.Link(plan.NIC).Index, p.names)
	if err == nil {
		_, err = p.reach(now, p.before, p.names)
	}
	if err == nil && p.fresh && !p.found.wired() {
		err = p.store.Remove()
	}
	return err
}

// seen is what Inspect would see of a wiring that is as wanted.
func (p *preparation) seen() *Inspection {
	s := &Inspection{
		ID: p.id, Wired: true, Names: p.names, Record: p.record, Options: p.record.Options, Original: p.record.Original,
		Current: p.reached, Attached: p.reached.Link(plan.Tap).LowerUp, Why: p.record.Why,
		Warnings: p.names.Binding.Notes(p.record.Original, p.reached),
	}
	if p.noFilter && plan.WantedFilter(s.Original, s.Options) != nil {
		s.Warnings = append(s.Warnings, plan.Unfiltered(s.Options))
	}
	return s
}

// withoutEgress goes on where the kernel turned out to have no hook that sees what a link sends, which only a chain shows.
func (p *preparation) withoutEgress() ([]plan.Step, error) {
	p.record.Options.Mark = 0
	if err := p.store.Save(p.record); err != nil {
		return nil, err
	}
	p.wanted = p.wired(p.record.Original, p.record.Options, p.current)
	now, err := p.snapshot(p.wanted.Link(plan.NIC).Index, p.names)
	if err != nil {
		return nil, err
	}
	return p.reach(now, p.wanted, p.names)
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
