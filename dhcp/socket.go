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
	// answer gives a packet to the part of the handler that understands it.
	answer(h *handler, p packet) response
	send(r response) error
	// program is the filter that the socket needs, attach puts it in the place of the one it has.
	program(o Offer, client identity.MAC, w watch) ([]bpf.RawInstruction, error)
	attach(program []bpf.RawInstruction) error
	// queueDrops is how many packets the kernel dropped since the last call because the queue was full.
	queueDrops() uint64
	// missing names the settings of the namespace that the socket needs and does not find.
	missing() []string
	close()
}

// packet is what a socket received; data is valid until the next call of receive.
type packet struct {
	data   []byte
	source netip.Addr    // of a datagram
	sum    checksumState // of a frame
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
