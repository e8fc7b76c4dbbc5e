package agent

import (
	"context"
	"time"

	"github.com/podnic/podnic/network"
)

// Prepare wires the namespace and notes when, for the process that will serve.
func Prepare(ctx context.Context, req network.Request, started time.Time) (*network.Result, error) {
	r, err := network.Prepare(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(r.Steps) == 0 || r.Repaired {
		return r, nil // somebody may serve, and the file is theirs
	}
	state := State{Version: stateVersion, Namespace: r.Record.Namespace}
	state.Timeline.Add(EventStarted, started)
	state.Timeline.Add(EventDiscovered, r.Discovered)
	state.Timeline.Add(EventWired, r.Wired)
	k := keeper{dir: req.StateDir, state: state}
	if err := k.write(); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

// Restore takes the interface back, ends a server that the hook started for it, and forgets what a server knew of the guest.
func Restore(ctx context.Context, req network.Request, force bool) (*network.Restoration, error) {
	r, err := network.Restore(ctx, req, force)
	if err != nil {
		return nil, err
	}
	if _, err := endDetached(req); err != nil {
		return nil, err
	}
	return r, RemoveState(req.StateDir)
}
