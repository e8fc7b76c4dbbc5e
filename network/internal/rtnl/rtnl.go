package rtnl

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Conn is one netlink socket in one namespace with one buffer, used for every request: opening a socket for each, or a
// buffer for each answer, costs more than the requests themselves. Its protocol is rtnetlink unless its maker says
// otherwise. Not for use by several goroutines.
type Conn struct {
	fd     int
	seq    uint32
	buffer *[bufferSize]byte
	// Before, if set, is called before each request that changes something. Tests die in it.
	Before func()

	// Remembers says that what was dumped is taken for what there is until a change of ours, or Forget: what is read of the
	// namespace for one interface is the same for the next, and most of what an inspection costs.
	Remembers bool
	dumps     map[string][][]byte // what was dumped, by request
	lenient   bool                // what is read stays where it is, and need not be put back
}

// namespace is where a socket is opened.
type namespace interface {
	Do(f func() error) error
	String() string
}

// Open opens a socket of rtnetlink in a namespace.
func Open(ns namespace) (r *Conn, err error) {
	err = ns.Do(func() (err error) {
		r, err = OpenHere(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket in %s: %w", ns, err)
	}
	return r, nil
}

// bufferSize holds what the kernel sends at once: it makes the parts of a dump no larger, whatever is asked of it
// (netlink_dump and netlink_recvmsg in net/netlink/af_netlink.c). A single object is far smaller.
const bufferSize = 32 << 10

// buffers are those of sockets that were closed.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// OpenHere opens a socket in the calling thread's namespace.
func OpenHere(protocol int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	r := &Conn{fd: fd, buffer: buffers.Get().(*[bufferSize]byte)}
	timeout := unix.Timeval{Sec: 10} // the kernel answers at once; only its RTNL lock can keep a request waiting
	if err := errors.Join(
		unix.Bind(r.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout),
		unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
	); err != nil {
		r.Close()
		return nil, fmt.Errorf("set it up: %w", err)
	}
	// Extended acknowledgements carry the kernel's own sentence about what it refused. Kernels have them since 4.12.
	_ = unix.SetsockoptInt(r.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	return r, nil
}

// Close closes the socket.
func (r *Conn) Close() {
	_ = closeNow(func() error { return unix.Close(r.fd) })
	buffers.Put(r.buffer)
}

// closeNow closes what nobody else shall hold any more when it returns. A child that another thread is starting has every
// descriptor until it executes; syscall.ForkLock tells of it, but for the moment in which the kernel closes what the program
// shall not have (fs/exec.c, begin_new_exec).
func closeNow(file func() error) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return file()
}

// Do sends a request that changes something and waits for the acknowledgement.
func (r *Conn) Do(command, flags int, data ...nl.NetlinkRequestData) error {
	r.Forget()
	if r.Before != nil {
		r.Before()
	}
	_, err := r.exchange(command, flags|unix.NLM_F_ACK, 0, data)
	return err
}

// Get asks for one object.
func (r *Conn) Get(command int, answer uint16, data ...nl.NetlinkRequestData) ([]byte, error) {
	messages, err := r.exchange(command, unix.NLM_F_ACK, answer, data)
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("the kernel answered with %d objects", len(messages))
	}
	return messages[0], nil
}

// dumpAttempts bounds how often a dump is repeated that the kernel says was interrupted by a change. Each takes well
// under a millisecond, and a namespace that changes without pause is not one to rewire.
const dumpAttempts = 20

// errInterrupted says that a dump may lack objects.
var errInterrupted = errors.New("the dump was interrupted by a change")

// Forget has everything read anew.
func (r *Conn) Forget() { r.dumps = nil }

// Dump reads all objects of one kind. A dump that a change interrupted may lack objects (NLM_F_DUMP_INTR), so it is
// repeated: duplicate address detection that ends just after a change of our own is enough to cause it.
func (r *Conn) Dump(command int, answer uint16, data ...nl.NetlinkRequestData) ([][]byte, error) {
	request := fmt.Sprint(command)
	for _, d := range data {
		request += " " + string(d.Serialize())
	}
	if known, there := r.dumps[request]; there {
		return known, nil
	}
	for range dumpAttempts {
		messages, err := r.exchange(command, unix.NLM_F_DUMP, answer, data)
		if errors.Is(err, errInterrupted) {
			continue
		}
		if err == nil && r.Remembers {
			if r.dumps == nil {
				r.dumps = make(map[string][][]byte)
			}
			r.dumps[request] = messages
		}
		return messages, err
	}
	return nil, fmt.Errorf("the namespace changed during each of %d dumps: something reconfigures it without pause", dumpAttempts)
}

// exchange sends a request and collects the answers of one type, up to the message that ends them: an acknowledgement or
// an error, or, of a dump, NLMSG_DONE.
func (r *Conn) exchange(command, flags int, answer uint16, data []nl.NetlinkRequestData) (messages [][]byte, err error) {
	req := nl.NewNetlinkRequest(command, flags)
	for _, d := range data {
		req.AddData(d)
	}
	r.seq++
	req.Seq = r.seq
	if err := IgnoringEINTR(func() error {
		return unix.Sendto(r.fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}); err != nil {
		return nil, err
	}
	interrupted := false
	for {
		b, err := r.receive()
		if err != nil {
			return nil, err
		}
		received, err := syscall.ParseNetlinkMessage(b)
		if err != nil {
			return nil, fmt.Errorf("decode netlink messages: %w", err)
		}
		for _, m := range received {
			if m.Header.Seq != r.seq {
				continue // of a request that was given up
			}
			interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Header.Type {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				if err := kernelError(m); err != nil || !interrupted {
					return messages, err
				}
				return nil, errInterrupted
			case answer:
				messages = append(messages, slices.Clone(m.Data)) // the buffer is used again
			}
		}
	}
}

// receive reads what the kernel has sent.
func (r *Conn) receive() (b []byte, err error) {
	var n int
	var from unix.Sockaddr
	err = IgnoringEINTR(func() (err error) {
		n, from, err = unix.Recvfrom(r.fd, r.buffer[:], unix.MSG_TRUNC) // tells the size of what was sent
		return err
	})
	if err != nil {
		return nil, err
	}
	if n > len(r.buffer) {
		return nil, fmt.Errorf("the kernel sent %d bytes at once, and no more than %d are expected", n, len(r.buffer))
	}
	if s, ok := from.(*unix.SockaddrNetlink); !ok || s.Pid != 0 {
		return nil, nil // from another process
	}
	return r.buffer[:n], nil
}

// IgnoringEINTR calls again what a signal interrupted.
func IgnoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// kernelError is the error of a message that ends an answer, with the kernel's own sentence about it if there is one.
func kernelError(m syscall.NetlinkMessage) error {
	errno := int32(u32(m.Data))
	if errno == 0 {
		return nil
	}
	err := error(unix.Errno(-errno))
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 || len(m.Data) < 4+unix.SizeofNlMsghdr {
		return err
	}
	// struct nlmsgerr: the number, then the header of the request or all of it, then attributes.
	rest := m.Data[4+unix.SizeofNlMsghdr:]
	if m.Header.Flags&unix.NLM_F_CAPPED == 0 {
		rest = m.Data[min(len(m.Data), 4+int(u32(m.Data[4:])+3)&^3):]
	}
	if attrs, e := attributes(rest); e == nil && len(attrs.get(nl.NLMSGERR_ATTR_MSG)) > 0 {
		err = fmt.Errorf("%w: %s", err, text(attrs.get(nl.NLMSGERR_ATTR_MSG)))
	}
	return err
}
