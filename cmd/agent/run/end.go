package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/cmd/agent/wiring"
	"github.com/podnic/podnic/domain"
	"github.com/podnic/podnic/network"
	"go.uber.org/zap"
)

// heed has the guest end on signals: the first asks it to shut down, the second does not wait. A signal that comes before
// the guest is started interrupts the start, and counts all the same if the guest starts nevertheless.
func (r *run) heed(stop <-chan os.Signal, interrupt context.CancelCauseFunc, started, ended <-chan struct{}) {
	ask := func(grace time.Duration, how ...zap.Field) {
		r.log.Info("asking the guest to shut down", append(how, zap.Duration("grace", grace))...)
		go r.guest.Stop(context.Background(), grace) //nolint:errcheck // Follow tells
		select {
		case r.asked <- grace:
		case <-ended:
		}
	}
	grace := r.task.Grace
	for signals := 0; ; {
		select {
		case s := <-stop:
			if signals++; signals > 1 {
				grace = 0 // the second request does not wait
			}
			interrupt(ErrInterrupted)
			if started == nil {
				ask(grace, zap.Stringer("signal", s))
			} else {
				r.log.Info("asked to end", zap.Stringer("signal", s))
			}
		case <-started:
			started = nil
			if signals > 0 {
				ask(grace)
			}
		case <-ended:
			return
		}
	}
}

// follow waits for the guest's end.
func (r *run) follow() (domain.Ending, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	var watching sync.WaitGroup
	defer watching.Wait() // it says what it does in a file that is closed next, and goes by what is given back then
	defer cancel(nil)
	watching.Go(func() {
		if err := r.watchOrphan(ctx); err != nil {
			cancel(err)
		}
	})
	follow := func(one *network.Inspection, lowered bool) {
		here, end := context.WithCancel(ctx)
		gone := r.serving.Gone(one.Names.Interface)
		context.AfterFunc(gone, end)
		watching.Go(func() {
			defer end()
			r.followCarrier(here, one, lowered)
		})
	}
	for _, w := range r.wired {
		follow(w.Seen, r.lowered(w.Names.Interface))
	}
	var state atomic.Value
	note := func(s *statefile.State) {
		if now, known := state.Load().(domain.GuestState); known {
			s.Domain = &statefile.Domain{Name: r.guest.Name(), State: string(now)}
		}
	}
	r.serving.OnTaken(func(one *network.Inspection) { // one that was attached
		r.serving.ChangeOf(one.Names.Interface, note)
		follow(one, false)
	})
	defer r.serving.OnTaken(nil)
	ending, err := r.guest.Follow(ctx, func(now domain.GuestState) {
		state.Store(now)
		r.serving.Change(note)
	})
	if unseen, ok := errors.AsType[unseenEnding](context.Cause(ctx)); ok && err != nil {
		return domain.Ending(unseen), nil
	}
	if err != nil {
		return ending, orCause(ctx, err)
	}
	return ending, nil
}

// unseenEnding is that of a guest that libvirt was not there to tell of.
type unseenEnding domain.Ending

func (e unseenEnding) Error() string { return e.Reason }

// Times of a guest that is to end while libvirt is not there.
const (
	// orphanPatience is how long a daemon may be away before the tap is believed in its place: one that is started anew is
	// back by then, and knows more.
	orphanPatience = 3 * time.Second
	// orphanLook is how often the tap is looked at. Links announce their changes, a daemon its absence does not.
	orphanLook = 200 * time.Millisecond
)

