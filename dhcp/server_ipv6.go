package dhcp

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

// Config6 is what a Server6 needs to know.
type Config6 struct {
	Offer Offer6
	// Before is what an earlier process offered, so that what is not any more can be taken back; nil for none.
	Before *Offer6
	// Client is the guest's MAC, ServerMAC what the server is known by and sends from, Link the name of the tap, or with SocketUDP
	// that of a bridge where there is one.
	Client, ServerMAC identity.MAC
	Link              string
	// InNamespace, Observe and Log are as in Config; events have a Lease6.
	InNamespace func(func() error) error
	Observe     func(Event)
	Log         *zap.Logger
	// Lease is what an earlier process knew of the guest.
	Lease Lease6
	// Asked is called when the guest asks for one of its routers, other than to see that one is still there that answers for
	// itself, and each time when routers advertise unasked at the long interval: it is time to look whether they are where they
	// were. It must not block. nil: nobody wants to know.
	Asked func()
}

// Server6 serves one guest with IPv6: it advertises the pod's routers, hands out its addresses by DHCPv6, and answers
// neighbour solicitations for addresses that nobody else answers for.
type Server6 struct {
	*station
	handler *handler6
}

// NewServer6 checks the configuration. It opens nothing: Run does.
func NewServer6(c Config6) (*Server6, error) {
	switch {
	case len(c.Offer.Addresses) == 0 || len(c.Offer.Routers) == 0:
		return nil, errors.New("dhcpv6 server: the offer has no address: nothing can be served")
	case c.Client.IsZero():
		return nil, errors.New("dhcpv6 server: the guest's MAC is not known")
	case c.Link == "":
		return nil, errors.New("dhcpv6 server: no link to serve on")
	case c.Offer.Socket != SocketPacket && c.Offer.Socket != SocketUDP:
		return nil, fmt.Errorf("dhcpv6 server: unknown kind of socket %q", c.Offer.Socket)
	case c.ServerMAC.IsZero():
		return nil, errors.New("dhcpv6 server: it needs a MAC to be known by")
	}
	listen := link.ListenPacket6
	if c.Offer.Socket == SocketUDP {
		listen = link.ListenUDP6
	}
	h := newHandler6(c.Offer, c.Before, c.Client, c.ServerMAC, c.Lease, time.Now)
	if c.Asked != nil {
		h.asked = c.Asked
	}
	common := Config{Client: c.Client, Link: c.Link, InNamespace: c.InNamespace, Observe: c.Observe, Log: c.Log}
	return &Server6{handler: h, station: common.station("dhcpv6", c.Offer.Socket, h, listen)}, nil
}

// Lease returns what is known of the guest's hold on the addresses.
func (s *Server6) Lease() Lease6 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handler.lease
}

// Reload makes the server offer something else: from the next message on, and by advertisements at once. The kind of socket
// stays.
func (s *Server6) Reload(o Offer6) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.Socket = s.kind
	s.handler.setOffer(o)
	s.handler.begin()
	s.changed()
}

// Warnings are what the operator should know of now, as those of a Server.
func (s *Server6) Warnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	warnings := append([]string(nil), s.missing...)
	h := s.handler
	for _, text := range []string{h.leftOut, h.unsaid} {
		if text != "" {
			warnings = append(warnings, text)
		}
	}
	if h.lease.State == LeaseDeclined {
		warnings = append(warnings, fmt.Sprintf("%s: %s", h.guest[0], declinedText))
	}
	return append(warnings, h.refused.texts()...)
}
