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
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap"
)

// loan is what a guest has of the pod, for as long as it does: its interfaces, wired, served, and given back.
type loan struct {
	network.Request
	service offering.Service
	started time.Time // the program
	log     *zap.Logger

	given   bool              // the wiring is somebody else's: neither made nor taken back here
	names   []string          // of the interfaces, as the pod has them
	wired   []*network.Result // in the order of the names
	serving *serving.Set
}

// patience is how long a wait may last before the log says what it is for.
const patience = time.Second

// waiting has the log say what is waited for, should that last, until what it returns is called.
func (l *loan) waiting(what string, fields ...zap.Field) (over func() bool) {
	return time.AfterFunc(patience, func() { l.log.Info("waiting "+what, fields...) }).Stop
}

// ofNames is the request for the guest's interfaces, and no others.
func (l *loan) ofNames() network.Request {
	var options []plan.Options
	for _, name := range l.names {
		options = append(options, plan.Options{Interface: name})
	}
	req := l.Only(options...)
	if len(l.names) == 1 {
		req.Options = l.Options
		req.Options.Interface = l.names[0]
	}
	return req
}

// all is the request for all that is wired.
func (l *loan) all() network.Request { return l.Only(plan.Options{}) }

// allWired is all that is wired in the namespace.
func (l *loan) allWired() ([]*network.Inspection, error) { return allWired(l.all()) }

func allWired(req network.Request) ([]*network.Inspection, error) {
	all, err := network.InspectAll(req)
	if network.IsRefusal(err) { // the pod's network was taken away, say
		return nil, nil
	}
	return slices.DeleteFunc(all, func(i *network.Inspection) bool { return !i.Wired }), err
}

// examine checks that the namespace can be wired. Where this process may not, and another process has wired it, that
// wiring will do.
func (l *loan) examine(ctx context.Context) error {
	planned, err := network.Plan(ctx, l.Request)
	if err == nil {
		for _, p := range planned {
			l.names = append(l.names, p.Interface)
		}
	}
	if err == nil || network.MayWire() == nil {
		return err
	}
	seen, failed := serving.Inspect(l.Request, l.log)
	if failed != nil || slices.ContainsFunc(seen, func(i *network.Inspection) bool { return !i.Wired }) {
		return err
	}
	if len(l.Interfaces) == 0 && !l.All {
		seen = seen[:1]
	}
	for _, one := range seen {
		l.names = append(l.names, one.Names.Interface)
	}
	l.given = true
	return nil
}

// claim makes this process the one that serves the interfaces, before anything is changed: another podnic that serves one has a
// guest on it.
func (l *loan) claim(seen ...*network.Inspection) error {
	return l.claimBy((*serving.Set).Claim, seen)
}

func (l *loan) claimBy(claim func(*serving.Set, []*network.Inspection) error, seen []*network.Inspection) (err error) {
	defer l.waiting("for another server of the interface to end")()
	if l.serving, err = serving.NewSet(l.ofNames(), l.service, l.log); err != nil {
		return err
	}
	if err = claim(l.serving, seen); err != nil {
		l.serving.Close()
	}
	return err
}

// wire gives the interfaces to the guest that the request names: all or none.
func (l *loan) wire(ctx context.Context) (err error) {
	if l.given {
		return l.take()
	}
	defer l.waiting("for the wiring: another podnic may be at work in this namespace", zap.Duration("lockTimeout", l.LockTimeout))()
	if l.wired, err = network.PrepareAll(ctx, l.Request); err != nil {
		return err
	}
	for _, r := range l.wired {
		for _, w := range r.Warnings {
			l.log.Warn(w)
		}
		l.log.Info("wired", zap.String("interface", r.Names.Interface), zap.String("tap", r.Names.Tap),
			zap.Int("changes", len(r.Steps)), zap.Bool("repaired", r.Repaired))
	}
	return nil
}

// take uses an existing wiring.
func (l *loan) take() error {
	seen, err := serving.Inspect(l.ofNames(), l.log)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, one := range seen {
		l.wired = append(l.wired, &network.Result{
			Record: &network.Record{Options: one.Options, Original: one.Original}, Names: one.Names, Found: true,
			Discovered: now, Wired: now, Seen: one,
		})
		l.log.Info("using existing wiring; its owner restores it", zap.String("interface", one.Names.Interface), zap.String("tap", one.Names.Tap))
	}
	return nil
}

