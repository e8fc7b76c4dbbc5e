package run

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap"
)

// followCarrier has the guest see the carrier of one of the pod's interfaces, until the context or the guest ends. lowered says
// that podnic has taken the link down before.
func (r *run) followCarrier(ctx context.Context, one *network.Inspection, lowered bool) {
	name, tap := one.Names.Interface, one.Names.Tap
	if r.down[name] {
		r.log.Info("the domain's XML has the guest's link down, and it stays so", zap.String("tap", tap))
		return
	}
	if !r.task.FollowCarrier && !lowered {
		return
	}
	carrier, err := r.carrier(ctx, one.Original.Link(plan.NIC).Index)
	if err != nil {
		r.log.Warn("the guest's link does not follow the carrier of the pod's interface", zap.String("interface", name), zap.Error(err))
		return
	}
	r.guest.FollowCarrier(ctx, tap, carrier, lowered, func(lowered bool) { r.noteLink(name, lowered) })
}

// followCarriers has the guest of a command see the carriers of the pod's interfaces. What it returns ends that, and waits for
// what QEMU is being asked: what comes of it is said in a file that is closed next.
func (r *commandRun) followCarriers() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	end = func() {
		cancel()
		following.Wait()
	}
	if !r.task.FollowCarrier || r.monitor == nil {
		return end
	}
	for _, w := range r.wired {
		nic := w.Record.Original.Link(plan.NIC)
		carrier, err := network.FollowCarrier(ctx, r.Request, nic.Index)
		if err != nil {
			r.log.Warn("the guest's link does not follow the carrier of the pod's interface", zap.String("interface", w.Names.Interface), zap.Error(err))
			continue
		}
		following.Go(func() { r.followCarrier(ctx, w.Names.Interface, nic.MAC.HardwareAddr(), carrier) })
	}
	return end
}

// followCarrier keeps the link of one network card up while there is a carrier and down while there is none. QEMU does not
// tell whether it is: what was not taken down here is not taken up.
func (r *commandRun) followCarrier(ctx context.Context, name string, mac net.HardwareAddr, carrier <-chan bool) {
	up, lowered, complaint := true, false, ""
	var retry <-chan time.Time
	for {
		select {
		case up = <-carrier:
		case <-retry:
		case <-ctx.Done():
			return
		}
		retry = nil
		if up != lowered {
			continue
		}
		err := r.monitor.SetLink(mac, up)
		if err == nil {
			lowered, complaint = !up, ""
			r.noteLink(name, lowered)
			r.log.Info("the guest's link is "+linkState(up)+", as the carrier of the pod's interface", zap.String("interface", name))
			continue
		}
		retry = time.After(linkRetry)
		if text := err.Error(); text != complaint {
			r.log.Warn("the guest's link does not follow the carrier of the pod's interface; trying again", zap.String("interface", name), zap.Error(err))
			complaint = text
		}
	}
}

// linkRetry is how long QEMU is given to be there, or to be asked by others.
const linkRetry = time.Second

func linkState(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// noteLink says in the state what podnic has done to the guest's link.
func (l *loan) noteLink(name string, lowered bool) {
	l.serving.ChangeOf(name, func(s *statefile.State) {
		s.GuestLink = &statefile.GuestLink{Lowered: lowered, Since: time.Now().UTC()}
	})
}

// lowered reports whether the process that had the guest before took a link of it down. Where the state of that one is lost, as
// it is where nobody knows when the guest was started, it may have: then a link that is down is taken up, since the domain's
// XML does not have it down.
func (r *run) lowered(name string) (lowered bool) {
	r.serving.ChangeOf(name, func(s *statefile.State) {
		if s.GuestLink != nil {
			lowered = s.GuestLink.Lowered
			return
		}
		lowered = !slices.ContainsFunc(s.Timeline, func(m statefile.Moment) bool { return m.Event == statefile.EventDomainRunning })
	})
	return lowered
}

// carrier is that of a link of the pod, or, where the guest's link is not to follow it, one that is always there.
func (r *run) carrier(ctx context.Context, index int) (<-chan bool, error) {
	if !r.task.FollowCarrier {
		always := make(chan bool, 1)
		always <- true
		return always, nil
	}
	return network.FollowCarrier(ctx, r.Request, index)
}
