package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
)

// stateVersion is raised when an older podnic would misread the file.
const stateVersion = 1

// State is what a serving process tells others of itself, in one file that is replaced as a whole. What the kernel knows
// better is not in it.
type State struct {
	Version   int                 `json:"version"`
	Namespace network.NamespaceID `json:"namespace"`
	// Ready is since when the server can hear the guest; zero while it cannot.
	Ready time.Time `json:"ready,omitzero"`
	// Failed is why podnic gave up, if it did.
	Failed   string      `json:"failed,omitempty"`
	Lease    dhcp.Lease  `json:"lease"`
	Offer    *dhcp.Offer `json:"offer,omitempty"`
	Domain   *Domain     `json:"domain,omitempty"`
	Server   *Process    `json:"server,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
	Timeline Timeline    `json:"timeline"`

	first bool // it lies where podnic of record version 1 had it
}

// Domain is the guest as libvirt sees it.
type Domain struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

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
	EventFirstFrame    = "first frame" // of the guest
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

const stateFile = "state.json"

// LoadState reads the state file of an interface, which root wrote, the effective user, or one of the others. There is none
// when nobody has served; one of another namespace is none. A server of a podnic that kept one interface has its file in
// the state directory itself, and it counts while that server is the later one.
func LoadState(stateDir, iface string, id network.NamespaceID, others ...uint32) (*State, error) {
	d, err := statedir.Open(stateDir, iface, others...)
	state, err := loadState(d, err, id)
	for _, user := range append([]uint32{uint32(os.Geteuid())}, others...) {
		d, besideErr := statedir.Open(stateDir, statedir.Beside(iface, user), others...)
		if beside, _ := loadState(d, besideErr, id); beside != nil && (state == nil || state.startedBefore(beside)) {
			state, err = beside, nil
		}
	}
	d, firstErr := statedir.OpenTop(stateDir, others...)
	if first, _ := loadState(d, firstErr, id); first != nil && (state == nil || state.startedBefore(first)) {
		first.first = true
		return first, nil
	}
	return state, err
}

func (s *State) startedBefore(o *State) bool {
	return o.Server != nil && (s.Server == nil || s.Server.Start < o.Server.Start)
}

func loadState(d *statedir.Dir, err error, id network.NamespaceID) (*State, error) {
	var b []byte
	if err == nil {
		defer d.Close()
		b, err = d.Read(stateFile)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's state: %w", err)
	}
	s := new(State)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read the server's state %s: %w", d.Path(stateFile), err)
	}
	if s.Version != stateVersion || s.Namespace != id {
		return nil, nil
	}
	return s, nil
}

// RemoveState deletes the file. One that is not podnic's own stays.
func RemoveState(stateDir, iface string) error {
	d, err := statedir.OpenOwn(stateDir, iface)
	return errors.Join(removeState(d, err), statedir.RemoveBesides(stateDir, iface, stateFile), removeFirstState(stateDir))
}

func removeFirstState(stateDir string) error {
	d, err := statedir.OpenOwnTop(stateDir)
	return removeState(d, err)
}

func removeState(d *statedir.Dir, err error) error {
	if errors.Is(err, fs.ErrNotExist) || statedir.IsUntrusted(err) {
		return nil
	}
	if err == nil {
		defer d.Close()
		err = d.Remove(stateFile)
	}
	if err != nil {
		return fmt.Errorf("remove the server's state: %w", err)
	}
	return nil
}

// keeper holds the state of this process and writes it out whenever it has changed, off the path of whoever changes it.
type keeper struct {
	dir  *statedir.Dir // nil: there is no place for it
	fail func(error)
	// writing is held for the length of a write, so that an older state does not replace a newer one.
	writing sync.Mutex
	mu      sync.Mutex
	state   State
	dirty   chan struct{}
	// closing is closed when the state is about to be final, done when it is written.
	closing, done chan struct{}
}

// writeInterval is the least time between two writes: a guest can change its lease as often as it likes.
const writeInterval = 50 * time.Millisecond

// newKeeper starts to keep state in the directory, which it takes over. fail is told when it cannot be written.
func newKeeper(dir *statedir.Dir, state State, fail func(error)) *keeper {
	state.Version = stateVersion
	k := &keeper{dir: dir, fail: fail, state: state, dirty: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	go k.run()
	return k
}

// change changes the state under the lock.
func (k *keeper) change(f func(*State)) {
	k.mu.Lock()
	f(&k.state)
	k.mu.Unlock()
	select {
	case k.dirty <- struct{}{}:
	default: // it is to be written anyway
	}
}

// read looks at the state under the lock.
func (k *keeper) read(f func(*State)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.state)
}

func (k *keeper) run() {
	defer close(k.done)
	failed := false
	for range k.dirty {
		err := k.write()
		if err != nil && !failed {
			k.fail(err)
		}
		failed = err != nil
		select {
		case <-time.After(writeInterval):
		case <-k.closing:
		}
	}
}

func (k *keeper) write() error {
	if k.dir == nil {
		return nil
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	b, err := json.MarshalIndent(&k.state, "", "  ")
	k.mu.Unlock()
	if err == nil {
		// For whoever may enter the directory. Not flushed to the disk: it describes a running process, and is of no use after
		// a power cut.
		err = k.dir.Write(stateFile, append(b, '\n'), 0o644, false)
	}
	if err != nil {
		return fmt.Errorf("write the server's state: %w", err)
	}
	return nil
}

// close writes what is left and stops.
func (k *keeper) close() {
	close(k.closing)
	close(k.dirty)
	<-k.done
	k.dir.Close()
}
