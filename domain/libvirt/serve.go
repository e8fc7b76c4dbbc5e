//go:build cgo && libvirt_dlopen

package libvirt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/podnic/podnic/domain/internal/wire"
)

// farewell is how long calls that are under way, and the daemon that is told of the end, may hold the end up. The process
// ends either way: only the daemon's log is the tidier for it.
const farewell = 500 * time.Millisecond

// Serve answers the requests that come in until there are no more. The process should end then: a call that libvirt does
// not return from is left behind.
func Serve(in io.Reader, out io.Writer) error {
	return serve(in, out, func(uri string, send func(wire.Message)) (connection, error) {
		s, err := open(uri, send)
		if err != nil {
			return nil, err
		}
		return s, nil
	})
}

// connection is a conn as the server uses it.
type connection interface {
	start(xml string) (*wire.Domain, error)
	find(name string) (*wire.Domain, error)
	lookUp(uuid string) (*wire.Domain, error)
	describe(uuid string) (*wire.Domain, error)
	update(uuid, device string) error
	attach(uuid, device string) error
	detach(uuid, alias string) error
	shutdown(uuid string) error
	destroy(uuid string) error
	version() (*wire.Daemon, error)
	close()
}

// opener makes a connection, which sends events, and that it is lost, from before the opener returns.
type opener func(uri string, send func(wire.Message)) (connection, error)

// server is one conversation with podnic.
type server struct {
	open  opener
	calls sync.WaitGroup

	writing sync.Mutex
	out     *json.Encoder

	mu         sync.Mutex
	connection connection // nil until it is made
}

func serve(in io.Reader, out io.Writer, open opener) error {
	s := &server{open: open, out: json.NewEncoder(out)}
	if err := s.out.Encode(wire.Hello{Protocol: wire.Protocol}); err != nil {
		return fmt.Errorf("greet podnic: %w", err)
	}
	err := s.read(json.NewDecoder(in))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.calls.Wait() // a connection must not be closed under a call
		if s.connection != nil {
			s.connection.close()
		}
	}()
	select {
	case <-ended:
	case <-time.After(farewell):
	}
	return err
}

// read starts each request's call without waiting for those before it.
func (s *server) read(in *json.Decoder) error {
	for {
		var r wire.Request
		switch err := in.Decode(&r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read podnic's request: %w", err)
		}
		s.calls.Go(func() {
			response := &wire.Response{ID: r.ID}
			if err := s.call(r, response); err != nil {
				response.Error = wireError(err)
			}
			s.send(wire.Message{Response: response})
		})
	}
}

// send writes a message. That it cannot be written means that podnic is gone, which read finds out.
func (s *server) send(m wire.Message) {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.out.Encode(m)
}

func (s *server) call(r wire.Request, response *wire.Response) (err error) {
	if r.Call == wire.Connect {
		return s.connect(r.URI)
	}
	s.mu.Lock()
	c := s.connection
	s.mu.Unlock()
	if c == nil {
		return fmt.Errorf("podnic-libvirt was asked to %s before it was connected", r.Call)
	}
	switch r.Call {
	case wire.Start:
		response.Domain, err = c.start(string(r.XML))
	case wire.Find:
		response.Domain, err = c.find(r.Name)
	case wire.LookUp:
		response.Domain, err = c.lookUp(r.UUID)
	case wire.Describe:
		response.Domain, err = c.describe(r.UUID)
	case wire.Update:
		err = c.update(r.UUID, string(r.XML))
	case wire.Attach:
		err = c.attach(r.UUID, string(r.XML))
	case wire.Detach:
		err = c.detach(r.UUID, r.Name)
	case wire.Shutdown:
		err = c.shutdown(r.UUID)
	case wire.Destroy:
		err = c.destroy(r.UUID)
	case wire.Version:
		response.Daemon, err = c.version()
	default:
		err = fmt.Errorf("podnic-libvirt does not know the call %q", r.Call)
	}
	return err
}

func (s *server) connect(uri string) error {
	c, err := s.open(uri, s.send)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connection = c
	return nil
}

func wireError(err error) *wire.Error {
	if known, ok := errors.AsType[*wire.Error](err); ok {
		return known
	}
	return &wire.Error{Text: err.Error()}
}
