// Package wiring makes and takes back the wiring of an interface, as package network does it, together with what a server
// has left of itself: its file, and the server that the hook started.
package wiring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
)

// Prepare wires an interface and notes when, for the process that will serve.
func Prepare(ctx context.Context, req network.Request, started time.Time) (*network.Result, error) {
	req.Interfaces, req.All = nil, false
	all, err := PrepareAll(ctx, req, started)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// PrepareAll does so for all that the request names, or for none.
func PrepareAll(ctx context.Context, req network.Request, started time.Time) ([]*network.Result, error) {
	older, err := presence.Older(req)
	if err != nil {
		return nil, err
	}
	req.StayFirst = older != nil
	all, err := network.PrepareAll(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if len(r.Steps) == 0 || r.Repaired {
			continue // somebody may serve, and the file is theirs
		}
		if err := note(req, r, started); err != nil {
			r.Warnings = append(r.Warnings, err.Error())
		}
	}
	return all, nil
}

func note(req network.Request, r *network.Result, started time.Time) error {
	var line statefile.Timeline
	line.Add(statefile.EventStarted, started)
	line.Add(statefile.EventDiscovered, r.Discovered)
	line.Add(statefile.EventWired, r.Wired)
	dir, err := statedir.OpenOwn(req.StateDir, r.Names.Interface)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = statefile.Begin(dir, r.Record.Namespace, line)
	if statefile.HasFirst(req.StateDir) { // it would count as the later one
		err = errors.Join(err, statefile.RemoveFirst(req.StateDir))
	}
	return err
}

// Restore takes an interface back, ends a server that the hook started for it alone, and forgets what a server knew of the
// guest.
func Restore(ctx context.Context, req network.Request, force bool) (*network.Restoration, error) {
	if err := refuseOlder(req); err != nil {
		return nil, err
	}
	r, err := network.Restore(ctx, req, force)
	if err != nil {
		return nil, err
	}
	return r, forget(req, []*network.Restoration{r})
}

// RestoreAll does so for all that the request names, or else for all that are wired. What it did is told also where it failed
// for some.
func RestoreAll(ctx context.Context, req network.Request, force bool) ([]*network.Restoration, error) {
	if err := refuseOlder(req); err != nil {
		return nil, err
	}
	all, err := network.RestoreAll(ctx, req, force)
	return all, errors.Join(err, forget(req, all))
}

func refuseOlder(req network.Request) error {
	older, err := presence.Older(req)
	if err != nil {
		return err
	}
	if older != nil && !older.Detached {
		return plan.Refuse("an older podnic, %s, serves the interface: end it first (a `podnic run` gives the interface back itself)", older.Holder.String())
	}
	return nil
}

// forget ends detached servers that serve nothing any more, and removes the files of interfaces that were restored.
func forget(req network.Request, all []*network.Restoration) error {
	var names []string
	for _, r := range all {
		if iface := cmp.Or(r.Names.Interface, req.Options.Interface); iface != "" {
			names = append(names, iface)
		}
	}
	if _, err := presence.EndDetached(req, names...); err != nil {
		return fmt.Errorf("the pod has its interface, and its server is left: %w", err)
	}
	for i, name := range names {
		if err := statefile.Remove(req.StateDir, name); err != nil {
			all[i].Warnings = append(all[i].Warnings, err.Error())
		}
	}
	return nil
}

// RecordedDomain is the guest that the record gives the interface to; nil if it names none, or is lost.
func RecordedDomain(seen *network.Inspection) *network.DomainRef {
	if seen.Record == nil {
		return nil
	}
	return seen.Record.Domain
}
