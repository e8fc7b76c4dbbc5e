package dhcp

import (
	"errors"
	"net/netip"
	"syscall"

	"golang.org/x/net/bpf"

	"github.com/podnic/podnic/network/identity"
)

// socket is one of the two ways in which the server hears the guest. Only receive blocks; it returns an error once the
// socket is closed, which may happen from another goroutine. The kernel's filter is attached before the first packet is
// queued.
type socket interface {
	receive() (packet, error)
	send(r response) error
	// program is the filter that the socket needs, attach puts it in the place of the one it has.
	program(s service, w watch) ([]bpf.RawInstruction, error)
	attach(program []bpf.RawInstruction) error
	// queueDrops is how many packets the kernel dropped since the last call because the queue was full.
	queueDrops() uint64
	// missing names the settings of the namespace that the socket needs and does not find.
	missing() []string
	close()
}

// service is what a socket is opened for: whom it hears and what is answered.
type service struct {
	client  identity.MAC
	address netip.Addr // the guest's
	server  netip.Addr // what datagrams are sent from
	finite  bool       // leases end
	answers []arpSet
}

// arpSet is a set of addresses that ARP requests are answered for.
type arpSet struct {
	destination netip.Prefix
	except      []netip.Prefix
}

// packet is what a socket received; data is valid until the next call of receive.
type packet struct {
	data   []byte
	source netip.Addr    // of a datagram; not valid of a frame
	sum    checksumState // of a frame
}

// response is a reply and where it goes: the zero address means every station, any other one the client's MAC, since
// before the client has an address it can be reached in no other way (RFC 2131 §4.1).
type response struct {
	message []byte
	to      netip.Addr
	// configured: the client says that it has the address already, so it answers ARP for it.
	configured bool
}

// bufferSize is enough for every request: an Ethernet frame, with some room. What is larger is dropped, not read in part.
const bufferSize = 2048

// errLinkDown is returned by receive when the link went down. The socket stays usable and goes on when the link is up.
var errLinkDown = errors.New("link is down")

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
