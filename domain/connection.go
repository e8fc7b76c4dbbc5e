package domain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// How long to wait between two attempts to connect. The first is short, since a daemon that is just being started beside us
// is the common case; the last is what a guest can be without an observer.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = time.Second
)

var (
	// errClosed is what a guest's methods return after Close.
	errClosed = errors.New("the connection to libvirt was closed")
	// errLost is what calls return that do not wait until the connection is there again.
	errLost = errors.New("the connection to libvirt is lost and being made again")
)

// Connection is a connection to a libvirt daemon that is made again whenever it is lost. Its methods can be called from
// several goroutines.
type Connection struct {
	uri  string
	log  *zap.Logger
	dial dialer

	closed context.Context // done when Close is called
	cancel context.CancelFunc
	kept   chan struct{} // closed when keep has returned

	mu      sync.Mutex
	current conn              // nil while the connection is lost
	lost    time.Time         // when it was, zero while it is there
	guests  map[string]*Guest // by UUID, until they end
	// While domains are being started or found, their UUIDs are not known yet, and what happens to them is kept.
	introducing int
	early       []event
}

// Connect connects to the daemon that serves the URI (empty: libvirt's default), and tries until it answers, timeout
// passes or ctx ends. What cannot get better by waiting is an error at once: a URI that libvirt does not know, a socket
// that we may not open, a helper program that is missing. The error names the URI, the sockets, the last cause and the remedy.
func Connect(ctx context.Context, uri string, timeout time.Duration, log *zap.Logger) (*Connection, error) {
	return connect(ctx, helper{locateHelper, log}.dial, uri, timeout, log)
}

func connect(ctx context.Context, dial dialer, uri string, timeout time.Duration, log *zap.Logger) (*Connection, error) {
	c := &Connection{uri: uri, log: log, dial: dial, kept: make(chan struct{}), guests: map[string]*Guest{}}
	trying, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	s, err := c.retry(trying, func(err error) bool { _, permanent := errors.AsType[permanentError](err); return permanent })
	if err != nil {
		return nil, c.connectError(ctx, err, timeout)
	}
	c.current = s
	c.closed, c.cancel = context.WithCancel(context.Background())
	go c.keep(s)
	return c, nil
}

// connectError says all that is known of a failed connection in one line.
func (c *Connection) connectError(ctx context.Context, err error, timeout time.Duration) error {
	uri := c.uri
	if uri == "" {
		uri = "libvirt's default URI"
	}
	if permanent, ok := errors.AsType[permanentError](err); ok {
		return fmt.Errorf("connect to libvirt at %s: %w: %s", uri, permanent.error, permanent.remedy)
	}
	where := ""
	if sockets := sockets(c.uri); len(sockets) > 0 {
		where = " on " + strings.Join(sockets, " or ")
	}
	if ctx.Err() != nil {
		return fmt.Errorf("connect to libvirt at %s: interrupted while waiting for an answer%s: %w", uri, where, err)
	}
	return fmt.Errorf("connect to libvirt at %s: no answer%s within %s: %w: "+
		"start libvirtd or virtqemud in this container, or share its socket directory with it", uri, where, timeout, err)
}

// Close ends the connection. Guests live on; Follow and Stop return an error.
func (c *Connection) Close() error {
	c.cancel()
	<-c.kept
	return nil
}

// keep replaces the connection whenever it is lost, until Close.
func (c *Connection) keep(s conn) {
	defer close(c.kept)
	for {
		select {
		case <-c.closed.Done():
			c.use(nil)
			s.close()
			return
		case <-s.lost():
		}
		c.log.Warn("the connection to libvirt is lost, connecting again; the guest runs on", zap.String("uri", c.uri), zap.Error(s.why()))
		c.use(nil)
		s.close()
		again, err := c.retry(c.closed, c.never())
		if err != nil {
			return // closed
		}
		s = again
		guests := c.use(s)
		c.log.Info("connected to libvirt again", zap.String("uri", c.uri))
		release := context.AfterFunc(c.closed, s.close) // Close does not wait for a daemon that does not answer
		for _, g := range guests {
			c.check(s, g)
		}
		release()
	}
}

