package statefile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
)

// Keeper holds the state of this process and writes it out whenever it has changed, so that a change does not wait for the disk.
type Keeper struct {
	dir  *statedir.Dir // nil: there is no place for it
	fail func(error)
	// writing is held for the length of a write, so that an older state does not replace a newer one.
	writing sync.Mutex
	mu      sync.Mutex
	state   State
	closed  bool
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

// begun is a State of which nothing is known but how far things have come. It has a type of its own: of State, encoding/json
// learns all types before it reads or writes the first, which takes as long as twenty of a wiring's netlink requests.
type begun struct {
	Version   int                 `json:"version"`
	Namespace network.NamespaceID `json:"namespace"`
	Timeline  Timeline            `json:"timeline"`
}

// Begin writes how far things have come while nobody serves, for the process that will.
func Begin(dir *statedir.Dir, id network.NamespaceID, line Timeline) error {
	b, err := json.MarshalIndent(begun{stateVersion, id, line}, "", "  ")
	return write(dir, b, err)
}

// decode reads what Begin or a Keeper has written.
func decode(b []byte) (*State, error) {
	only, strict := begun{}, json.NewDecoder(bytes.NewReader(b))
	strict.DisallowUnknownFields()
	if strict.Decode(&only) == nil {
		return &State{Version: only.Version, Namespace: only.Namespace, Timeline: only.Timeline}, nil
	}
	s := new(State)
	return s, json.Unmarshal(b, s)
}

// write replaces the file by what was encoded. It is readable by all who may enter the directory, and not flushed to the disk:
// it describes a running process, and is useless after a power cut.
func write(dir *statedir.Dir, b []byte, err error) error {
	if err == nil {
		err = dir.Write(stateFile, append(b, '\n'), 0o644, false)
	}
	if err != nil {
		return fmt.Errorf("write the server's state: %w", err)
	}
	return nil
}

// Change changes the state under the lock. Once the keeper is closed, nothing is written any more: a follower of a link, say, may
// report something about an interface that was given back meanwhile.
func (k *Keeper) Change(f func(*State)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.state)
	if k.closed {
		return
	}
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

// Write writes the state now. It is for callers that cannot wait for the next write.
func (k *Keeper) Write() error {
	k.writing.Lock()
	defer k.writing.Unlock()
	if k.dir == nil {
		return nil
	}
	k.mu.Lock()
	b, err := json.MarshalIndent(&k.state, "", "  ")
	k.mu.Unlock()
	return write(k.dir, b, err)
}

// Discard stops, and removes the file, which who restored the interface has done too: it may have been written since.
func (k *Keeper) Discard() {
	k.writing.Lock()
	if k.dir != nil {
		_ = k.dir.Remove(stateFile) // one that stays is of a namespace whose interface is not wired: nobody believes it
		k.dir.Close()
		k.dir = nil
	}
	k.writing.Unlock()
	k.Close()
}

// Close writes what is left and stops.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	close(k.closing)
	close(k.dirty)
	<-k.done
	k.dir.Close()
}