// watchOrphan waits until the guest is asked to end, and then goes by the tap for as long as libvirt is away: a daemon that
// was ended by the same signal as podnic does not come back, and the guest neither hears of the request nor is seen to end.
// A tap that nobody holds is the guest's end. One that is held when the grace period is over is reported, and its holder is
// ended if that is wanted. The error is how it ended, or that podnic was asked again and leaves the guest with its wiring.
func (r *run) watchOrphan(ctx context.Context) error {
	var grace time.Duration
	select {
	case grace = <-r.asked:
	case <-ctx.Done():
		return nil
	}
	first, over := true, time.Now().Add(grace)
	var reported time.Time // of which loss
	var killed string
	tick := time.NewTicker(orphanLook)
	defer tick.Stop()
	for {
		select {
		case again := <-r.asked:
			first, over = false, time.Now().Add(again)
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		lost := r.libvirt.LostSince()
		if lost.IsZero() || time.Since(lost) < min(orphanPatience, r.task.Grace) {
			continue
		}
		tap, held, err := r.orphanHolds()
		switch {
		case err != nil:
			if reported != lost {
				r.log.Error("libvirt is away, so podnic cannot tell whether the guest still runs", zap.Error(err))
			}
			reported = lost
			continue
		case !held.Held && killed != "":
			return unseenEnding{domain.DestroyedAfterGrace, "libvirt was away, and podnic ended " + killed + ", which held " + tap}
		case !held.Held:
			return unseenEnding{domain.Unknown, "libvirt is away, and nobody holds " + tap + " any more"}
		case time.Now().Before(over):
			continue
		case r.task.KillOrphan && len(held.Holders) > 0:
			r.log.Warn("the guest has not ended, and libvirt is away: ending the process that holds its tap", zap.String("tap", tap), zap.String("holder", held.Who()))
			killed = held.Who()
			for _, holder := range held.Holders {
				if err := network.EndHolder(ctx, r.Request, holder, tap); err != nil && ctx.Err() == nil {
					return r.orphaned(tap, held, err)
				}
			}
			continue
		case r.task.KillOrphan || !first:
			return r.orphaned(tap, held, nil)
		case reported != lost:
			r.log.Error("the guest has not ended, and libvirt, which could end it, is away: end the process that holds the tap, or send podnic another signal to leave the guest as it is",
				zap.String("tap", tap), zap.String("holder", held.Who()))
			reported = lost
		}
	}
}

// orphanHolds finds the process that holds one of the taps that the guest has now.
func (r *run) orphanHolds() (tap string, held network.Holding, err error) {
	taps, err := r.taps(network.DomainRef{Name: r.guest.Name(), UUID: r.guest.UUID()})
	if err != nil {
		return "", held, err
	}
	for _, tap := range taps {
		if held, err = network.InspectTap(r.Request, tap); held.Held || err != nil {
			return tap, held, err
		}
	}
	return cmp.Or(strings.Join(taps, " or "), "a tap of the pod's"), held, nil
}

// taps are those of what a guest has of the pod: what was attached to it is, and what was detached from it is not, although a tap
// of that name may be there, and another's.
func (l *loan) taps(guest network.DomainRef) (taps []string, err error) {
	req := l.all()
	req.Brief = true // it is asked several times a second, while libvirt is away
	wired, err := allWired(req)
	for _, one := range wired {
		owner := wiring.RecordedDomain(one)
		if owner.Is(guest.Name, guest.UUID) || owner == nil && slices.Contains(l.names, one.Names.Interface) {
			taps = append(taps, one.Names.Tap)
		}
	}
	if len(wired) == 0 { // the pod's network was taken away, say
		for _, w := range l.wired {
			taps = append(taps, w.Names.Tap)
		}
	}
	return taps, err
}

// orphaned says that a guest is left behind, with the wiring that it uses.
func (r *run) orphaned(tap string, held network.Holding, cause error) error {
	err := fmt.Errorf("the guest still runs, and libvirt, which could end it, is away: %s is held by %s", tap, held.Who())
	switch {
	case cause != nil:
		err = fmt.Errorf("%w: %w", err, cause)
	case !r.task.KillOrphan:
		err = fmt.Errorf("%w: end it, or use --kill-orphan", err)
	}
	if r.given {
		return err
	}
	return &network.StuckError{Cause: err}
}
