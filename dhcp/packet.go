package dhcp

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/link"
)

// handle answers one packet and reports what came of it. The guest waits neither for whoever observes nor for the filter.
func (s *Server) handle(conn link.Socket, p link.Packet) {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	r, events := s.answer(p)
	var err error
	if r.Message != nil {
		err = send(conn, r)
	}
	s.publish(events)
	if err != nil {
		s.publish(s.sendFailed(err))
	}
	if err := s.retune(); err != nil {
		s.publish(s.trouble(KindSocketLost, err))
	}
}

// A reply that finds the link's queue full is tried so often, with a wait that begins with this and doubles each time. A
// guest that does not read asks again; what else comes in must not wait for long.
const (
	sendTries   = 4
	sendBackoff = time.Millisecond
)

func send(conn link.Socket, r link.Response) error {
	err := conn.Send(r)
	for n := 1; n < sendTries && errors.Is(err, unix.ENOBUFS); n++ {
		time.Sleep(sendBackoff << (n - 1))
		err = conn.Send(r)
	}
	return err
}

// answer runs the handler. A panic costs the packet that caused it: the guest's network must not depend on the handler
// being right about every packet that a guest can think of.
func (s *Server) answer(p link.Packet) (r link.Response, events []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if cause := recover(); cause != nil {
			s.handler.stats.Panics++
			s.handler.takeEvents()
			r, events = link.Response{}, []Event{{
				Kind: KindPanic, At: time.Now(), Lease: s.handler.lease, Detail: fmt.Sprint(cause), stack: debug.Stack(),
			}}
		}
	}()
	r = s.handler.packet(p)
	s.await()
	return r, s.handler.takeEvents()
}

// retune attaches another filter if the handler needs one now, or soon where that can wait.
func (s *Server) retune() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.handler.watch()
	if s.watched.Address && !w.Address {
		w.Address = true
		if s.narrowing == nil {
			s.narrowing = time.AfterFunc(narrowDelay, s.narrow)
		}
	}
	if w == s.watched {
		return nil
	}
	return s.tune(w)
}

// await has the lease end when its time is over. The caller holds the mutex.
func (s *Server) await() {
	l := s.handler.lease
	if l.State != LeaseBound || l.Expires.IsZero() || l.Expires.Equal(s.awaited) {
		return // a timer for another time finds nothing to do
	}
	s.awaited = l.Expires
	if left := time.Until(l.Expires); s.expiring == nil {
		s.expiring = time.AfterFunc(left, s.expire)
	} else {
		s.expiring.Reset(left)
	}
}

func (s *Server) expire() {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.mu.Lock()
	if s.conn == nil {
		s.mu.Unlock()
		return
	}
	s.handler.expire()
	events := s.handler.takeEvents()
	if len(events) > 0 {
		if err := s.tune(s.handler.watch()); err != nil {
			s.log.Warn("filter stays narrow", zap.Error(err))
		}
	}
	s.mu.Unlock()
	s.publish(events)
}

// tune attaches the filter for what is offered now and what is to be watched for. The caller holds the mutex.
func (s *Server) tune(w link.Watch) error {
	program, err := s.conn.Program(s.handler.service(), w)
	if err != nil {
		return err
	}
	if err := s.conn.Attach(program); err != nil {
		return err
	}
	s.watched = w
	if !w.Foreign && s.admitting == nil {
		s.admitting = time.AfterFunc(foreignPause, s.admitForeign)
	}
	return nil
}

// narrow ends the watch for the guest's address if it is still not needed.
func (s *Server) narrow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.narrowing = nil
	if s.conn == nil || s.handler.watch().Address {
		return
	}
	if err := s.tune(s.handler.watch()); err != nil {
		s.log.Warn("filter stays wide", zap.Error(err))
	}
}

// admitForeign lets DHCP of other MACs through again.
func (s *Server) admitForeign() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitting = nil
	s.handler.foreignLeft = foreignAllowance
	if s.conn == nil {
		return
	}
	if err := s.tune(s.handler.watch()); err != nil {
		s.log.Warn("filter stays narrow", zap.Error(err))
	}
}

// stopTimers ends what waits to change the filter. The caller holds the mutex.
func (s *Server) stopTimers() {
	for _, timer := range []**time.Timer{&s.admitting, &s.narrowing, &s.expiring} {
		if *timer != nil {
			(*timer).Stop()
			*timer = nil
		}
	}
	s.awaited = time.Time{}
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
