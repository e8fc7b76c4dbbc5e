package link

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawSocket receives and sends on a socket that does not block, without a word to the Go runtime. For a call that may take
// long the runtime wakes its watching thread (entersyscall and sysmon in runtime/proc.go), which takes the processor from
// a call that does not return in time. These calls return at once. To wake another thread for each message takes longer than
// the answer to it, and is most of what a slow answer waits for (docs/adr/0013).
//
// One goroutine may receive and one may send.
type rawSocket struct {
	conn    syscall.RawConn
	in, out rawCall
}

// rawCall is a call of recvmsg or sendmsg and its result. It is used again, so that a message allocates nothing.
type rawCall struct {
	address unix.RawSockaddrAny
	part    unix.Iovec
	header  unix.Msghdr
	number  uintptr // of the call
	flags   uintptr
	n       int
	errno   syscall.Errno
	run     func(fd uintptr) (done bool)
}

func newRawSocket(conn syscall.Conn) (*rawSocket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &rawSocket{conn: raw, in: rawCall{number: unix.SYS_RECVMSG}, out: rawCall{number: unix.SYS_SENDMSG}}
	for _, c := range []*rawCall{&s.in, &s.out} {
		c.run = func(fd uintptr) bool {
			n, _, errno := unix.RawSyscall(c.number, fd, uintptr(unsafe.Pointer(&c.header)), unix.MSG_DONTWAIT|c.flags)
			c.n, c.errno = int(n), errno
			return errno != unix.EAGAIN // with which the caller waits until there is something to do
		}
	}
	return s, nil
}

func (c *rawCall) prepare(message, control []byte) {
	c.part.Base = unsafe.SliceData(message)
	c.part.SetLen(len(message))
	c.header = unix.Msghdr{Iov: &c.part, Control: unsafe.SliceData(control)}
	c.header.SetIovlen(1)
	c.header.SetControllen(len(control))
}

func (c *rawCall) result(name string, err error) error {
	if err == nil && c.errno != 0 {
		err = os.NewSyscallError(name, c.errno)
	}
	return err
}

// receive waits for a message. The flags and the length of the control messages are those of recvmsg(2).
func (s *rawSocket) receive(message, control []byte) (n, controlLen, flags int, err error) {
	c := &s.in
	c.prepare(message, control)
	c.header.Name, c.header.Namelen = (*byte)(unsafe.Pointer(&c.address)), unix.SizeofSockaddrAny
	if err := c.result("recvmsg", s.conn.Read(c.run)); err != nil {
		return 0, 0, 0, err
	}
	return c.n, int(c.header.Controllen), int(c.header.Flags), nil
}

// sourceIPv4 is who sent what was received last, on a socket of that family.
func (s *rawSocket) sourceIPv4() [4]byte {
	return (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.in.address)).Addr
}

// sourceLink is the same on a packet socket.
func (s *rawSocket) sourceLink() unix.RawSockaddrLinklayer {
	return *(*unix.RawSockaddrLinklayer)(unsafe.Pointer(&s.in.address))
}

// send waits for room and sends a message to the socket's peer.
func (s *rawSocket) send(message []byte) error {
	s.out.prepare(message, nil)
	return s.out.result("sendmsg", s.conn.Write(s.out.run))
}

// sendIPv4 sends a message to an address, with a control message. The port is in network order.
func (s *rawSocket) sendIPv4(message, control []byte, to [4]byte, port uint16) error {
	c := &s.out
	c.prepare(message, control)
	*(*unix.RawSockaddrInet4)(unsafe.Pointer(&c.address)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: to}
	c.header.Name, c.header.Namelen = (*byte)(unsafe.Pointer(&c.address)), unix.SizeofSockaddrInet4
	return c.result("sendmsg", s.conn.Write(c.run))
}

// sourceIPv6 is who sent what was received last, on a socket of that family. The port is in network order.
func (s *rawSocket) sourceIPv6() (address [16]byte, port uint16) {
	a := (*unix.RawSockaddrInet6)(unsafe.Pointer(&s.in.address))
	return a.Addr, a.Port
}

// sendIPv6 sends a message to an address of a link, with a control message and a checksum that the kernel has made: what it
// leaves to hardware is what it takes for all of a datagram (__ip6_append_data), so more is said to follow. The port is in
// network order.
func (s *rawSocket) sendIPv6(message, control []byte, to [16]byte, index int, port uint16) error {
	c := &s.out
	c.prepare(message, control)
	*(*unix.RawSockaddrInet6)(unsafe.Pointer(&c.address)) = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: to, Scope_id: uint32(index)}
	c.header.Name, c.header.Namelen = (*byte)(unsafe.Pointer(&c.address)), unix.SizeofSockaddrInet6
	c.flags = unix.MSG_MORE
	err := c.result("sendmsg", s.conn.Write(c.run))
	c.flags = 0
	if err != nil {
		return err
	}
	return s.send(nil)
}

// cmsgHeader is the header of a control message that begins there.
func cmsgHeader(b []byte) *unix.Cmsghdr { return (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b))) }
