package statefile

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/podnic/podnic/network/statedir"
)

// Keeper holds the state of this process and writes it out whenever it has changed, off the path of whoever changes it.
type Keeper struct {
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

// NewKeeper starts to keep state in the directory, which it takes over. fail is told when it cannot be written.
func NewKeeper(dir *statedir.Dir, state State, fail func(error)) *Keeper {
	state.Version = stateVersion
	k := &Keeper{dir: dir, fail: fail, state: state, dirty: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	go k.run()
	return k
}

// Write writes the state once, for the process that will serve.
func Write(dir *statedir.Dir, state State) error {
	state.Version = stateVersion
	return (&Keeper{dir: dir, state: state}).Write()
}

// Change changes the state under the lock.
func (k *Keeper) Change(f func(*State)) {
	k.mu.Lock()
	f(&k.state)
	k.mu.Unlock()
	select {
	case k.dirty <- struct{}{}:
	default: // it is to be written anyway
	}
}

// Read looks at the state under the lock.
func (k *Keeper) Read(f func(*State)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.state)
}

func (k *Keeper) run() {
	defer close(k.done)
	failed := false
	for range k.dirty {
		err := k.Write()
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

// Write writes the state now. It is for who cannot wait for the next write.
func (k *Keeper) Write() error {
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

// Close writes what is left and stops.
func (k *Keeper) Close() {
	close(k.closing)
	close(k.dirty)
	<-k.done
	k.dir.Close()
}
