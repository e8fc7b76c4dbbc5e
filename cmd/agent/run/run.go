// Package run gives interfaces to a guest, of libvirt or of a command (`podnic run -- COMMAND`), starts it, serves it, and
// takes the interfaces back when it has ended. It makes no network change and builds no packet itself.
package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/serving"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/cmd/agent/wiring"
	"github.com/podnic/podnic/domain"
	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap"
)

// Task is a guest and the namespace that it gets interfaces of.
type Task struct {
	network.Request
	Service offering.Service
	// XML is the domain as the user wrote it.
	XML []byte
	// URI is libvirt's; empty is its default.
	URI string
	// ConnectTimeout bounds the wait for the libvirt daemon, Grace the guest's time to shut down when asked to.
	ConnectTimeout, Grace time.Duration
	// KillOrphan ends the process that holds the tap when the grace period is over and there is no libvirt to do it.
	KillOrphan bool
	// FollowCarrier has the guest's link go down and up with the carrier of the pod's interface.
	FollowCarrier bool
	// Started is when the program was.
	Started time.Time
}

// ErrInterrupted says that a signal came before the guest was started.
var ErrInterrupted = errors.New("ended by a signal before the guest was started")

// Run gives interfaces of the pod to a guest, starts it, follows it until it ends, and takes them back. A guest of this name
// that an earlier Run started in this namespace is taken over in place of starting it. The first signal on stop asks the guest
// to shut down, the second does not wait for it.
func Run(r Task, stop, reload <-chan os.Signal, log *zap.Logger) (domain.Ending, error) {
	document, err := domainxml.Parse(r.XML)
	if err != nil {
		return domain.Ending{}, &plan.RefusalError{Reason: err}
	}
	selected, warnings, err := network.Select(r.Request)
	if err != nil {
		return domain.Ending{}, err
	}
	for _, w := range warnings {
		log.Warn(w)
	}
	matched, err := document.Match(cards(selected))
	if err != nil {
		return domain.Ending{}, &plan.RefusalError{Reason: err}
	}
	run := &run{task: r, document: document, down: make(map[string]bool)}
	var options []plan.Options
	for i, m := range matched {
		o := selected[i].Options
		o.Tap = selected[i].Tap
		if o.Queues == 0 {
			o.Queues = m.AskedQueues()
		}
		run.down[o.Interface] = m != nil && m.LinkDown
		options = append(options, o)
	}
	run.loan = loan{Request: r.Only(options...), service: r.Service, started: r.Started, log: log}
	return run.do(stop, reload)
}

// cards are the selected interfaces as a domain is asked for them.
func cards(selected []network.Selection) []domainxml.NIC {
	nics := make([]domainxml.NIC, len(selected))
	for i, s := range selected {
		nics[i] = domainxml.NIC{Name: s.Options.Interface, Tap: s.Tap, MAC: s.MAC}
	}
	return nics
}

// run is one guest on its way.
type run struct {
	loan
	task     Task
	document *domainxml.Document
	down     map[string]bool // the interfaces whose link the domain's XML has down

	libvirt *domain.Connection
	guest   *domain.Guest      // set from the beginning if there is one to adopt
	asked   chan time.Duration // how long the guest that was asked to end has for it
}

func (r *run) do(stop, reload <-chan os.Signal) (domain.Ending, error) {
	ctx, interrupt := context.WithCancelCause(context.Background())
	defer interrupt(nil)
	started, ended := make(chan struct{}), make(chan struct{})
	defer close(ended)
	r.asked = make(chan time.Duration)
	go r.heed(stop, interrupt, started, ended)

	if err := r.connect(ctx); err != nil {
		return domain.Ending{}, orCause(ctx, err)
	}
	defer r.libvirt.Close()
	if err := r.prepare(ctx); err != nil {
		r.serving.Close()
		return domain.Ending{}, orCause(ctx, err)
	}
	end, err := r.serve(reload)
	if err == nil {
		err = r.start(ctx)
	}
	if err != nil {
		end()
		return domain.Ending{}, r.takeBack(orCause(ctx, err))
	}
	close(started)
	ending, err := r.follow()
	if err != nil {
		end()
		return ending, err
	}
	r.log.Info("guest "+ending.How.String(), zap.String("domain", r.guest.Name()), zap.String("reason", ending.Reason))
	end()
	r.inspectAgain()
	return ending, r.restore()
}

