package dhcp

import "time"

// limiter is a token bucket. A guest can make any number of messages and events, and somebody does work for each.
type limiter struct {
	burst  float64 // in a row
	rate   float64 // a second after that
	tokens float64
	last   time.Time
	missed uint64
}

// Events in a row, and events a second after that. A boot with firmware, boot loader and system takes about twenty.
const (
	eventBurst = 100
	eventRate  = 20
)

// Messages of one type that are answered, in a row, and a second after that. No guest needs them; what a flood of one
// type gets beyond it is dropped once its type is known, so that the other types are answered still.
const (
	messageBurst = 1000
	messageRate  = 10_000
)

func newLimiter(burst, rate float64) limiter { return limiter{burst: burst, rate: rate, tokens: burst} }

// allow takes a token. When one is there it also returns how many times none was since the last time.
func (l *limiter) allow(now time.Time) (missed uint64, ok bool) {
	if !l.last.IsZero() {
		l.tokens = min(l.burst, l.tokens+now.Sub(l.last).Seconds()*l.rate)
	}
	l.last = now
	if l.tokens < 1 {
		l.missed++
		return 0, false
	}
	l.tokens--
	missed, l.missed = l.missed, 0
	return missed, true
}
