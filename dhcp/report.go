package dhcp

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// report is publish for a caller that does not hold reporting.
func (s *station) report(events []Event) {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.publish(events)
}

// publish hands events to the observer and the log, fewer of them when there are too many.
func (s *station) publish(events []Event) {
	for _, e := range events {
		missed, ok := s.events.allow(e.At)
		if !ok && !e.Changed {
			continue
		}
		e.Suppressed = missed
		s.observe(e)
		if !ok {
			continue
		}
		if entry := s.log.Check(level(e.Kind), string(e.Kind)); entry != nil {
			entry.Write(fields(e)...)
		}
	}
}

// level makes what an operator should act on a warning and what happens once in a boot an information.
func level(k Kind) zapcore.Level {
	switch k {
	case KindPanic, KindDecline:
		return zap.ErrorLevel
	case KindNak, KindForeign, KindRelayed, KindMalformed, KindExpired, KindLeftOut, KindSocketLost, KindSendFailed, KindSetting, KindLinkDown:
		return zap.WarnLevel
	case KindAck, KindBootp, KindReply, KindRelease, KindAddressSeen, KindSocketOpen:
		return zap.InfoLevel
	}
	return zap.DebugLevel
}

func fields(e Event) []zap.Field {
	var all []zap.Field
	if !e.MAC.IsZero() {
		all = append(all, zap.Stringer("mac", e.MAC))
	}
	if e.Address.IsValid() {
		all = append(all, zap.Stringer("address", e.Address))
	}
	if e.Detail != "" {
		all = append(all, zap.String("detail", e.Detail))
	}
	if e.stack != nil {
		all = append(all, zap.ByteString("stack", e.stack))
	}
	if e.Suppressed > 0 {
		all = append(all, zap.Uint64("suppressed", e.Suppressed))
	}
	return all
}
