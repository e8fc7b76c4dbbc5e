package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/dhcp/internal/nd"
	v6 "github.com/podnic/podnic/dhcp/internal/v6"
	"github.com/podnic/podnic/network/identity"
)

// handler6 is the server of IPv6 without its socket: frames in, frames and events out. It is not safe for concurrent use, and
// what it returns is valid until the next call.
type handler6 struct {
	client    identity.MAC
	serverMAC identity.MAC
	duid      []byte
	now       func() time.Time

	offer Offer6
	guest []netip.Addr // the addresses of the offer
	lease Lease6
	heard bool // a frame of the guest was read
	// leftOut is what did not fit into the last reply, unsaid what cannot be advertised; empty when all was.
	leftOut, unsaid string
	refused         refusals
	// malformed is why the message at hand cannot be read, where that is one of its options.
	malformed *v6.MalformedError
	stats     Stats

	asked func() // as Config6 has it

	answers        []nd.Neighbor
	moved          []nd.Neighbor // of these, those that the guest is told of unasked, since they are elsewhere now
	advertisements []link.Response
	told           []nd.Router // what the advertisements tell of
	withdrawn      []nd.Router // and what they no longer do
	// next is when the routers advertise unasked; soon is how many times more before the long interval, and again for how
	// many times what was withdrawn is told of.
	next        time.Time
	soon, again int

	request  *v6.Message // the message at hand, as far as it is known
	exchange Exchange
	dropped  error // why a frame is not answered; nil if it is, or wants no answer
	events   []Event
	reported Lease6 // the lease of the last event

	// paces are by message type, 0 of router solicitations; neighborPace is of those for neighbours.
	paces        [v6.InformationRequest + 1]limiter
	neighborPace limiter

	responses []link.Response // memory that is used again for every frame
}

// How often routers advertise unasked: three times, as often as RFC 4861 §6.2.4 allows for at first, 16 s apart
// (MAX_INITIAL_RTR_ADVERTISEMENTS, MAX_INITIAL_RTR_ADVERT_INTERVAL), and then as seldom as it has by default
// (MaxRtrAdvInterval, 600 s).
const (
	firstAdvertisements = 3
	firstInterval       = 16 * time.Second
	advertisingInterval = 10 * time.Minute
)

// newHandler6 makes a handler for an offer. before is that of an earlier process, of which the guest may have been told; nil
// for none.
func newHandler6(offer Offer6, before *Offer6, client, serverMAC identity.MAC, lease Lease6, now func() time.Time) *handler6 {
	h := &handler6{
		client:       client,
		serverMAC:    serverMAC,
		duid:         v6.LinkDUID(serverMAC),
		now:          now,
		lease:        lease.At(now()),
		asked:        func() {},
		stats:        newStats(),
		neighborPace: newLimiter(messageBurst, messageRate),
	}
	for i := range h.paces {
		h.paces[i] = newLimiter(messageBurst, messageRate)
	}
	if before != nil {
		h.told = before.advertisements(serverMAC)
	}
	h.setOffer(offer)
	h.reported = h.lease
	return h
}

// setOffer offers something else from now on. What the routers told of and do not any more, they take back.
func (h *handler6) setOffer(offer Offer6) {
	before := append(h.told, h.withdrawn...)
	h.offer, h.guest = offer, offer.guest()
	h.lease = h.lease.of(h.guest)
	answered := h.answers
	h.answers = offer.answers(h.serverMAC)
	h.moved = movedSince(answered, h.answers, h.moved)
	h.told = offer.advertisements(h.serverMAC)
	h.withdrawn = withdrawn(before, h.told)
	if len(h.withdrawn)+len(h.moved) > 0 {
		h.again = firstAdvertisements
		h.begin()
	}
	h.lay()
}

