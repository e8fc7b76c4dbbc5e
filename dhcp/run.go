package dhcp

import (
	"context"
	"errors"
	"time"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
)

// Times between attempts to open a socket again.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Run serves until the context ends, and then returns nil. An error means that the first socket could not be opened. A
// socket that is lost later is opened again, however long that takes, because a guest depends on it.
func (s *station) Run(ctx context.Context) error {
	conn, err := s.open()
	if err != nil {
		return err
	}
	close(s.ready)
	for {
		err := s.serve(ctx, conn)
		if ctx.Err() != nil {
			return nil
		}
		s.report(s.trouble(KindSocketLost, err))
		if conn = s.reopen(ctx); conn == nil {
			return nil
		}
	}
}

// reopen tries until it has a socket; nil means that the context ended.
func (s *station) reopen(ctx context.Context) link.Socket {
	var last string
	for wait := minBackoff; ; wait = min(2*wait, maxBackoff) {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		conn, err := s.open()
		if err == nil {
			return conn
		}
		if err.Error() != last {
			last = err.Error()
			s.report(s.trouble(KindSocketLost, err))
		}
	}
}

// open opens the socket, its filter attached before it hears anything.
func (s *station) open() (link.Socket, error) {
	s.mu.Lock()
	of, w := s.protocol.service(), s.protocol.watch()
	s.mu.Unlock()

	var (
		conn    link.Socket
		missing []string
	)
	err := s.inNamespace(func() error {
		var err error
		if conn, err = s.listen(s.link, of, w); err != nil {
			return err
		}
		missing = conn.LackingSettings()
		return nil
	})
	if err != nil {
		return nil, err
	}

	s.mu.Lock()
	s.conn, s.missing = conn, missing
	if err := s.tune(s.protocol.watch()); err != nil { // the offer may have changed meanwhile
		s.conn = nil
		s.mu.Unlock()
		conn.Close()
		return nil, err
	}
	s.protocol.begin()
	s.await()
	s.protocol.note(Event{Kind: KindSocketOpen, Detail: s.kind + " socket on " + s.link})
	for _, what := range missing {
		s.protocol.note(Event{Kind: KindSetting, Detail: what})
	}
	events := s.protocol.takeEvents()
	s.mu.Unlock()
	s.report(events)
	return conn, nil
}

// serve answers packets until the socket fails or the context ends.
func (s *station) serve(ctx context.Context, conn link.Socket) error {
	stop := context.AfterFunc(ctx, conn.Close)
	defer func() {
		stop()
		s.mu.Lock()
		s.protocol.counters().QueueDrops += conn.QueueDrops()
		s.conn = nil
		s.stopTimers()
		s.mu.Unlock()
		conn.Close()
	}()
	for {
		p, err := conn.Receive()
		var dropped drop.Reason
		switch {
		case errors.As(err, &dropped):
			s.mu.Lock()
			s.protocol.counters().Dropped[dropped.Error()]++
			s.mu.Unlock()
		case errors.Is(err, link.ErrDown):
			s.report(s.trouble(KindLinkDown, err))
		case err != nil:
			return err
		default:
			s.handle(conn, p)
		}
	}
}