// never gives up, and says what waiting alone will not mend: a helper that was replaced by another version's, for one.
func (c *Connection) never() (giveUp func(error) bool) {
	told := ""
	return func(err error) bool {
		if permanent, ok := errors.AsType[permanentError](err); ok && permanent.Error() != told {
			told = permanent.Error()
			c.log.Error("cannot connect to libvirt again, and go on trying", zap.Error(permanent.error), zap.String("remedy", permanent.remedy))
		}
		return false
	}
}

// use makes a connection the current one, and returns the guests that are known.
func (c *Connection) use(s conn) []*Guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = s
	switch {
	case s != nil:
		c.lost = time.Time{}
	case c.lost.IsZero():
		c.lost = time.Now()
	}
	guests := make([]*Guest, 0, len(c.guests))
	for _, g := range c.guests {
		guests = append(guests, g)
	}
	return guests
}

// check looks a guest up whose events may have been missed.
func (c *Connection) check(s conn, g *Guest) {
	events := g.count()
	state, err := s.lookUp(g.uuid)
	switch {
	case err == nil:
		g.sight(state, events)
	case errors.Is(err, errGone):
		c.deliver(event{uuid: g.uuid, ended: true, how: Unknown, reason: "it ended unseen, while the connection to libvirt was lost"})
	default:
		// When the connection is lost again, the next one checks again.
		c.log.Warn("look up the guest after connecting again", zap.String("domain", g.name), zap.Error(err))
	}
}

// retry dials until it succeeds, giveUp says so, or ctx ends. The error is the last cause.
func (c *Connection) retry(ctx context.Context, giveUp func(error) bool) (conn, error) {
	last := context.Cause(ctx)
	for wait := firstRetry; ctx.Err() == nil; wait = min(2*wait, lastRetry) {
		s, err := c.dial(ctx, c.uri, c.deliver)
		switch {
		case err == nil:
			return s, nil
		case giveUp(err):
			return nil, err
		case ctx.Err() == nil || last == nil:
			last = err
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil, last
}

// LostSince is when the connection was lost that is being made again, and zero while it is there.
func (c *Connection) LostSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// conn is the current one.
func (c *Connection) conn() (conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed.Err() != nil:
		return nil, errClosed
	case c.current == nil:
		return nil, errLost
	}
	return c.current, nil
}

// introduce calls what starts or finds a guest, and makes the guest known. No event of the guest is missed from before
// the call on.
func (c *Connection) introduce(call func(conn) (*Guest, error)) (*Guest, error) {
	s, err := c.conn()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.introducing++
	c.mu.Unlock()

	g, err := call(s)

	c.mu.Lock()
	defer c.mu.Unlock()
	early := c.early
	if c.introducing--; c.introducing == 0 {
		c.early = nil
	}
	if g == nil || err != nil {
		return nil, err
	}
	if known := c.guests[g.uuid]; known != nil {
		return known, nil
	}
	c.guests[g.uuid] = g
	for _, e := range early {
		if e.uuid == g.uuid {
			c.tell(g, e)
		}
	}
	if c.current != s && c.current != nil {
		// The connection has been replaced during the call, and the guests were checked when this one was not known.
		go c.check(c.current, g)
	}
	return g, nil
}

// deliver passes an event to the guest that it is about. Sessions call it, and wait.
func (c *Connection) deliver(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.introducing > 0 {
		c.early = append(c.early, e)
	}
	if g := c.guests[e.uuid]; g != nil {
		c.tell(g, e)
	}
}

// tell passes an event to a guest. A guest that has ended is no longer known: its UUID may be started again.
func (c *Connection) tell(g *Guest, e event) {
	if e.device != "" {
		g.tellDevice(e)
		return
	}
	g.take(e)
	if e.ended {
		delete(c.guests, g.uuid)
	}
}
