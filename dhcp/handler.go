package dhcp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// handler is the server without its socket: messages in, replies and events out. It is not safe for concurrent use, and
// what it returns is valid until the next call.
type handler struct {
	client    identity.MAC
	serverMAC identity.MAC
	now       func() time.Time

	offer  Offer
	params parameters
	// bootParams are those of firmware, where its mask is another one.
	bootParams parameters
	lease      Lease
	heard      bool // a frame of the guest was read
	// LeftOut is what did not fit into the last reply; empty when all did.
	leftOut string
	// declined: the guest found its address in use, and has not taken it since.
	declined bool
	// refused are the requests that were relayed or malformed.
	refused refusals
	stats   Stats

	exchange Exchange // the message at hand, as far as it is known
	dropped  error    // why it is not answered; nil if it is, or wants no answer
	events   []Event
	reported Lease // the lease of the last event

	// foreignLeft is how many more frames of other MACs are looked at before the filter keeps them away for a while.
	foreignLeft int
	// paces are by message type, 0 of BOOTP; arpPace is of ARP.
	paces   [dhcpv4.MessageTypeInform + 1]limiter
	arpPace limiter

	// Memory that is used again for every message.
	request v4.Message
	options []v4.Option
	reply   []byte
	frame   []byte
	// responses is what packet returns.
	responses [1]link.Response
}

// foreignAllowance is how many frames of other MACs are looked at in a row. A client that keeps asking shows itself with
// fewer, a flood gets no further.
const foreignAllowance = 8

func newHandler(offer Offer, client, serverMAC identity.MAC, lease Lease, now func() time.Time) *handler {
	h := &handler{
		client:      client,
		serverMAC:   serverMAC,
		now:         now,
		lease:       lease.At(now()),
		stats:       newStats(),
		foreignLeft: foreignAllowance,
		arpPace:     newLimiter(messageBurst, messageRate),
	}
	for i := range h.paces {
		h.paces[i] = newLimiter(messageBurst, messageRate)
	}
	h.setOffer(offer)
	h.reported = h.lease
	return h
}

func (h *handler) setOffer(offer Offer) {
	h.offer = offer
	h.params, h.bootParams = newParameters(offer), newParameters(offer.forBoot())
	h.lease = h.lease.of(offer.Address.Addr())
}

// watch is what the socket's filter must let through now, besides what is answered.
func (h *handler) watch() link.Watch {
	return link.Watch{Address: !h.lease.InUse(), Foreign: h.foreignLeft > 0}
}

// service is what a socket is opened for.
func (h *handler) service() link.Service { return h.offer.service(h.client) }

// packet answers what a socket received.
func (h *handler) packet(p link.Packet) []link.Response {
	var r link.Response
	if p.Source.IsValid() {
		r = h.datagram(p.Data, p.Source)
	} else {
		r.Message = h.ethernet(p.Data, p.Sum)
	}
	if r.Message == nil {
		return nil
	}
	h.responses[0] = r
	return h.responses[:]
}

func (h *handler) begin() {}

// due is when the lease ends.
func (h *handler) due() time.Time {
	if h.lease.State != LeaseBound {
		return time.Time{}
	}
	return h.lease.Expires
}

func (h *handler) tick() []link.Response {
	h.expire()
	return nil
}

func (h *handler) admit() { h.foreignLeft = foreignAllowance }

func (h *handler) counters() *Stats { return &h.stats }

// datagram answers the payload of a UDP datagram to port 67. source is the sender's address, maybe 0.0.0.0. A response
// without a message is none.
func (h *handler) datagram(payload []byte, source netip.Addr) link.Response {
	h.exchange = Exchange{Outcome: OutcomeNoted}
	r, err := h.answer(payload, source)
	if h.dropped = err; err != nil {
		h.stats.Dropped[err.Error()]++
		h.exchange.Outcome, r = OutcomeDropped, link.Response{}
		h.refuse(err)
	}
	if h.exchange.Message != "" {
		h.stats.Exchanges[h.exchange]++
	}
	return r
}

func (h *handler) answer(payload []byte, source netip.Addr) (link.Response, error) {
	m := &h.request
	if err := m.Decode(payload); err != nil {
		return link.Response{}, err
	}
	if !m.OverEthernet() || m.MAC() != h.client {
		h.foreign(m)
		return link.Response{}, drop.Foreign
	}
	// Between the guest and this server there is nothing that could relay; what claims otherwise is from inside the guest.
	if !m.Giaddr().IsUnspecified() {
		return link.Response{}, drop.Relayed
	}
	if int(m.Kind) >= len(h.paces) {
		return link.Response{}, drop.Unexpected
	}
	if _, ok := h.paces[m.Kind].allow(h.now()); !ok {
		return link.Response{}, drop.TooMany
	}
	h.alive()
	switch m.Kind {
	case dhcpv4.MessageTypeNone:
		return h.bootp(payload)
	case dhcpv4.MessageTypeDiscover:
		return h.discover()
	case dhcpv4.MessageTypeRequest:
		return h.requested()
	case dhcpv4.MessageTypeDecline:
		return link.Response{}, h.decline()
	case dhcpv4.MessageTypeRelease:
		return link.Response{}, h.release()
	case dhcpv4.MessageTypeInform:
		return h.inform(source)
	}
	return link.Response{}, drop.Unexpected
}

