package network

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/podnic/podnic/network/holding"
	"github.com/podnic/podnic/network/internal/rtnl"
	"golang.org/x/sys/unix"
)

// Two locks exclude others from a namespace (docs/adr/0024-a-lock-that-takes-a-capability.md).
//
// The claim is a group of the namespace's packet log (nfnetlink_log), to which one netlink socket at a time can be bound.
// It requires CAP_NET_ADMIN in the namespace, shows in no ruleset, costs one request, and ends with the socket. Its holder is
// alone among podnics of this version, whatever a process without the capability does.
//
// flock on the inode of the namespace is what podnics before the claim have, and tells, by /proc/locks, which process
// works there. Any process that may open /proc/PID/ns/net can hold it too, so podnic does without where its holder is certain
// not to be a podnic at work.

// claimGroup is the group: "pn". One that something else uses is not seen to be free.
const claimGroup = 0x706e

const (
	// lockPoll is how often a lock that somebody holds is asked for again. flock(2) has no time limit of its own, and a
	// thread that waits inside it cannot be called back; of a claim that ends the kernel tells nobody.
	lockPoll = 5 * time.Millisecond
	// lockGrace is how long flock may be held before anybody asks by whom: what a podnic does takes less.
	lockGrace = 200 * time.Millisecond
)

// Lock excludes every other podnic that would change this namespace, in this pod or on its node, until the returned
// function is called or the process ends. It requires CAP_NET_ADMIN, and waits for at most the given time. The warning, if
// there is one, names who else holds flock on the namespace, for nothing.
func (n *Namespace) Lock(ctx context.Context, wait time.Duration) (unlock func(), warning string, err error) {
	l := &locking{ns: n, wait: wait, judged: time.Now().Add(min(lockGrace, wait/2))}
	err = n.Do(func() (err error) { l.socket, err = rtnl.OpenHere(unix.NETLINK_NETFILTER); return err })
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT): // nor has it nfnetlink
		l.noClaim = true
	case err != nil:
		return nil, "", fmt.Errorf("lock %s: open a netlink socket: %w", n, err)
	}
	if warning, err = l.take(ctx); err != nil {
		l.release()
		return nil, "", err
	}
	return func() {
		_ = unix.Flock(int(n.file.Fd()), unix.LOCK_UN) // first, or the next holder of the claim would wait for it
		l.release()
	}, warning, nil
}

// release gives the claim back.
func (l *locking) release() {
	if l.socket != nil {
		l.socket.Close()
	}
}

// locking is a lock on its way.
type locking struct {
	ns      *Namespace
	socket  *rtnl.Conn // nil where the kernel has no nfnetlink
	wait    time.Duration
	claimed bool
	noClaim bool      // the kernel has none
	judged  time.Time // when to ask next who holds flock
}

func (l *locking) take(ctx context.Context) (warning string, err error) {
	// Most often it is free. Timers are made only where it is not, since the first wakes a thread for the runtime's poller.
	if locked, err := l.try(); locked || err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		locked, err := l.try()
		if locked || err != nil {
			return "", err
		}
		if l.claimed && !time.Now().Before(l.judged) {
			if warning, ok := l.without(); ok {
				return warning, nil
			}
			l.judged = time.Now().Add(lockGrace)
		}
		select {
		case <-ctx.Done():
			if warning, ok := l.without(); ok {
				return warning, nil
			}
			return "", l.busy()
		case <-tick.C:
		}
	}
}

// try takes what is missing of the two.
func (l *locking) try() (bool, error) {
	if !l.claimed && !l.noClaim {
		var err error
		l.claimed, err = l.socket.Claim(claimGroup)
		switch {
		case errors.Is(err, rtnl.ErrNoClaims):
			l.noClaim = true
		case err != nil:
			return false, fmt.Errorf("lock %s: %w", l.ns, err)
		case !l.claimed:
			return false, nil
		}
	}
	err := rtnl.IgnoringEINTR(func() error { return unix.Flock(int(l.ns.file.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return false, fmt.Errorf("lock %s: %w", l.ns, err)
	}
	return err == nil, nil
}

// without reports whether the claim is enough: the holder of flock is known, and is not a podnic at work. A podnic at work holds
// it alone, so one other is proof.
func (l *locking) without() (warning string, ok bool) {
	if !l.claimed {
		return "", false
	}
	for _, h := range holding.OfLock(l.ns) {
		if h.Idle == "" {
			continue
		}
		if locked, err := l.try(); locked || err != nil { // it was let go of meanwhile
			return "", locked
		}
		return fmt.Sprintf("%s holds the lock of %s and is not podnic, since %s: podnic did not wait for it. A second lock, which requires CAP_NET_ADMIN, keeps other podnics out, but not one that is too old to take it; end that process", h, l.ns, h.Idle), true
	}
	return "", false
}

// busy names the processes that are waited for, as far as they can be seen.
func (l *locking) busy() error {
	var names []string
	var idle *holding.Lock
	for _, h := range holding.OfLock(l.ns) {
		if h.Idle == "" {
			names = append(names, h.String())
		} else {
			idle = &h
		}
	}
	switch {
	case idle != nil && l.noClaim:
		return busy("%s holds the lock of %s and is not podnic, since %s: end that process (%w, which would let podnic go on without it)", idle, l.ns, idle.Idle, rtnl.ErrNoClaims)
	case len(names) > 0:
		return busy("another podnic is changing %s (%s) and has not finished after %v: wait for it, or allow more with --lock-timeout", l.ns, strings.Join(names, ", "), l.wait)
	case l.claimed || l.noClaim:
		return busy("a process that cannot be seen from here holds the lock of %s after %v, and may be another podnic, in another container or on the node: wait for it, or allow more with --lock-timeout; on the node, /proc/locks names who holds %s", l.ns, l.wait, holding.Place(l.ns))
	}
	return busy("another podnic is changing %s, maybe in another container or on the node, and has not finished after %v: wait for it, or allow more with --lock-timeout", l.ns, l.wait)
}