// movedSince are neighbours that have another MAC than before, and those that the guest is still being told of.
func movedSince(before, now, telling []nd.Neighbor) (moved []nd.Neighbor) {
	for _, n := range now {
		if slices.ContainsFunc(before, func(b nd.Neighbor) bool { return b.Target == n.Target && b.MAC != n.MAC }) ||
			slices.ContainsFunc(telling, func(t nd.Neighbor) bool { return t.Target == n.Target }) {
			n.Source, n.To = n.Target, link.AllNodes
			moved = append(moved, n)
		}
	}
	return moved
}

// withdrawn are routers with what they have to take back: what they told of before and nobody tells of now. But for
// routes, nothing is its router's: a guest has a resolver, and knows what is on the link, as long as anybody tells of it.
func withdrawn(before, now []nd.Router) []nd.Router {
	var common nd.Told
	for _, r := range now {
		common = common.And(nd.Told{OnLink: r.OnLink, DNS: r.DNS, Search: r.Search})
	}
	var all []nd.Router
	for _, r := range before {
		told := r.Told.And(r.Withdrawn)
		i := slices.IndexFunc(now, func(n nd.Router) bool { return n.Source == r.Source })
		if i >= 0 {
			told = told.Without(now[i].Told)
		}
		if told = told.Without(common); i < 0 || !told.IsZero() {
			all = append(all, nd.Router{Source: r.Source, Withdrawn: told})
		}
	}
	return all
}

// lay makes the frames that the routers advertise with, those of what is withdrawn last.
func (h *handler6) lay() {
	h.advertisements = nil
	var leftOut []string
	all := slices.Clone(h.told)
	for _, w := range h.withdrawn {
		if i := slices.IndexFunc(all, func(r nd.Router) bool { return r.Source == w.Source }); i >= 0 {
			all[i].Withdrawn = all[i].Withdrawn.And(w.Withdrawn)
		} else {
			all = append(all, w)
		}
	}
	for _, r := range all {
		messages, left, err := r.Advertise(link.AllNodes, h.room())
		if err != nil {
			left = append(left, err.Error())
		}
		leftOut = append(leftOut, left...)
		for _, m := range messages {
			f := link.AppendICMPv6(nil, link.MulticastMAC(link.AllNodes), h.macOf(r.Source), r.Source, link.AllNodes, m)
			h.advertisements = append(h.advertisements, link.Response{Message: f})
		}
	}
	for _, n := range h.moved { // RFC 4861 §7.2.6
		if m, err := n.Message(); err == nil {
			f := link.AppendICMPv6(nil, link.MulticastMAC(link.AllNodes), n.MAC, n.Source, n.To, m)
			h.advertisements = append(h.advertisements, link.Response{Message: f})
		}
	}
	if h.unsaid = ""; len(leftOut) > 0 {
		h.unsaid = "the guest is not told of " + strings.Join(leftOut, ", ")
	}
}

// macOf is where a router's frames come from: a bridge in the guest must learn nothing else of the gateway's MAC.
func (h *handler6) macOf(router netip.Addr) identity.MAC {
	i := slices.IndexFunc(h.offer.Routers, func(r identity.Router) bool { return r.Address == router })
	if i < 0 || h.offer.Routers[i].MAC.IsZero() {
		return h.serverMAC
	}
	return h.offer.Routers[i].MAC
}

// room is how long a packet's payload may be: every link of IPv6 carries the least, and none of the pod's more than is offered.
func (h *handler6) room() int {
	mtu := h.offer.MTU
	if mtu == 0 {
		mtu = nd.MinMTU
	}
	return min(mtu, v6MaxPacket) - link.IPv6Len
}

// v6MaxPacket bounds what is put into one message, in bytes: nobody needs more than Ethernet carries.
const v6MaxPacket = 1500

func (h *handler6) begin() { h.next, h.soon = h.now(), firstAdvertisements }

// due is when the routers advertise next, or when the lease ends.
func (h *handler6) due() time.Time {
	if h.lease.State == LeaseBound && !h.lease.Expires.IsZero() && h.lease.Expires.Before(h.next) {
		return h.lease.Expires
	}
	return h.next
}