// orCause is err, or why the context ended: then that is what err came of.
func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// connect connects to libvirt, and meanwhile checks all that can be checked without it, so that a wrong namespace is not
// found out after half a minute of waiting for a daemon. Then it finds out whether the guest runs already. Nothing is
// changed.
func (r *run) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer r.waiting("for libvirt's daemon: start libvirtd or virtqemud in this container, or share its socket directory with it",
		zap.String("uri", cmp.Or(r.task.URI, "libvirt's default")), zap.Duration("connectTimeout", r.task.ConnectTimeout))()
	connected := make(chan error, 1)
	go func() {
		var err error
		r.libvirt, err = domain.Connect(ctx, r.task.URI, r.task.ConnectTimeout, r.log)
		connected <- err
	}()
	err := r.examine(ctx)
	if err != nil {
		cancel()
	}
	if failed := <-connected; failed != nil {
		if err == nil {
			err = &plan.RefusalError{Reason: failed}
		}
		return err
	}
	if err == nil {
		err = r.claimGuest()
	}
	if err != nil {
		r.libvirt.Close()
	}
	return err
}

// claimGuest finds the guest to adopt, if there is one, and makes this process the one that serves it, before anything is
// changed: another podnic that serves an interface has a guest on it.
func (r *run) claimGuest() error {
	seen, err := serving.Inspect(r.ofNames(), r.log)
	if err != nil {
		return err
	}
	guest, err := r.libvirt.Find(r.document.Name())
	if err != nil {
		return err
	}
	if guest != nil {
		if seen, err = r.adopt(guest, seen); err != nil {
			return err
		}
		// What was attached while nobody served the guest has a server of its own, whose place is this process's now.
		return r.claimBy((*serving.Set).TakeOver, seen)
	}
	for _, one := range seen {
		if one.Attached {
			return plan.Refuse("%s is held by somebody else's guest: end it first", one.Names.Tap)
		}
	}
	return r.claim(seen...)
}

// adopt takes over a running domain of the name, and returns the interfaces that it has: those that were asked for, and what
// was attached to it since it was started. It is ours if it has at least one tap that a record gives to it, and none that one
// gives to another.
func (r *run) adopt(guest *domain.Guest, asked []*network.Inspection) (has []*network.Inspection, err error) {
	wired, err := r.allWired()
	if err != nil {
		return nil, err
	}
	ours := false
	for _, one := range wired {
		if !slices.Contains(guest.Taps(), one.Names.Tap) {
			continue
		}
		if !r.isOurs(guest, one) {
			ours = false
			break
		}
		ours = true
	}
	if !ours {
		return nil, plan.Refuse("a domain called %s is running already (%s), and not as this pod's guest: end it, or give this one another name", guest.Name(), guest.UUID())
	}
	r.guest = guest
	r.log.Info("adopting the guest that runs", zap.String("domain", guest.Name()), zap.String("uuid", guest.UUID()))
	said := make(map[string]plan.Options)
	for _, o := range append(slices.Clone(r.Interfaces), r.Options) {
		said[o.Interface] = o
	}
	r.names = nil
	var options []plan.Options
	add := func(one *network.Inspection) {
		name := one.Names.Interface
		o, asked := said[name]
		if !asked {
			o = plan.Options{Interface: name}
		}
		has, r.names, options = append(has, one), append(r.names, name), append(options, o)
	}
	for _, one := range asked {
		name := one.Names.Interface
		holds := one.Wired && slices.Contains(guest.Taps(), one.Names.Tap)
		if !holds {
			r.log.Warn(fmt.Sprintf("the guest runs without %s: add it with `podnic attach %s --domain %s`", name, name, guest.Name()))
		}
		if holds || one.Wired && wiring.RecordedDomain(one).Is(guest.Name(), guest.UUID()) {
			add(one)
		}
	}
	for _, one := range wired {
		if !slices.Contains(r.names, one.Names.Interface) && wiring.RecordedDomain(one).Is(guest.Name(), guest.UUID()) {
			add(one)
		}
	}
	r.Request = r.Only(options...)
	return has, nil
}

