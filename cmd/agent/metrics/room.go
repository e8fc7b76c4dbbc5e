package metrics

import (
	"io"
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
	// drainTime and drainBytes bound what is read of a client that has its answer.
	drainTime, drainBytes = 500 * time.Millisecond, 64 << 10
)

// room is a listener with room for so many connections. One that comes when it is full is let in, and the one that has
// been there longest without asking anything has to go: a client that asks has its answer, however many there are that
// say nothing, or say it slowly. Whom this process has not listened to yet, since the machine is busy, is not silent.
type room struct {
	listener net.Listener

	mu     sync.Mutex
	here   []*visitor // in the order of their coming
	closed bool
}

// visitor is a connection in the room.
type visitor struct {
	net.Conn
	room *room
	came time.Time
	busy bool // has asked
}

// accept is for one goroutine. Its error is net.ErrClosed once the room is closed.
func (r *room) accept() (*visitor, error) {
	conn, err := r.listener.Accept()
	if err != nil {
		return nil, err
	}
	v := &visitor{Conn: conn, room: r}
	r.makeRoom()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	v.came = time.Now()
	r.here = append(r.here, v)
	return v, nil
}

// close closes the listener and all who are here.
func (r *room) close() {
	r.listener.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, v := range r.here {
		v.Conn.Close()
	}
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

// drain reads what a client still sends that was refused, for a moment: to close a connection on which something was not read
// resets it, and the client loses the answer. Another client may have the place meanwhile.
func (v *visitor) drain() {
	v.room.mu.Lock()
	v.busy = false
	v.room.mu.Unlock()
	if c, ok := v.Conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		_ = v.SetReadDeadline(time.Now().Add(drainTime))
		_, _ = io.CopyN(io.Discard, v, drainBytes)
	}
}

func (v *visitor) Close() error {
	r := v.room
	r.mu.Lock()
	r.here = slices.DeleteFunc(r.here, func(o *visitor) bool { return o == v })
	r.mu.Unlock()
	return v.Conn.Close()
}
