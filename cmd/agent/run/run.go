// Package run gives the interface to a guest of libvirt's, starts the guest, serves it, and takes the interface back when
// it has ended. It makes no network change and builds no packet itself.
package run

import (
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
	"github.com/podnic/podnic/network"
	"go.uber.org/zap"
)

// Task is a guest and the namespace that it gets the interface of.
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
	// Started is when the program was.
	Started time.Time
}

// ErrInterrupted says that a signal came before the guest was started.
var ErrInterrupted = errors.New("ended by a signal before the guest was started")

// Run gives the pod's interface to a guest, starts it, follows it until it ends, and takes the interface back. A guest of
// this name that an earlier Run started in this namespace is taken over in place of starting it. The first signal on stop
// asks the guest to shut down, the second does not wait for it.
func Run(r Task, stop, reload <-chan os.Signal, log *zap.Logger) (domain.Ending, error) {
	document, err := domain.Parse(r.XML)
	if err != nil {
		return domain.Ending{}, &network.RefusalError{Reason: err}
	}
	if r.Options.Tap == "" {
		r.Options.Tap = network.DefaultTap
		if seen, err := network.Inspect(r.Request); err == nil && seen.Wired {
			r.Options.Tap = seen.Names.Tap
		}
	}
	queues, err := document.Queues(r.Options.Tap, "")
	if err != nil {
		return domain.Ending{}, &network.RefusalError{Reason: err}
	}
	if r.Options.Queues == 0 {
		r.Options.Queues = queues
	}
	run := &run{Task: r, document: document, log: log}
	return run.do(stop, reload)
}