// discover offers the address, or gives it at once to a client that asks for that (RFC 4039): with one server and one
// client there is nothing that an offer could be compared with.
func (h *handler) discover() (link.Response, error) {
	m := &h.request
	rapid := m.Option(v4.CodeRapidCommit) != nil
	h.received(KindDiscover, netip.Addr{}, "")
	if !rapid {
		r, err := h.compose(dhcpv4.MessageTypeOffer, "")
		if err != nil {
			return r, err
		}
		if !h.lease.InUse() { // a guest that asks before its lease ends has it until it takes another
			h.setLease(LeaseOffered)
		}
		h.sent(KindOffer, h.offer.Address.Addr(), "")
		return r, nil
	}
	return h.ack("rapid commit")
}

// requested tells the states of the client apart as RFC 2131 §4.3.2 does, by the server identifier, the requested address
// and ciaddr. Silence is only for a client that chose another server: this one knows the only address that the guest may
// have on this link, so any other is refused in every state.
func (h *handler) requested() (link.Response, error) {
	m := &h.request
	server, err := m.Address(v4.CodeServer)
	if err != nil {
		return link.Response{}, err
	}
	wanted, err := m.Address(v4.CodeRequested)
	if err != nil {
		return link.Response{}, err
	}
	var state string
	switch {
	case server.IsValid() && server != h.offer.ServerIdentifier:
		if h.lease.State == LeaseOffered {
			h.setLease(LeaseNone)
		}
		h.received(KindRequest, wanted, "to server "+server.String())
		return link.Response{}, drop.OtherServer
	case server.IsValid() && wanted.IsValid():
		state = "selecting"
	case wanted.IsValid():
		state = "init-reboot"
	case !m.Ciaddr().IsUnspecified():
		// The two differ in how the message was sent, not in what it says.
		wanted, state = m.Ciaddr(), "renewing or rebinding"
	default:
		return link.Response{}, drop.Malformed
	}
	h.received(KindRequest, wanted, state)
	if own := h.offer.Address.Addr(); wanted != own {
		return h.nak(wanted, fmt.Sprintf("%s is not the address of this pod", wanted))
	}
	return h.ack(state)
}

func (h *handler) ack(detail string) (link.Response, error) {
	r, err := h.compose(dhcpv4.MessageTypeAck, "")
	if err != nil {
		return r, err
	}
	h.setLease(LeaseBound)
	h.sent(KindAck, h.offer.Address.Addr(), detail)
	return r, nil
}

func (h *handler) nak(wanted netip.Addr, why string) (link.Response, error) {
	r, err := h.compose(dhcpv4.MessageTypeNak, why)
	if err != nil {
		return r, err
	}
	h.setLease(LeaseNone)
	h.sent(KindNak, wanted, why)
	return r, nil
}

const declinedText = "the guest found another machine that uses its address"

// decline is the guest's word that another machine uses the address. There is no other address to offer, so it changes
// nothing but what is known. RFC 2131 §4.4.4 has the address in option 50; dhcpcd leaves it out where it had the address
// by rapid commit, and there is only one that it can mean.
func (h *handler) decline() error {
	m := &h.request
	server, err := m.Address(v4.CodeServer)
	if err != nil {
		return err
	}
	declined, err := m.Address(v4.CodeRequested)
	if err != nil {
		return err
	}
	if server.IsValid() && server != h.offer.ServerIdentifier {
		return drop.OtherServer
	}
	if !declined.IsValid() && m.Ciaddr().IsUnspecified() {
		declined = h.offer.Address.Addr()
	}
	if declined != h.offer.Address.Addr() {
		return drop.Malformed
	}
	h.declined = true
	h.setLease(LeaseNone)
	h.received(KindDecline, declined, declinedText)
	return nil
}

func (h *handler) release() error {
	m := &h.request
	server, err := m.Address(v4.CodeServer)
	if err != nil {
		return err
	}
	if server.IsValid() && server != h.offer.ServerIdentifier {
		return drop.OtherServer
	}
	if m.Ciaddr() != h.offer.Address.Addr() {
		return drop.Malformed
	}
	h.setLease(LeaseNone)
	h.received(KindRelease, m.Ciaddr(), "")
	return nil
}

// inform gives parameters to a guest that has its address from elsewhere (RFC 2131 §4.3.5). Clients that leave ciaddr
// empty exist; the address that the datagram came from serves as well.
func (h *handler) inform(source netip.Addr) (link.Response, error) {
	m := &h.request
	addr := m.Ciaddr()
	if addr.IsUnspecified() && source.Is4() {
		addr = source
	}
	if addr == h.offer.Address.Addr() {
		h.addressSeen()
	}
	h.received(KindInform, addr, "")
	r, err := h.compose(dhcpv4.MessageTypeAck, "")
	if err != nil {
		return r, err
	}
	if !addr.IsUnspecified() {
		r.To, r.Configured = addr, true
	}
	h.sent(KindAck, addr, "inform")
	return r, nil
}

// bootp answers a client that knows nothing of leases (RFC 1534): the address is its own from then on.
func (h *handler) bootp(payload []byte) (link.Response, error) {
	h.received(KindBootp, netip.Addr{}, "")
	r, err := h.composeBootp(len(payload) - v4.OffOptions)
	if err != nil {
		return r, err
	}
	h.setLease(LeaseBound)
	h.sent(KindBootp, h.offer.Address.Addr(), "")
	return r, nil
}
