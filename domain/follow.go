package domain

import "context"

// Follow blocks until the guest has ended, and says how. onState is called with the guest's state at first and then with
// every change, from the caller's goroutine; it may be nil. A reboot is not an ending, nor is a preserved crash (see
// GuestCrashed), nor is a lost connection to the daemon: when the guest is not there any more after connecting again, the
// ending is Unknown. An ending that came before the call is reported at once. The error is that ctx ended or the connection
// was closed; the guest runs on.
func (g *Guest) Follow(ctx context.Context, onState func(GuestState)) (Ending, error) {
	for {
		for _, state := range g.newStates() {
			if onState != nil {
				onState(state)
			}
		}
		select {
		case <-g.changed:
			continue
		default:
		}
		select {
		case <-g.changed:
		case <-g.ended:
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.ending, nil
		case <-g.connection.closed.Done():
			return Ending{}, errClosed
		case <-ctx.Done():
			return Ending{}, ctx.Err()
		}
	}
}

// newStates takes the states that have not been passed on yet.
func (g *Guest) newStates() []GuestState {
	g.mu.Lock()
	defer g.mu.Unlock()
	states := g.states
	g.states = nil
	return states
}
