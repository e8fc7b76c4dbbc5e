package domain

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/podnic/podnic/domain/internal/wire"
)

// patience is how long the helper has for its end when it is told to end, which it wants half of at most (farewell of
// package libvirt).
const patience = time.Second

// reinstall mends a helper that does not belong to this podnic.
const reinstall = "install podnic and podnic-libvirt of the same version"

// process is a helper that runs: a connection. It is lost when the helper says so of its connection, and when the helper has
// ended or is not to be understood.
type process struct {
	cmd     *exec.Cmd
	deliver func(event)
	broken  chan struct{} // closed when the connection is lost; cause is set
	ended   chan struct{} // closed when the process has been reaped and its last words are logged

	writing sync.Mutex
	in      io.WriteCloser
	out     *json.Encoder // to in

	mu      sync.Mutex
	cause   error // why the connection is lost
	last    uint64
	waiting map[uint64]chan<- *wire.Response
}

func newProcess(cmd *exec.Cmd, in io.WriteCloser, deliver func(event)) *process {
	return &process{
		cmd:     cmd,
		deliver: deliver,
		broken:  make(chan struct{}),
		ended:   make(chan struct{}),
		in:      in,
		out:     json.NewEncoder(in),
		waiting: map[uint64]chan<- *wire.Response{},
	}
}

// follow takes what the helper says until it ends, and reaps it.
func (p *process) follow(out io.Reader) {
	greeted, err := p.read(json.NewDecoder(out))
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if !ended {
		p.kill() // it would not be heard any more
	}
	exit := p.cmd.Wait()
	if ended {
		err = p.exitError(greeted, exit)
	}
	p.lose(err)
}

// exitError is that the helper has ended.
func (p *process) exitError(greeted bool, exit error) error {
	err := errors.New("podnic-libvirt has ended")
	if exit != nil {
		err = fmt.Errorf("podnic-libvirt has ended: %w", exit)
	}
	if greeted || !p.cmd.ProcessState.Exited() {
		return err // another may fare better
	}
	return permanentError{
		fmt.Errorf("%s does not start: %w", p.cmd.Path, err),
		"see what it says in the log, and install the podnic-libvirt that was built for this system",
	}
}

// read takes messages until there is none. greeted says that the first was that of the right helper.
func (p *process) read(in *json.Decoder) (greeted bool, err error) {
	var hello wire.Hello
	switch err := in.Decode(&hello); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return false, err
	case err != nil:
		return false, permanentError{fmt.Errorf("%s is not podnic's helper: %w", p.cmd.Path, err), reinstall}
	case hello.Protocol != wire.Protocol:
		return false, permanentError{
			fmt.Errorf("%s speaks %q, this podnic speaks %q", p.cmd.Path, hello.Protocol, wire.Protocol),
			reinstall,
		}
	}
	for {
		var m wire.Message
		switch err := in.Decode(&m); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return true, err
		case err != nil:
			return true, fmt.Errorf("read what podnic-libvirt says: %w", err)
		}
		switch {
		case m.Event != nil:
			p.deliver(received(m.Event))
		case m.Response != nil:
			p.answer(m.Response)
		case m.Lost != "":
			p.lose(errors.New(m.Lost))
		}
	}
}

// received is an event as the helper tells it.
func received(e *wire.Event) event {
	if e.Device != "" {
		return event{uuid: e.UUID, device: e.Device, kept: e.Kept}
	}
	if !e.Ended && e.How == "" {
		return sighting(e.UUID, GuestState(e.State))
	}
	return event{uuid: e.UUID, state: GuestState(e.State), ended: e.Ended, how: hows[e.How], reason: e.Reason}
}

var hows = map[string]How{wire.ByGuest: Shutdown, wire.ByCrash: Crashed, wire.ByOther: DestroyedByOther}

// lose marks the connection as lost. The first cause counts.
func (p *process) lose(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause == nil {
		p.cause = cause
		close(p.broken)
	}
}

func (p *process) lost() <-chan struct{} { return p.broken }

func (p *process) why() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

// close lets the helper take leave of the daemon, but not for long.
func (p *process) close() {
	_ = p.in.Close()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill()
		<-p.ended
	}
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }
