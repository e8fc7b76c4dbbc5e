package statefile

import (
	"math"
	"slices"
	"time"
)

// Moment is when something happened.
type Moment struct {
	Event string    `json:"event"`
	At    time.Time `json:"at"`
	// Milliseconds since the first moment of the timeline.
	Milliseconds float64 `json:"milliseconds"`
}

// Timeline is how the network came to be, from the start of podnic to the guest's lease. Each event is in it once, at its
// first time.
type Timeline []Moment

// The events of a timeline, in the order in which a start passes them.
const (
	EventStarted       = "started"    // exec of podnic
	EventDiscovered    = "discovered" // the pod's interface is known
	EventWired         = "wired"
	EventServing       = "serving" // the server can hear the guest
	EventDomainStart   = "domain start"
	EventDomainRunning = "domain running"
	EventCommand       = "command started" // of `podnic run -- COMMAND`
	EventFirstFrame    = "first frame"     // of the guest
	EventDiscover      = "discover"
	EventLease         = "lease"
)

// Add appends an event, unless it happened before.
func (t *Timeline) Add(event string, at time.Time) {
	if at.IsZero() || slices.ContainsFunc(*t, func(m Moment) bool { return m.Event == event }) {
		return
	}
	first := at
	if len(*t) > 0 {
		first = (*t)[0].At
	}
	milliseconds := float64(at.Sub(first).Microseconds()) / 1000
	*t = append(*t, Moment{Event: event, At: at.UTC(), Milliseconds: milliseconds})
}

// Seconds is since the first moment, to the microsecond.
func (m Moment) Seconds() float64 { return math.Round(m.Milliseconds*1000) / 1e6 }
