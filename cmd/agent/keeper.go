package agent

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/podnic/podnic/network/statedir"
)

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

// writeState writes the state once, for the process that will serve.
func writeState(dir *statedir.Dir, state State) error {
	state.Version = stateVersion
	return (&keeper{dir: dir, state: state}).write()
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
