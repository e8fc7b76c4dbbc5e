package link

import (
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/net/bpf"

	"github.com/podnic/podnic/network/identity"
)

// Socket is one of the two ways in which the server hears the guest. Only Receive blocks; it returns an error once the
// socket is closed, which may happen from another goroutine. The kernel's filter is attached before the first packet is
// queued.
type Socket interface {
	Receive() (Packet, error)
	Send(r Response) error
	// Program is the filter that the socket needs, Attach puts it in the place of the one it has.
	Program(s Service, w Watch) ([]bpf.RawInstruction, error)
	Attach(program []bpf.RawInstruction) error
	// QueueDrops is how many packets the kernel dropped since the last call because the queue was full.
	QueueDrops() uint64
	// LackingSettings names the settings of the namespace that the socket needs and does not find.
	LackingSettings() []string
	Close()
}

// Service is what a socket is opened for: whom it hears and what is answered.
type Service struct {
	Client  identity.MAC
	Address netip.Addr // the guest's
	Server  netip.Addr // what datagrams are sent from
	Finite  bool       // leases end
	Answers []ARPSet

	// Of a server of IPv6: the guest's addresses, and those whose neighbour solicitations are answered.
	Addresses6, Answers6 []netip.Addr
	// Routers6 answer for themselves; a guest that asks all stations for one of them has lost it.
	Routers6 []netip.Addr
}

// ARPSet is a set of addresses that ARP requests are answered for.
type ARPSet struct {
	Destination netip.Prefix
	Except      []netip.Prefix // those that answer for themselves
}

// Packet is what a socket received; data is valid until the next call of Receive.
type Packet struct {
	Data   []byte
	Source netip.Addr    // of a datagram; not valid of a frame
	Sum    ChecksumState // of a frame
}

// Response is a reply and where it goes: the zero address means every station, any other one the client's MAC, since
// before the client has an address it can be reached in no other way (RFC 2131 §4.1).
type Response struct {
	Message []byte
	To      netip.Addr
	// Configured: the client says that it has the address already, so it answers ARP for it.
	Configured bool
}

// bufferSize is enough for every request: an Ethernet frame, with some room. What is larger is dropped, not read in part.
const bufferSize = 2048

// ErrDown is returned by Receive when the link went down. The socket stays usable and goes on when the link is up.
var ErrDown = errors.New("link is down")

// controlSocket runs a call on the descriptor of a socket and returns the call's error.
func controlSocket(conn syscall.Conn, call func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	if err := raw.Control(func(fd uintptr) { callErr = call(int(fd)) }); err != nil {
		return err
	}
	return callErr
}