func (h *handler6) tick() []link.Response {
	now := h.now()
	if l := h.lease.At(now); !l.equal(h.lease) {
		h.lease = l
		h.note(Event{Kind: KindExpired, MAC: h.client, Address: h.guest[0]})
	}
	if h.next.IsZero() || now.Before(h.next) {
		return nil
	}
	if h.soon--; h.soon > 0 {
		h.next = now.Add(firstInterval)
	} else {
		h.next = now.Add(advertisingInterval)
		h.asked()
	}
	return h.advertise() // without an event: nobody has asked, and observers would be woken for nothing
}

// advertise is what all routers say, the main one first.
func (h *handler6) advertise() []link.Response {
	out := h.advertisements
	h.stats.Sent[KindRouterAdvertise] += uint64(len(out) - len(h.moved))
	h.stats.Sent[KindNeighbor] += uint64(len(h.moved))
	if h.again > 0 {
		if h.again--; h.again == 0 {
			h.withdrawn, h.moved = nil, nil
			h.lay()
		}
	}
	return out
}

func (h *handler6) watch() link.Watch       { return link.Watch{Address: !h.lease.InUse()} }
func (h *handler6) service() link.Service   { return h.offer.service(h.client, h.serverMAC) }
func (h *handler6) admit()                  {}
func (h *handler6) counters() *Stats        { return &h.stats }
func (h *handler6) withLease(e Event) Event { e.Lease6 = h.lease; return e }

// packet answers what a socket received.
func (h *handler6) packet(p link.Packet) []link.Response {
	out, err := h.answerFrame(p.Data, p.Sum)
	if h.dropped = err; err != nil {
		h.stats.Dropped[err.Error()]++
		return nil
	}
	return out
}

func (h *handler6) answerFrame(frame []byte, sum link.ChecksumState) ([]link.Response, error) {
	if len(frame) < link.EtherLen {
		return nil, drop.Truncated
	}
	if binary.BigEndian.Uint16(frame[12:]) != link.TypeIPv6 {
		return nil, drop.NotForUs
	}
	if identity.MAC(frame[6:]) != h.client {
		return nil, drop.Foreign
	}
	p, err := link.ParseIPv6(frame[link.EtherLen:], sum)
	if err != nil {
		return nil, err
	}
	switch {
	case p.Next == link.ProtoICMPv6:
		return h.solicited(p)
	case p.Port == link.ServerPort6:
		return h.datagram(p)
	}
	return nil, drop.NotForUs
}

// solicited answers a message of Neighbor Discovery.
func (h *handler6) solicited(p link.Packet6) ([]link.Response, error) {
	if p.HopLimit != link.NDHopLimit {
		return nil, drop.Malformed
	}
	s, err := nd.Decode(p.Payload, p.Source, p.Destination)
	if err != nil {
		return nil, err
	}
	h.alive()
	if slices.Contains(h.guest, p.Source) || slices.Contains(h.guest, s.Target) {
		h.addressSeen(p.Source, s.Target)
	}
	if s.Router() {
		if _, ok := h.paces[0].allow(h.now()); !ok {
			return nil, drop.TooMany
		}
		h.stats.Received[KindRouterSolicit]++
		h.note(Event{Kind: KindRouterSolicit, MAC: h.client, Address: p.Source})
		h.note(Event{Kind: KindRouterAdvertise, MAC: h.client, Address: h.offer.Routers[0].Address})
		return h.advertise(), nil
	}
	if slices.ContainsFunc(h.offer.Routers, func(r identity.Router) bool { return r.Address == s.Target }) {
		h.asked()
	}
	i := slices.IndexFunc(h.answers, func(n nd.Neighbor) bool { return n.Target == s.Target })
	if i < 0 {
		return nil, nil // the guest's own, or another station's
	}
	if _, ok := h.neighborPace.allow(h.now()); !ok {
		return nil, drop.TooMany
	}
	return h.neighbor(h.answers[i], p.Source)
}

