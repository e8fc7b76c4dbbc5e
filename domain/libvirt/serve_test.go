//go:build cgo && libvirt_dlopen

package libvirt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/podnic/podnic/domain/internal/wire"
)

// daemon is a connection whose start waits until it is let go on, as a start does that a lock or a disk holds up.
type daemon struct {
	goOn   chan struct{}
	closed bool
}

func (d *daemon) start(xml string) (*wire.Domain, error) {
	<-d.goOn
	return &wire.Domain{UUID: xml}, nil
}

func (d *daemon) find(string) (*wire.Domain, error)   { return nil, nil }
func (d *daemon) lookUp(string) (*wire.Domain, error) { return nil, errGone }
func (d *daemon) describe(string) (*wire.Domain, error) {
	return &wire.Domain{XML: []byte("vm")}, nil
}
func (d *daemon) update(uuid, device string) error { return errors.New(uuid + " has no " + device) }
func (d *daemon) attach(uuid, device string) error { return errors.New(uuid + " takes no " + device) }
func (d *daemon) detach(uuid, alias string) error  { return errors.New(uuid + " keeps " + alias) }
func (d *daemon) shutdown(string) error            { return errors.New("it is deaf") }
func (d *daemon) destroy(string) error             { return nil }
func (d *daemon) version() (*wire.Daemon, error)   { return &wire.Daemon{Driver: "QEMU"}, nil }
func (d *daemon) close()                           { d.closed = true }

// conversation is that of a server in a goroutine of its own with a test, within a bubble of synctest.
type conversation struct {
	t      *testing.T
	in     io.WriteCloser
	out    *json.Decoder
	ended  chan error
	daemon daemon
	send   func(wire.Message) // as libvirt's event loop does
}

func converse(t *testing.T) *conversation {
	in, ask := io.Pipe()
	say, out := io.Pipe()
	c := &conversation{
		t: t, in: ask, out: json.NewDecoder(say), ended: make(chan error, 1),
		daemon: daemon{goOn: make(chan struct{})},
	}
	go func() {
		c.ended <- serve(in, out, func(uri string, send func(wire.Message)) (connection, error) {
			if uri != "" {
				return nil, permanent(errors.New("no such URI"), "give another")
			}
			c.send = send
			return &c.daemon, nil
		})
		out.Close()
	}()
	c.expect(`{"protocol":"podnic-libvirt protocol 4"}`)
	return c
}

func (c *conversation) ask(request string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, request); err != nil {
		c.t.Error(err)
	}
}

func (c *conversation) expect(want string) {
	c.t.Helper()
	var got json.RawMessage
	if err := c.out.Decode(&got); err != nil || string(got) != want {
		c.t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestServeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := converse(t)
		for _, say := range []struct{ ask, want string }{
			{`{"id":1,"call":"look"}`, `{"response":{"id":1,"error":{"text":"podnic-libvirt was asked to look before it was connected"}}}`},
			{`{"id":2,"call":"connect","uri":"x"}`, `{"response":{"id":2,"error":{"kind":"permanent","text":"no such URI","remedy":"give another"}}}`},
			{`{"id":3,"call":"connect"}`, `{"response":{"id":3}}`},
			{`{"id":4,"call":"find","name":"vm"}`, `{"response":{"id":4}}`},
			{`{"id":5,"call":"look"}`, `{"response":{"id":5,"error":{"kind":"gone","text":"the domain is not running"}}}`},
			{`{"id":6,"call":"describe"}`, `{"response":{"id":6,"domain":{"xml":"dm0="}}}`},
			{`{"id":7,"call":"update","uuid":"vm","xml":"dm0="}`, `{"response":{"id":7,"error":{"text":"vm has no vm"}}}`},
			{`{"id":7,"call":"attach","uuid":"vm","xml":"dm0="}`, `{"response":{"id":7,"error":{"text":"vm takes no vm"}}}`},
			{`{"id":7,"call":"detach","uuid":"vm","name":"net0"}`, `{"response":{"id":7,"error":{"text":"vm keeps net0"}}}`},
			{`{"id":8,"call":"shutdown"}`, `{"response":{"id":8,"error":{"text":"it is deaf"}}}`},
			{`{"id":9,"call":"dance"}`, `{"response":{"id":9,"error":{"text":"podnic-libvirt does not know the call \"dance\""}}}`},
		} {
			c.ask(say.ask)
			c.expect(say.want)
		}
		c.in.Close()
		if err := <-c.ended; err != nil {
			t.Error(err)
		}
		if !c.daemon.closed {
			t.Error("the connection was left open")
		}
	})
}

func TestACallThatWaitsHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := converse(t)
		c.ask(`{"id":1,"call":"connect"}`)
		c.expect(`{"response":{"id":1}}`)
		c.ask(`{"id":2,"call":"start","xml":"dm0="}`)
		c.ask(`{"id":3,"call":"destroy"}`)
		c.expect(`{"response":{"id":3}}`)
		go c.send(wire.Message{Event: &wire.Event{UUID: "u", State: wire.Paused}})
		c.expect(`{"event":{"uuid":"u","state":"paused"}}`)
		go c.send(wire.Message{Lost: closeReason(99)})
		c.expect(`{"lost":"reading from the daemon failed"}`)
		close(c.daemon.goOn)
		c.expect(`{"response":{"id":2,"domain":{"uuid":"vm"}}}`)
		c.in.Close()
		<-c.ended
	})
}

func TestACallThatWaitsDoesNotOutlivePodnic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := converse(t)
		c.ask(`{"id":1,"call":"connect"}`)
		c.expect(`{"response":{"id":1}}`)
		c.ask(`{"id":2,"call":"start","xml":"dm0="}`)
		synctest.Wait()
		gone := time.Now()
		c.in.Close()
		if err := <-c.ended; err != nil || time.Since(gone) != farewell {
			t.Errorf("ended after %s: %v", time.Since(gone), err)
		}
		if c.daemon.closed {
			t.Error("the connection was closed under a call")
		}
		close(c.daemon.goOn)
	})
}

func TestServeEndsWhenItDoesNotUnderstand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := converse(t)
		c.ask("hello")
		if err := <-c.ended; err == nil || !strings.HasPrefix(err.Error(), "read podnic's request: invalid character 'h'") {
			t.Errorf("got %v", err)
		}
		c.in.Close()
	})
}
