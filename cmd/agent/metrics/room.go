package metrics

import (
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// maxConnections is how many are open at once.
	maxConnections = 64
	// stay is how long each has at least to ask, however many come. So 1,280 a second come in, and the 4,096 that the kernel
	// keeps in its queue at most (net.core.somaxconn) all within four seconds; Prometheus waits for ten.
	stay = 50 * time.Millisecond
)

// room is a listener with room for so many connections. One that comes when it is full is let in, and the one that has
// been there longest without asking anything has to go: a client that asks has its answer, however many there are that
// say nothing, or say it slowly. Whom this process has not listened to yet, since the machine is busy, is not silent.
type room struct {
	net.Listener

	mu   sync.Mutex
	here []*visitor // in the order of their coming
}

// visitor is a connection in the room.
type visitor struct {
	net.Conn
	room *room
	came time.Time
	busy bool // has asked
}

// Accept is for one goroutine.
func (r *room) Accept() (net.Conn, error) {
	conn, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	v := &visitor{Conn: conn, room: r}
	r.makeRoom()
	r.mu.Lock()
	v.came = time.Now()
	r.here = append(r.here, v)
	r.mu.Unlock()
	return v, nil
}

func (r *room) makeRoom() {
	for {
		r.mu.Lock()
		if len(r.here) < maxConnections {
			r.mu.Unlock()
			return
		}
		// Where all have asked, it is one that does not read the answer.
		first := r.here[max(0, slices.IndexFunc(r.here, func(v *visitor) bool { return !v.busy && !v.unheard() }))]
		left := stay - time.Since(first.came)
		r.mu.Unlock()
		if left <= 0 {
			first.Close()
			return
		}
		time.Sleep(left)
	}
}

// asked says that the connection has sent its request.
func (v *visitor) asked() {
	v.room.mu.Lock()
	v.busy = true
	v.room.mu.Unlock()
}

// unheard reports whether the client has sent something that was not read yet.
func (v *visitor) unheard() (unheard bool) {
	c, ok := v.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) { // fails on a connection that is closed, which says nothing any more
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		unheard = err == nil && n > 0
	})
	return unheard
}

// CloseWrite is what net/http looks for, so that a client which is refused can read why.
func (v *visitor) CloseWrite() error {
	if c, ok := v.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

func (v *visitor) Close() error {
	r := v.room
	r.mu.Lock()
	r.here = slices.DeleteFunc(r.here, func(o *visitor) bool { return o == v })
	r.mu.Unlock()
	return v.Conn.Close()
}