// neighbor answers who an address belongs to. A client without an address asks whether anybody has it, and the answer is for all
// (RFC 4861 §7.2.4).
func (h *handler6) neighbor(n nd.Neighbor, to netip.Addr) ([]link.Response, error) {
	mac := h.client
	n.Source, n.To, n.Solicited = n.Target, to, true
	if to.IsUnspecified() {
		n.To, n.Solicited, mac = link.AllNodes, false, link.MulticastMAC(link.AllNodes)
	}
	message, err := n.Message()
	if err != nil {
		return nil, err
	}
	h.stats.Sent[KindNeighbor]++
	h.note(Event{Kind: KindNeighbor, MAC: h.client, Address: n.Target, Detail: "is at " + n.MAC.String()})
	return h.respond(link.AppendICMPv6(nil, mac, n.MAC, n.Source, n.To, message)), nil
}

func (h *handler6) respond(frame []byte) []link.Response {
	h.responses = append(h.responses[:0], link.Response{Message: frame})
	return h.responses
}

// datagram answers a DHCPv6 message.
func (h *handler6) datagram(p link.Packet6) ([]link.Response, error) {
	if p.Source.IsUnspecified() || p.Destination != link.AllServers && p.Destination != h.offer.Server {
		return nil, drop.NotForUs
	}
	h.exchange, h.malformed = Exchange{Outcome: OutcomeNoted}, nil
	answer, err := h.message(p.Payload)
	var out []link.Response
	if err == nil && answer != nil {
		out, err = h.encode(answer, p.Source)
	}
	if err != nil {
		h.exchange.Outcome = OutcomeDropped
		h.refuse(err)
	}
	if h.exchange.Message != "" {
		h.stats.Exchanges[h.exchange]++
	}
	return out, err
}

// encode makes the frame of an answer. Only what is sent counts as sent.
func (h *handler6) encode(a *v6.Answer, to netip.Addr) ([]link.Response, error) {
	message, leftOut, err := a.Encode(h.room() - link.UDPLen)
	h.leftOut = ""
	if len(leftOut) > 0 {
		h.stats.OptionsLeftOut += uint64(len(leftOut))
		h.leftOut = fmt.Sprintf("a reply of DHCPv6 has no room for the options %s", strings.Join(leftOut, ", "))
		h.noteMessage(KindLeftOut, h.leftOut)
	}
	if err != nil {
		return nil, err
	}
	kind := KindReply
	if a.Type == v6.Advertise {
		kind = KindAdvertise
	}
	h.stats.Sent[kind]++
	h.exchange.Outcome = kind
	h.noteMessage(kind, answerText(a))
	return h.respond(link.AppendUDP6(nil, h.client, h.serverMAC, h.offer.Server, to, message)), nil
}

// answerText is what of an answer is not said by its type.
func answerText(a *v6.Answer) string {
	switch {
	case a.RapidCommit:
		return "rapid commit"
	case a.Status != nil:
		return a.Status.Text
	}
	return ""
}

// refuse takes note of a message that nobody will ever answer.
func (h *handler6) refuse(err error) {
	r := &h.refused
	switch {
	case errors.Is(err, drop.Relayed):
		r.relayed++
		h.refusal(KindRelayed, r.relayed, r.relayedText)
	case errors.Is(err, drop.Malformed), errors.Is(err, drop.Truncated):
		r.malformed++
		if r.part = ""; h.malformed != nil {
			r.part = h.malformed.String()
		}
		h.refusal(KindMalformed, r.malformed, r.malformedText)
	}
}

func (h *handler6) refusal(kind Kind, number uint64, text func() string) {
	if doubled(number) {
		h.note(Event{Kind: kind, MAC: h.client, Detail: text()})
	}
}
