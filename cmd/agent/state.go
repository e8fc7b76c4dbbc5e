package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
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

func statePath(dir string) string { return filepath.Join(dir, "state.json") }

// LoadState reads the state file. There is none when nobody has served; one of another namespace is none.
func LoadState(dir string, id network.NamespaceID) (*State, error) {
	b, err := os.ReadFile(statePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the server's state: %w", err)
	}
	s := new(State)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read the server's state %s: %w", statePath(dir), err)
	}
	if s.Version != stateVersion || s.Namespace != id {
		return nil, nil
	}
	return s, nil
}

// RemoveState deletes the file.
func RemoveState(dir string) error {
	if err := os.Remove(statePath(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the server's state: %w", err)
	}
	return nil
}

// keeper holds the state of this process and writes it out whenever it has changed, off the path of whoever changes it.
type keeper struct {
	dir  string
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

// newKeeper starts to keep state in the directory. fail is told when it cannot be written.
func newKeeper(dir string, state State, fail func(error)) *keeper {
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
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	b, err := json.MarshalIndent(&k.state, "", "  ")
	k.mu.Unlock()
	if err == nil {
		// Not flushed to the disk: it describes a running process, and is of no use after a power cut.
		err = replaceFile(statePath(k.dir), append(b, '\n'))
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
}

// replaceFile replaces a file atomically, readable by whoever may enter its directory.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
