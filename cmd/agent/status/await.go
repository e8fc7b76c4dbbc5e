package status

import (
	"context"
	"slices"
	"time"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
)

// recheck is how often Await inspects even though nothing was announced: somebody may have changed a link, or the state
// directory is not the serving process's.
const recheck = time.Second

// View is one inspection of a namespace.
type View struct {
	Report *Report
	// Seen has an inspection of each interface of the report, but for those at its end that are lost.
	Seen []*network.Inspection
	// At is when.
	At time.Time
}

// Inspect inspects once.
func Inspect(req network.Request, service offering.Service) (View, error) {
	report, seen, err := Read(req, service)
	if err != nil {
		return View{}, err
	}
	return View{report, seen, time.Now()}, nil
}

// Await inspects the namespace until the phase is reached or the timeout has passed; with no timeout, once. An empty
// phase is reached at once.
func Await(req network.Request, service offering.Service, phase string, timeout time.Duration) (View, bool, error) {
	inspect := func() (View, bool, error) {
		view, err := Inspect(req, service)
		if err != nil {
			return View{}, false, err
		}
		return view, view.Report.reached(phase), nil
	}
	view, ok, err := inspect()
	if ok || err != nil || timeout <= 0 {
		return view, ok, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	changed, stop, err := statefile.Watch(req.StateDir, view.names()...)
	if err != nil {
		return view, false, err
	}
	defer stop()
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return view, false, nil
		case <-changed:
		case <-tick.C:
		}
		if view, ok, err = inspect(); ok || err != nil {
			return view, ok, err
		}
	}
}

var phaseOrder = map[string]int{PhaseOriginal: 0, PhaseFailed: 0, PhaseWired: 1, PhaseServing: 2, PhaseReady: 3}

func reached(phase, wanted string) bool {
	return wanted == "" || phaseOrder[phase] >= phaseOrder[wanted]
}

// reached reports whether all interfaces have come so far. Where some are served, those of layer 2, of which nobody knows
// whether the guest uses them, need only be served.
func (r *Report) reached(wanted string) bool {
	served := slices.ContainsFunc(r.Interfaces, func(i InterfaceReport) bool { return i.served() })
	for _, i := range r.Interfaces {
		if i.lost {
			continue // it comes back by no waiting
		}
		enough := wanted
		if wanted == PhaseReady && served && !i.served() {
			enough = PhaseServing
		}
		if !reached(i.Phase, enough) {
			return false
		}
	}
	return true
}

// names are those of the interfaces.
func (v View) names() []string {
	names := make([]string, len(v.Seen))
	for i, seen := range v.Seen {
		names[i] = seen.Names.Interface
	}
	return names
}
