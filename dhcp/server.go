package dhcp

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

// Config is what a Server needs to know.
type Config struct {
	Offer Offer
	// Client is the guest's MAC.
	Client identity.MAC
	// ServerMAC is the source of the frames that the packet socket sends, a locally administered address. It is the answer
	// to ARP for a server identifier that no machine has. With SocketUDP it is not used.
	ServerMAC identity.MAC
	// Link is the name of the tap, or with SocketUDP of the bridge.
	Link string
	// InNamespace runs a function on a thread in the pod's network namespace; nil means that every thread is in it. Only
	// sockets are opened in it.
	InNamespace func(func() error) error
	// Lease is what an earlier process knew of the guest.
	Lease Lease
	// Observe is called for every Event, one after the other, while the guest waits: it must not block, nor call Run. Events that
	// change the lease come as often as the guest makes it change; an observer that writes them to a disk should join them.
	Observe func(Event)
	Log     *zap.Logger
}

// Server serves one guest.
type Server struct {
	*station
	handler *handler
}

// protocol is what a station speaks: packets in, responses and events out, without a socket or a timer of its own. It is not
// safe for concurrent use.
type protocol interface {
	// packet answers a packet. The responses are valid until the next call.
	packet(p link.Packet) []link.Response
	// begin is called when a socket was opened.
	begin()
	// due is when tick wants to be called; zero for never.
	due() time.Time
	// tick does what is due, and what it returns is sent.
	tick() []link.Response
	// service is what a socket is opened for, watch what its filter must let through now besides what is answered, and admit
	// has it let DHCP of other MACs through again.
	service() link.Service
	watch() link.Watch
	admit()
	note(e Event)
	takeEvents() []Event
	// withLease is an event with the lease as it is now.
	withLease(e Event) Event
	counters() *Stats
}

// station keeps a socket on a link for a protocol, and reports what comes of it.
type station struct {
	log   *zap.Logger
	name  string
	link  string
	kind  string // of socket
	ready chan struct{}
	// reporting is held from what causes events until they are reported, so that a later one does not come before. It is
	// taken before mu. Senders hold it.
	reporting   sync.Mutex
	events      limiter
	observe     func(Event)
	inNamespace func(func() error) error
	// listen opens the kind of socket that is configured.
	listen func(name string, of link.Service, w link.Watch) (link.Socket, error)

	mu       sync.Mutex // guards what follows
	protocol protocol
	conn     link.Socket // nil while there is none
	watched  link.Watch  // what the attached filter lets through
	missing  []string    // settings that the open socket does without
	// admitting lets DHCP of other MACs through again, narrowing stops watching for the address.
	// ticking is for what the protocol has to do at the time of awaited.
	admitting, narrowing, ticking *time.Timer
	awaited                       time.Time
}

// foreignPause is for how long DHCP of other MACs is kept away by the filter after foreignAllowance frames of it.
const foreignPause = time.Minute

// narrowDelay is how long the filter goes on watching for the guest's address once that is not needed any more. To
// attach a filter costs the kernel more than a message costs the server, since it is compiled, and a guest may take its
// lease and give it up as fast as it likes.
const narrowDelay = time.Second

// NewServer checks the configuration. It opens nothing: Run does.
func NewServer(c Config) (*Server, error) {
	switch {
	case !c.Offer.Address.IsValid() || !c.Offer.ServerIdentifier.Is4():
		return nil, errors.New("dhcp server: the offer has no address: nothing can be served")
	case c.Client.IsZero():
		return nil, errors.New("dhcp server: the guest's MAC is not known")
	case c.Link == "":
		return nil, errors.New("dhcp server: no link to serve on")
	case c.Offer.Socket != SocketPacket && c.Offer.Socket != SocketUDP:
		return nil, fmt.Errorf("dhcp server: unknown kind of socket %q", c.Offer.Socket)
	case c.Offer.Socket == SocketPacket && c.ServerMAC.IsZero():
		return nil, errors.New("dhcp server: a packet socket needs a MAC to send from")
	}
	listen := link.ListenPacket
	if c.Offer.Socket == SocketUDP {
		listen = link.ListenUDP
	}
	h := newHandler(c.Offer, c.Client, c.ServerMAC, c.Lease, time.Now)
	return &Server{handler: h, station: c.station("dhcp", c.Offer.Socket, h, listen)}, nil
}

// station is what the configuration says of the link and of its observers.
func (c Config) station(protocol, kind string, p protocol, listen func(string, link.Service, link.Watch) (link.Socket, error)) *station {
	if c.InNamespace == nil {
		c.InNamespace = func(f func() error) error { return f() }
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return &station{
		name:        fmt.Sprintf("%s server for %s on %s", protocol, c.Client, c.Link),
		log:         c.Log.With(zap.String("link", c.Link), zap.Stringer("guest", c.Client)),
		link:        c.Link,
		kind:        kind,
		ready:       make(chan struct{}),
		events:      newLimiter(eventBurst, eventRate),
		observe:     c.Observe,
		inNamespace: c.InNamespace,
		listen:      listen,
		protocol:    p,
	}
}

// String names the server for logs.
func (s *station) String() string { return s.name }

// Ready is closed once the socket is open with its filter attached: from then on the guest is heard.
func (s *station) Ready() <-chan struct{} { return s.ready }

// Stats returns a copy of the counters.
func (s *station) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.protocol.counters()
	if s.conn != nil {
		stats.QueueDrops += s.conn.QueueDrops()
	}
	return stats.clone()
}

// Lease returns what is known of the guest's hold on the address.
func (s *Server) Lease() Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handler.lease
}

// Reload makes the server offer something else from the next message on. The kind of socket stays.
func (s *Server) Reload(o Offer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.Socket = s.kind
	s.handler.setOffer(o)
	s.changed()
}

// changed is called when what is offered has changed. The caller holds the mutex.
func (s *station) changed() {
	if s.conn == nil {
		return
	}
	if err := s.tune(s.protocol.watch()); err != nil {
		s.log.Warn("filter of the old offer stays", zap.Error(err))
	}
	s.await()
}
