package dhcp

import "time"

// limiter is a token bucket for events. A guest can make any number of them, and whoever observes them does work for each.
type limiter struct {
	tokens float64
	last   time.Time
	missed uint64
}

// Events in a row, and events a second after that. A boot with firmware, boot loader and system takes about twenty.
const (
	limiterBurst = 100
	limiterRate  = 20
)

func newLimiter() limiter { return limiter{tokens: limiterBurst} }

// allow takes a token. When one is there it also returns how many times none was since the last time.
func (l *limiter) allow(now time.Time) (missed uint64, ok bool) {
	if !l.last.IsZero() {
		l.tokens = min(limiterBurst, l.tokens+now.Sub(l.last).Seconds()*limiterRate)
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
