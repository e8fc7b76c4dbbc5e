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

// handle answers one packet and reports what came of it. The guest waits neither for observers nor for the filter.
func (s *station) handle(conn link.Socket, p link.Packet) {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	responses, events := s.guard(func() []link.Response { return s.protocol.packet(p) })
	s.deliver(conn, responses, events)
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

// deliver sends, and then reports. The caller holds reporting.
func (s *station) deliver(conn link.Socket, responses []link.Response, events []Event) {
	var failed error
	for _, r := range responses {
		if err := send(conn, r); err != nil {
			failed = err
			break
		}
	}
	s.publish(events)
	if failed != nil {
		s.publish(s.sendFailed(failed))
	}
}

// guard runs the protocol. A panic costs the packet that caused it: the guest's network must not depend on the handler
// being right about every packet that a guest can think of.
func (s *station) guard(run func() []link.Response) (responses []link.Response, events []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if cause := recover(); cause != nil {
			s.protocol.counters().Panics++
			s.protocol.takeEvents()
			responses, events = nil, []Event{s.protocol.withLease(Event{
				Kind: KindPanic, At: time.Now(), Detail: fmt.Sprint(cause), stack: debug.Stack(),
			})}
		}
	}()
	responses = run()
	s.await()
	return responses, s.protocol.takeEvents()
}

// retune attaches another filter if the handler needs one now, or soon where that can wait.
func (s *station) retune() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.protocol.watch()
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

// await has the protocol called when something is due. The caller holds the mutex.
func (s *station) await() {
	due := s.protocol.due()
	if due.IsZero() || due.Equal(s.awaited) {
		return // a timer for another time finds nothing to do
	}
	s.awaited = due
	if left := time.Until(due); s.ticking == nil {
		s.ticking = time.AfterFunc(left, s.tick)
	} else {
		s.ticking.Reset(left)
	}
}

func (s *station) tick() {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return
	}
	responses, events := s.guard(s.protocol.tick)
	if len(events) > 0 {
		s.mu.Lock()
		if s.conn != nil {
			if err := s.tune(s.protocol.watch()); err != nil {
				s.log.Warn("filter stays narrow", zap.Error(err))
			}
		}
		s.mu.Unlock()
	}
	s.deliver(conn, responses, events)
}

// tune attaches the filter for what is offered now and what is to be watched for. The caller holds the mutex.
func (s *station) tune(w link.Watch) error {
	program, err := s.conn.Program(s.protocol.service(), w)
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
func (s *station) narrow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.narrowing = nil
	if s.conn == nil || s.protocol.watch().Address {
		return
	}
	if err := s.tune(s.protocol.watch()); err != nil {
		s.log.Warn("filter stays wide", zap.Error(err))
	}
}

// admitForeign lets DHCP of other MACs through again.
func (s *station) admitForeign() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitting = nil
	s.protocol.admit()
	if s.conn == nil {
		return
	}
	if err := s.tune(s.protocol.watch()); err != nil {
		s.log.Warn("filter stays narrow", zap.Error(err))
	}
}

// stopTimers ends what waits to change the filter. The caller holds the mutex.
func (s *station) stopTimers() {
	for _, timer := range []**time.Timer{&s.admitting, &s.narrowing, &s.ticking} {
		if *timer != nil {
			(*timer).Stop()
			*timer = nil
		}
	}
	s.awaited = time.Time{}
}

func (s *station) trouble(kind Kind, err error) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.protocol.counters().SocketErrors++
	s.protocol.note(Event{Kind: kind, Detail: err.Error()})
	return s.protocol.takeEvents()
}

func (s *station) sendFailed(err error) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.protocol.counters().SendErrors++
	s.protocol.note(Event{Kind: KindSendFailed, Detail: err.Error()})
	return s.protocol.takeEvents()
}
