package dhcp

import (
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

// handle answers one packet and reports what came of it. The guest does not wait for whoever observes.
func (s *Server) handle(conn socket, p packet) {
	r, events := s.answer(conn, p)
	var err error
	if r.message != nil {
		err = conn.send(r)
	}
	s.report(events)
	if err != nil {
		s.report(s.sendFailed(err))
	}
}

// answer runs the handler. A panic costs the packet that caused it: the guest's network must not depend on the handler
// being right about every packet that a guest can think of.
func (s *Server) answer(conn socket, p packet) (r response, events []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if cause := recover(); cause != nil {
			s.handler.stats.Panics++
			s.handler.takeEvents()
			r, events = response{}, []Event{{
				Kind: KindPanic, At: time.Now(), Lease: s.handler.lease, Detail: fmt.Sprint(cause), stack: debug.Stack(),
			}}
		}
	}()
	r = conn.answer(s.handler, p)
	if s.handler.watch() != s.watched {
		if err := s.tune(); err != nil {
			s.handler.note(Event{Kind: KindSocketLost, Detail: err.Error()})
		}
	}
	return r, s.handler.takeEvents()
}

// tune attaches the filter for what is offered and watched for now. The caller holds the mutex.
func (s *Server) tune() error {
	w := s.handler.watch()
	program, err := s.conn.program(s.handler.offer, s.config.Client, w)
	if err != nil {
		return err
	}
	if err := s.conn.attach(program); err != nil {
		return err
	}
	s.watched = w
	if !w.foreign && s.timer == nil {
		s.timer = time.AfterFunc(foreignPause, s.admitForeign)
	}
	return nil
}

// admitForeign lets DHCP of other MACs through again.
func (s *Server) admitForeign() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	s.handler.foreignLeft = foreignAllowance
	if s.conn == nil {
		return
	}
	if err := s.tune(); err != nil {
		s.log.Warn("filter stays narrow", zap.Error(err))
	}
}

func (s *Server) trouble(kind Kind, err error) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler.stats.SocketErrors++
	s.handler.note(Event{Kind: kind, Detail: err.Error()})
	return s.handler.takeEvents()
}

func (s *Server) sendFailed(err error) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler.stats.SendErrors++
	s.handler.note(Event{Kind: KindSendFailed, Detail: err.Error()})
	return s.handler.takeEvents()
}
