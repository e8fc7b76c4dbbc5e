package domain

import (
	"fmt"
	"slices"
	"sync"

	"github.com/podnic/podnic/domain/domainxml"
)

// Guest is a domain that runs, or did when it was started or found.
type Guest struct {
	connection *Connection
	uuid       string
	name       string
	taps       []string

	ended   chan struct{} // closed when the guest has ended
	changed chan struct{} // holds one value when there is something in states

	mu         sync.Mutex
	state      GuestState
	states     []GuestState           // that Follow has not passed on yet
	events     int                    // that were taken
	means      event                  // the last state's event: what an ending would mean that follows from it
	destroying bool                   // we have asked libvirt to destroy it
	devices    map[string]chan<- bool // those that wait for a device to go, by alias; told whether it is kept
	ending     Ending                 // valid when ended is closed
}

// Start creates a transient domain from XML and returns the guest. The call that starts it is the first that it makes.
// When the domain does not start, the error has libvirt's text.
func (c *Connection) Start(xml []byte) (*Guest, error) {
	d, err := domainxml.Parse(xml)
	if err != nil {
		return nil, err
	}
	g, err := c.introduce(func(s conn) (*Guest, error) {
		uuid, err := s.start(xml)
		if err != nil {
			return nil, err
		}
		return c.newGuest(uuid, d, GuestRunning), nil
	})
	if err != nil {
		return nil, fmt.Errorf("start domain %q: %w", d.Name(), err)
	}
	return g, nil
}

// Find looks for a running domain of that name, also one that others started. Without one, guest and error are nil.
func (c *Connection) Find(name string) (*Guest, error) {
	g, err := c.introduce(func(s conn) (*Guest, error) {
		found, err := s.find(name)
		if found == nil || err != nil {
			return nil, err
		}
		d, err := domainxml.Parse(found.xml)
		if err != nil {
			return nil, err
		}
		return c.newGuest(found.uuid, d, found.state), nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for domain %q: %w", name, err)
	}
	return g, nil
}

func (c *Connection) newGuest(uuid string, d *domainxml.Document, state GuestState) *Guest {
	g := &Guest{
		connection: c,
		uuid:       uuid,
		name:       d.Name(),
		ended:      make(chan struct{}),
		changed:    make(chan struct{}, 1),
	}
	for _, i := range d.Interfaces() {
		if i.Tap != "" {
			g.taps = append(g.taps, i.Tap)
		}
	}
	g.take(sighting(uuid, state))
	return g
}

// UUID is the domain's, in the form that libvirt prints.
func (g *Guest) UUID() string { return g.uuid }

// Name is the domain's name.
func (g *Guest) Name() string { return g.name }

// Taps are the names of the links on the host that the guest's interfaces use.
func (g *Guest) Taps() []string { return slices.Clone(g.taps) }

// count is how many events were taken.
func (g *Guest) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.events
}

// sight takes a state that was looked up, unless an event has come since there were that many: the event may be the later
// news, and all that happens after it is told by events.
func (g *Guest) sight(state GuestState, events int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.events == events {
		g.update(sighting(g.uuid, state))
	}
}

// take brings the guest up to date. It does not block.
func (g *Guest) take(e event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.update(e)
}

func (g *Guest) update(e event) {
	g.events++
	switch {
	case g.hasEnded():
	case e.ended:
		g.ending = g.judge(e)
		close(g.ended)
	default:
		// A preserved guest that is ended goes through other states, but only one that runs again has survived its crash.
		if g.means.how != Crashed || e.state == GuestRunning {
			g.means = e
		}
		if e.state == g.state {
			return
		}
		g.state = e.state
		g.states = append(g.states, e.state)
		select {
		case g.changed <- struct{}{}:
		default:
		}
	}
}

func (g *Guest) hasEnded() bool {
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

// judge says how the guest ended, from libvirt's last word and what came before.
func (g *Guest) judge(last event) Ending {
	ending := Ending{How: last.how, Reason: last.reason}
	switch {
	case g.means.how == Crashed && last.how != Unknown:
		// <on_crash> ended it, or somebody cleared a preserved guest away.
		return Ending{How: Crashed, Reason: g.means.reason + "; " + last.reason}
	case g.means.how == DestroyedByOther && last.how == Shutdown:
		ending = Ending{How: DestroyedByOther, Reason: g.means.reason}
	}
	if g.destroying && (ending.How == DestroyedByOther || ending.How == Unknown) {
		ending.How = DestroyedAfterGrace
	}
	return ending
}