// isOurs goes by the record, and where the wiring is given by the name and the tap alone.
func (r *run) isOurs(guest *domain.Guest, seen *network.Inspection) bool {
	ref := wiring.RecordedDomain(seen)
	if ref == nil {
		return r.given
	}
	return ref.Is(guest.Name(), guest.UUID())
}

// inspectAgain finds out what the guest has of the pod now: it skips what was detached, which may be another guest's by now, and
// adds what was attached.
func (r *run) inspectAgain() {
	if r.given {
		return
	}
	wired, err := network.Wired(r.all())
	if err != nil {
		return // what is known by name is restored
	}
	ref := network.DomainRef{Name: r.guest.Name(), UUID: r.guest.UUID()}
	r.leaveOthers(ref)
	var names []string
	for _, name := range r.names {
		if slices.Contains(wired, name) {
			names = append(names, name)
		}
	}
	given, err := network.GivenTo(r.Request, ref)
	if err != nil {
		r.log.Warn("what was attached to the guest may stay wired", zap.Error(err))
	}
	for _, name := range given {
		if slices.Contains(wired, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 || len(wired) > 0 { // else a record may be left
		r.names = names
	}
}

// prepare wires the namespace. The record names the guest from before it is started, so that one whose agent dies at that
// very moment is known again.
func (r *run) prepare(ctx context.Context) (err error) {
	r.Request.Domain = &network.DomainRef{Name: r.document.Name(), UUID: r.document.UUID()}
	if r.guest != nil {
		r.Request.Domain.UUID = r.guest.UUID()
		r.serving.Guest(*r.Request.Domain)
	} else {
		for _, name := range r.names {
			if err := statefile.Remove(r.StateDir, name); err != nil {
				return err // of an earlier guest
			}
		}
	}
	return r.wire(ctx)
}

// start starts the guest, unless it runs.
func (r *run) start(ctx context.Context) error {
	if r.guest != nil {
		return nil
	}
	var nics []domainxml.NIC
	for _, w := range r.wired {
		original := w.Record.Original
		nics = append(nics, domainxml.NIC{
			Name: w.Names.Interface, Tap: w.Names.Tap, MAC: original.Link(plan.NIC).MAC, MTU: original.GuestMTU(), Queues: w.Record.Options.Queues,
		})
	}
	xml, err := r.document.Fill(nics...)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.moment(statefile.EventDomainStart)
	defer r.waiting("for libvirt to start the guest", zap.String("domain", r.document.Name()))()
	if r.guest, err = r.libvirt.Start(xml); err != nil {
		return err
	}
	r.moment(statefile.EventDomainRunning)
	ref := network.DomainRef{Name: r.guest.Name(), UUID: r.guest.UUID()}
	r.log.Info("guest started", zap.String("domain", ref.Name), zap.String("uuid", ref.UUID))
	r.serving.Guest(ref)
	if r.given {
		return nil
	}
	for _, name := range r.names {
		if err := network.SetDomain(context.Background(), r.Request, name, &ref); err != nil {
			r.log.Warn("the record does not have the guest's UUID; its name and tap will do", zap.Error(err))
		}
	}
	return nil
}

// takeBack undoes the wiring after an error. It does not where a guest runs, which would lose its network by that.
func (r *run) takeBack(cause error) error {
	if r.guest != nil {
		return cause
	}
	// A daemon that died while it started the guest says that it failed, and the guest may run all the same.
	if guest, err := r.libvirt.Find(r.document.Name()); err == nil && guest != nil && r.made() {
		return &network.StuckError{Cause: fmt.Errorf("%w; yet the guest runs: run `podnic run` again to take it over", cause)}
	}
	if tap, held := r.holding(); held.Held && r.made() {
		return &network.StuckError{Cause: fmt.Errorf("%w; yet %s is held by %s, and keeps its network: run `podnic run` again to take the guest over, or end it",
			cause, tap, held.Who())}
	}
	return r.loan.takeBack(cause)
}