// run is one guest on its way.
type run struct {
	Task
	document *domain.Document
	log      *zap.Logger

	libvirt  *domain.Connection
	guest    *domain.Guest  // set from the beginning if there is one to adopt
	given    bool           // the wiring is somebody else's: neither made nor taken back here
	iface    string         // the pod's name for it
	claim    *serving.Claim // until serving has it
	prepared *network.Result
	serving  *serving.Server
	asked    chan time.Duration // how long the guest that was asked to end has for it
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
		r.claim.Release()
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
	connected := make(chan error, 1)
	go func() {
		var err error
		r.libvirt, err = domain.Connect(ctx, r.URI, r.ConnectTimeout, r.log)
		connected <- err
	}()
	err := r.examine(ctx)
	if err != nil {
		cancel()
	}
	if failed := <-connected; failed != nil {
		if err == nil {
			err = &network.RefusalError{Reason: failed}
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

// examine checks that the namespace can be wired. Where this process may not, and somebody who may has done so, that
// wiring will do.
func (r *run) examine(ctx context.Context) error {
	_, err := network.Plan(ctx, r.Request)
	if err == nil || network.MayWire() == nil {
		return err
	}
	if seen, failed := network.Inspect(r.Request); failed == nil && seen.Wired {
		r.given = true
		return nil
	}
	return err
}

// claimGuest finds the guest to adopt, if there is one, and makes this process the one that serves it, before anything is
// changed: another podnic that serves the interface has a guest on it.
func (r *run) claimGuest() error {
	seen, err := network.Inspect(r.Request)
	if err != nil {
		return err
	}
	if err := r.adopt(seen); err != nil {
		return err
	}
	r.iface = seen.Names.Interface
	if r.claim, err = serving.NewClaim(r.Request, seen.Names.Interface); err != nil {
		return err
	}
	if err = r.claim.Listen(r.Service.Metrics, seen); err != nil {
		r.claim.Release()
	}
	return err
}

// adopt looks for a running domain of the name. It is ours if the record says so.
func (r *run) adopt(seen *network.State) error {
	guest, err := r.libvirt.Find(r.document.Name())
	if err != nil {
		return err
	}
	if guest == nil {
		if seen.Attached {
			return network.Refuse("%s is held by somebody else's guest: end it first", seen.Names.Tap)
		}
		return nil
	}
	if !r.isOurs(guest, seen) {
		return network.Refuse("a domain called %s is running already (%s), and not as this pod's guest: end it, or give this one another name", guest.Name(), guest.UUID())
	}
	r.guest = guest
	r.log.Info("adopting the guest that runs", zap.String("domain", guest.Name()), zap.String("uuid", guest.UUID()))
	return nil
}

// isOurs goes by the record, and where the wiring is given by the name and the tap alone.
func (r *run) isOurs(guest *domain.Guest, seen *network.State) bool {
	if !slices.Contains(guest.Taps(), seen.Names.Tap) {
		return false
	}
	ref := wiring.RecordedDomain(seen)
	if ref == nil {
		return r.given
	}
	return ref.Name == guest.Name() && (ref.UUID == "" || ref.UUID == guest.UUID())
}

// prepare wires the namespace. The record names the guest from before it is started, so that one whose agent dies at that
// very moment is known again.
func (r *run) prepare(ctx context.Context) (err error) {
	r.Request.Domain = &network.DomainRef{Name: r.document.Name(), UUID: r.document.UUID()}
	if r.guest != nil {
		r.Request.Domain.UUID = r.guest.UUID()
	} else if err := statefile.Remove(r.StateDir, r.iface); err != nil {
		return err // of an earlier guest
	}
	if r.given {
		return r.take()
	}
	r.prepared, err = network.Prepare(ctx, r.Request)
	if err != nil {
		return err
	}
	for _, w := range r.prepared.Warnings {
		r.log.Warn(w)
	}
	r.log.Info("wired", zap.String("interface", r.prepared.Names.Interface), zap.String("tap", r.prepared.Names.Tap),
		zap.Int("changes", len(r.prepared.Steps)), zap.Bool("repaired", r.prepared.Repaired))
	return nil
}

// take makes do with the wiring that is there.
func (r *run) take() error {
	seen, err := network.Inspect(r.Request)
	if err != nil {
		return err
	}
	now := time.Now()
	r.prepared = &network.Result{
		Record: &network.Record{Options: seen.Options, Original: seen.Original}, Names: seen.Names, Found: true,
		Discovered: now, Wired: now, State: seen,
	}
	r.log.Info("using existing wiring; its owner restores it", zap.String("interface", seen.Names.Interface), zap.String("tap", seen.Names.Tap))
	return nil
}

// serve starts the server and waits until it can hear the guest. The returned function ends it.
func (r *run) serve(reload <-chan os.Signal) (end func(), err error) {
	seen, err := network.Inspect(r.Request)
	if err != nil {
		return r.claim.Release, err
	}
	if r.serving, err = serving.New(r.Request, r.Service, seen, r.claim, r.log); err != nil {
		return r.claim.Release, err
	}
	r.serving.Change(func(s *statefile.State) {
		s.Timeline.Add(statefile.EventStarted, r.Started)
		s.Timeline.Add(statefile.EventDiscovered, r.prepared.Discovered)
		s.Timeline.Add(statefile.EventWired, r.prepared.Wired)
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := r.serving.Run(ctx, reload)
		if err != nil {
			// The guest lives: it keeps its address until its lease ends, and what is wrong is in the log and the status.
			r.log.Error("the DHCP server has ended", zap.Error(err))
		}
		ended <- err
	}()
	end = func() {
		cancel()
		<-ended
		r.serving.Close()
	}
	select {
	case <-r.serving.Ready():
		r.moment(statefile.EventServing)
		return end, nil
	case err := <-ended:
		ended <- err
		return end, fmt.Errorf("start the DHCP server: %w", err)
	}
}

func (r *run) moment(event string) {
	now := time.Now()
	r.serving.Change(func(s *statefile.State) { s.Timeline.Add(event, now) })
}

// start starts the guest, unless it runs.
func (r *run) start(ctx context.Context) error {
	if r.guest != nil {
		return nil
	}
	pod := r.prepared.Record.Original.Link(network.NIC)
	xml, err := r.document.Fill(domain.NIC{Tap: r.prepared.Names.Tap, MAC: pod.MAC, MTU: r.prepared.Record.Original.GuestMTU(), Queues: r.prepared.Record.Options.Queues})
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.moment(statefile.EventDomainStart)
	if r.guest, err = r.libvirt.Start(xml); err != nil {
		return err
	}
	r.moment(statefile.EventDomainRunning)
	r.log.Info("guest started", zap.String("domain", r.guest.Name()), zap.String("uuid", r.guest.UUID()))
	if r.given {
		return nil
	}
	if err := network.SetDomain(context.Background(), r.Request, r.prepared.Names.Interface, network.DomainRef{Name: r.guest.Name(), UUID: r.guest.UUID()}); err != nil {
		r.log.Warn("the record does not have the guest's UUID; its name and tap will do", zap.Error(err))
	}
	return nil
}

// takeBack undoes the wiring after an error. It does not where a guest runs, which would lose its network by that, nor
// where the interface was wired before.
func (r *run) takeBack(cause error) error {
	if r.guest != nil || r.prepared.Found {
		return cause
	}
	// A daemon that died while it started the guest says that it failed, and the guest may run all the same.
	if guest, err := r.libvirt.Find(r.document.Name()); err == nil && guest != nil {
		return &network.StuckError{Cause: fmt.Errorf("%w; yet the guest runs: run `podnic run` again to take it over", cause)}
	}
	if held, err := network.LookAtTap(r.Request, r.prepared.Names.Tap); err == nil && held.Held {
		return &network.StuckError{Cause: fmt.Errorf("%w; yet %s is held by %s, and keeps its network: run `podnic run` again to take the guest over, or end it",
			cause, r.prepared.Names.Tap, held.Who())}
	}
	if err := r.restore(); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

// restore gives the pod its interface back once the guest has gone, unless that is another's to do.
func (r *run) restore() error {
	if r.given {
		r.forget()
		return nil
	}
	restored, err := network.Restore(context.Background(), r.Request, true)
	if err != nil {
		return err
	}
	for _, w := range restored.Warnings {
		r.log.Warn(w)
	}
	r.log.Info("restored", zap.String("interface", r.prepared.Names.Interface), zap.Int("changes", len(restored.Steps)))
	r.forget()
	return nil
}

// forget removes what this process said of the guest. A file that stays does no harm: the next server replaces it.
func (r *run) forget() {
	if err := statefile.Remove(r.StateDir, r.prepared.Names.Interface); err != nil {
		r.log.Warn("the server's state stays", zap.Error(err))
	}
}
