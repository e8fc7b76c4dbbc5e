package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/drop"
)

// boundSocket is a UDP socket of one link, which is closed when that is gone. It needs no capability.
type boundSocket struct {
	conn *net.UDPConn
	raw  *rawSocket // of conn
	link string

	index    int
	bell     bell
	watching sync.WaitGroup
	gone     atomic.Bool // the link was deleted
}

// option is one of a socket: level, name and value.
type option struct{ level, name, value int }

// listenBound opens a socket in the namespace of the calling thread, with options and filter.
func listenBound(network, link string, port int, program []bpf.RawInstruction, options ...option) (*boundSocket, error) {
	// Before the link is looked up, so that its end is not missed.
	links, err := listenLinks()
	if err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) {
			// KubeVirt's own server of another interface binds the port of all devices, with the same option, and ends the
			// launcher if it may not. The kernel prefers the socket of the device, so each hears its own guest
			// (udp_lib_lport_inuse and compute_score in net/ipv4/udp.c).
			options := append([]option{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}}, options...)
			for _, o := range options {
				if err = unix.SetsockoptInt(int(fd), o.level, o.name, o.value); err != nil {
					err = fmt.Errorf("set the option %d of level %d: %w", o.name, o.level, os.NewSyscallError("setsockopt", err))
					return
				}
			}
			// Since Linux 5.7 a socket that is not bound to a device yet may be bound to one by anybody.
			if err = unix.BindToDevice(int(fd), link); err != nil {
				err = fmt.Errorf("bind to device %s: %w", link, err)
				return
			}
			err = AttachFilter(int(fd), program)
		})
		return errors.Join(controlErr, err)
	}}
	conn, err := config.ListenPacket(context.Background(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		links.close()
		if errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("open UDP socket on %s: %w (net.ipv4.ip_unprivileged_port_start must be at most 67)", link, err)
		}
		return nil, fmt.Errorf("open UDP socket on %s: %w", link, err)
	}
	s := &boundSocket{conn: conn.(*net.UDPConn), link: link, bell: links}
	if s.raw, err = newRawSocket(s.conn); err == nil {
		// The index that the socket is bound to: another link may have the name by now.
		err = s.control(func(fd int) error {
			s.index, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
			return err
		})
	}
	if err != nil {
		s.conn.Close()
		links.close()
		return nil, fmt.Errorf("look up %s: %w", link, err)
	}
	s.watching.Go(s.watch)
	return s, nil
}

func (s *boundSocket) control(call func(fd int) error) error { return controlSocket(s.conn, call) }

// watch closes the socket when its link is gone.
func (s *boundSocket) watch() {
	for {
		if exists, _ := linkState(s.index, s.control); !exists {
			s.gone.Store(true)
			s.conn.Close()
			return
		}
		if s.bell.wait() != nil {
			return
		}
	}
}

// AttachFilter puts a program in the place of the filter that a socket has.
func AttachFilter(fd int, program []bpf.RawInstruction) error {
	instructions := make([]unix.SockFilter, len(program))
	for i, p := range program {
		instructions[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{
		Len: uint16(len(instructions)), Filter: &instructions[0],
	}))
}

// receive waits for a datagram.
func (s *boundSocket) receive(message, control []byte) (n, controlLen int, err error) {
	n, controlLen, flags, err := s.raw.receive(message, control)
	switch {
	case err != nil && s.gone.Load():
		return 0, 0, fmt.Errorf("receive on %s: the link is gone", s.link)
	case errors.Is(err, unix.ENETDOWN):
		return 0, 0, ErrDown
	case err != nil:
		return 0, 0, fmt.Errorf("receive on %s: %w", s.link, err)
	case flags&unix.MSG_TRUNC != 0:
		return 0, 0, drop.Oversized
	}
	return n, controlLen, nil
}

func (s *boundSocket) Attach(program []bpf.RawInstruction) error {
	if err := s.control(func(fd int) error { return AttachFilter(fd, program) }); err != nil {
		return fmt.Errorf("attach filter to UDP socket on %s: %w", s.link, err)
	}
	return nil
}

// QueueDrops is not known: the kernel counts what the filter stops among the drops of a UDP socket.
func (s *boundSocket) QueueDrops() uint64 { return 0 }

func (s *boundSocket) Close() {
	s.conn.Close()
	s.bell.close()
	s.watching.Wait()
}
