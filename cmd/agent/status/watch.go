package status

import (
	"context"
	"time"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
)

// Counters change without notice, so Watch inspects at this interval as well; and never more often than at the other, since
// a prepare alone changes two dozen things.
const (
	watchTick = 2 * time.Second
	watchRest = 100 * time.Millisecond
)

// Watch shows a namespace again whenever something in it or in what a serving process says has changed, until the context
// ends or show fails. An inspection that fails later than the first is shown, too: in the middle of a change a namespace may be
// one that cannot be looked at.
func Watch(ctx context.Context, req network.Request, service offering.Service, show func(View, error) error) error {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	links, stopLinks, err := network.Watch(ns)
	if err != nil {
		return err
	}
	defer stopLinks()
	view, err := Inspect(req, service)
	if err != nil {
		return err
	}
	// What changes before the directories are watched shows at the next tick.
	files, stopFiles, err := statefile.Watch(req.StateDir, view.names()...)
	if err != nil {
		return err
	}
	defer stopFiles()
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		if err := show(view, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-links:
		case <-files:
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchRest): // more of the same change is on its way
		}
		view, err = Inspect(req, service)
	}
}
