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
	"github.com/podnic/podnic/network/statedir"
)

// Prepare wires the namespace and notes when, for the process that will serve.
func Prepare(ctx context.Context, req network.Request, started time.Time) (*network.Result, error) {
	older, err := presence.Older(req)
	if err != nil {
		return nil, err
	}
	req.StayFirst = older != nil
	r, err := network.Prepare(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(r.Steps) == 0 || r.Repaired {
		return r, nil // somebody may serve, and the file is theirs
	}
	state := statefile.State{Namespace: r.Record.Namespace}
	state.Timeline.Add(statefile.EventStarted, started)
	state.Timeline.Add(statefile.EventDiscovered, r.Discovered)
	state.Timeline.Add(statefile.EventWired, r.Wired)
	dir, err := statedir.OpenOwn(req.StateDir, r.Names.Interface)
	if err == nil {
		defer dir.Close()
		err = errors.Join(statefile.Write(dir, state), statefile.RemoveFirst(req.StateDir))
	}
	if err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

// Restore takes the interface back, ends a server that the hook started for it, and forgets what a server knew of the guest.
func Restore(ctx context.Context, req network.Request, force bool) (*network.Restoration, error) {
	older, err := presence.Older(req)
	if err != nil {
		return nil, err
	}
	if older != nil && !older.Detached {
		return nil, network.Refuse("an older podnic, %s, serves the interface: end it first (as `podnic run` it takes the interface back itself)", older.Holder.String())
	}
	r, err := network.Restore(ctx, req, force)
	if err != nil {
		return nil, err
	}
	iface := cmp.Or(r.Names.Interface, req.Options.Interface)
	if _, err := presence.EndDetached(req, iface); err != nil {
		return nil, fmt.Errorf("the pod has its interface, and its server is left: %w", err)
	}
	if iface == "" {
		return r, nil // nothing was wired, and what a server knew of an earlier guest is of no namespace's interface
	}
	if err := statefile.Remove(req.StateDir, iface); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

// RecordedDomain is the guest that the record gives the interface to; nil if it names none, or is lost.
func RecordedDomain(seen *network.State) *network.DomainRef {
	if seen.Record == nil {
		return nil
	}
	return seen.Record.Domain
}
