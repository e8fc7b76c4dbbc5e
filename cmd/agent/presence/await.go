package presence

import (
	"context"
	"errors"

	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
)

// Await waits until the server of an interface says that it can hear the guest.
func Await(ctx context.Context, stateDir string, seen *network.Inspection) error {
	iface, id := seen.Names.Interface, seen.ID
	// Most often it can. A watch is made only where it cannot yet, since to give one back takes the kernel milliseconds.
	if heard, err := hears(stateDir, iface, id); heard || err != nil {
		return err
	}
	changed, stop, err := statefile.Watch(stateDir, iface)
	if err != nil {
		return err
	}
	defer stop()
	for {
		if heard, err := hears(stateDir, iface, id); heard || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.New("the server that is there cannot hear the guest: see what `podnic status` warns of")
		}
	}
}

// hears reports whether the server says that it can hear the guest, or nothing.
func hears(stateDir, iface string, id network.NamespaceID) (bool, error) {
	state, err := statefile.Load(stateDir, iface, id)
	switch {
	case err != nil:
		return false, err
	case state == nil || state.Server == nil || !state.Ready.IsZero():
		return true, nil
	case state.Failed != "":
		return false, errors.New(state.Failed)
	}
	start, err := statefile.StartTime(state.Server.ID)
	return err != nil || start != state.Server.Start, nil // left by one that has ended
}