// serve starts the servers and waits until they can hear the guest. The returned function ends them.
func (l *loan) serve(reload <-chan os.Signal) (end func(), err error) {
	seen, err := serving.Inspect(l.ofNames(), l.log)
	if err != nil {
		return l.serving.Close, err
	}
	if err = l.serving.Add(seen); err != nil {
		return l.serving.Close, err
	}
	for _, r := range l.wired {
		l.serving.ChangeOf(r.Names.Interface, func(s *statefile.State) {
			s.Timeline.Add(statefile.EventStarted, l.started)
			s.Timeline.Add(statefile.EventDiscovered, r.Discovered)
			s.Timeline.Add(statefile.EventWired, r.Wired)
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := l.serving.Run(ctx, reload)
		if err != nil {
			// The guest lives: it keeps its address until its lease ends, and what is wrong is in the log and the status.
			l.log.Error("the DHCP server has ended", zap.Error(err))
		}
		ended <- err
	}()
	end = func() {
		cancel()
		<-ended
		l.serving.Close()
	}
	defer l.waiting("for the server to hear the guest")()
	select {
	case <-l.serving.Ready():
		l.moment(statefile.EventServing)
		return end, nil
	case err := <-ended:
		ended <- err
		return end, fmt.Errorf("start the DHCP server: %w", err)
	}
}

func (l *loan) moment(event string) {
	now := time.Now()
	l.serving.Change(func(s *statefile.State) { s.Timeline.Add(event, now) })
}

// leaveOthers lets go of what a record now gives to another guest than ref: that guest keeps it until its end.
func (l *loan) leaveOthers(ref network.DomainRef) {
	l.names = slices.DeleteFunc(l.names, func(name string) bool {
		record, err := network.Recorded(l.Only(plan.Options{Interface: name}))
		others := err == nil && record != nil && record.Domain != nil && !record.Domain.Is(ref.Name, ref.UUID)
		if others {
			l.log.Info("an interface now belongs to another guest; left alone", zap.String("interface", name), zap.String("domain", record.Domain.Name))
		}
		return others
	})
}

// restore gives the pod its interfaces back once the guest has gone, unless that is another's to do.
func (l *loan) restore() error {
	if len(l.names) == 0 {
		return nil
	}
	if l.given {
		l.forget()
		return nil
	}
	all, err := network.RestoreAll(context.Background(), l.ofNames(), true)
	for range len(l.names) { // somebody may have detached one since it was looked at, and then nothing was restored
		if !network.IsNotWired(err) {
			break
		}
		wired, failed := network.Wired(l.all())
		if failed != nil {
			return errors.Join(err, failed)
		}
		l.names = slices.DeleteFunc(l.names, func(name string) bool { return !slices.Contains(wired, name) })
		if len(l.names) == 0 {
			return nil
		}
		all, err = network.RestoreAll(context.Background(), l.ofNames(), true)
	}
	for _, r := range all {
		for _, w := range r.Warnings {
			l.log.Warn(w)
		}
		l.log.Info("restored", zap.String("interface", r.Names.Interface), zap.Int("changes", len(r.Steps)))
	}
	if err != nil {
		return err
	}
	l.forget()
	return nil
}

// forget removes what this process said of the guest. A file that stays does no harm: the next server replaces it.
func (l *loan) forget() {
	for _, name := range l.names {
		if err := statefile.Remove(l.StateDir, name); err != nil {
			l.log.Warn("the server's state stays", zap.Error(err))
		}
	}
}

// made reports whether this process has wired anything that was not wired before.
func (l *loan) made() bool {
	return slices.ContainsFunc(l.wired, func(w *network.Result) bool { return !w.Found })
}

// takeBack undoes what was wired, after an error. What was wired before stays so.
func (l *loan) takeBack(cause error) error {
	l.names = nil
	for _, w := range l.wired {
		if !w.Found {
			l.names = append(l.names, w.Names.Interface)
		}
	}
	if len(l.names) == 0 {
		return cause
	}
	if err := l.restore(); err != nil {
		return errors.Join(cause, err)
	}
	return cause
}

// holding finds the process that holds a tap of the guest, and which tap; empty where none is held, or it cannot be told.
func (l *loan) holding() (tap string, held network.Holding) {
	for _, w := range l.wired {
		if held, err := network.InspectTap(l.Request, w.Names.Tap); err == nil && held.Held {
			return w.Names.Tap, held
		}
	}
	return "", network.Holding{}
}
