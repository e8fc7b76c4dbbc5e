package dhcp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/podnic/podnic/dhcp/internal/drop"
	v6 "github.com/podnic/podnic/dhcp/internal/v6"
)

// received6 are the kinds of the messages that a client sends.
var received6 = map[v6.Type]Kind{
	v6.Solicit: KindSolicit, v6.Request: KindRequest, v6.Confirm: KindConfirm, v6.Renew: KindRenew, v6.Rebind: KindRebind,
	v6.Release: KindRelease, v6.Decline: KindDecline, v6.InformationRequest: KindInformation,
}

// message decides what is answered to a message (RFC 8415 §18.3); nil is nothing.
func (h *handler6) message(payload []byte) (*v6.Answer, error) {
	m, err := v6.Decode(payload)
	if h.request = m; err != nil {
		h.malformed, _ = err.(*v6.MalformedError)
		return nil, err
	}
	kind, ok := received6[m.Type]
	if !ok {
		return nil, drop.Unexpected
	}
	if _, ok := h.paces[m.Type].allow(h.now()); !ok {
		return nil, drop.TooMany
	}
	h.alive()
	if err := h.valid(m); err != nil {
		return nil, err
	}
	h.stats.Received[kind]++
	h.exchange.Message = kind
	switch m.Type {
	case v6.Solicit:
		return h.solicit(m)
	case v6.Confirm:
		return h.confirm(m)
	case v6.Release, v6.Decline:
		return h.giveUp(m)
	case v6.InformationRequest:
		h.noteMessage(KindInformation, "")
		a := h.answer(m, v6.Reply)
		h.configure(a, m)
		return a, nil
	}
	return h.renew(m, kind)
}

// valid are the rules of RFC 8415 §16 for what must be in a message and what must not.
func (h *handler6) valid(m *v6.Message) error {
	named := m.Type == v6.Request || m.Type == v6.Renew || m.Type == v6.Release || m.Type == v6.Decline
	switch {
	case m.Client == nil && m.Type != v6.InformationRequest:
		return drop.Malformed
	case m.Type == v6.InformationRequest && len(m.IAs) > 0:
		return drop.Malformed
	case m.Server == nil && named:
		return drop.Malformed
	case m.Server != nil && !named && m.Type != v6.InformationRequest:
		return drop.Malformed
	case m.Server != nil && !m.For(h.duid):
		return drop.OtherServer
	}
	return nil
}

// solicit advertises the addresses, or gives them at once to a client that asks for that: with one server and one client
// there is nothing that an advertisement could be compared with.
func (h *handler6) solicit(m *v6.Message) (*v6.Answer, error) {
	h.noteMessage(KindSolicit, "")
	if m.RapidCommit {
		a := h.answer(m, v6.Reply)
		a.RapidCommit = true
		h.assign(a, m)
		return a, nil
	}
	a := h.answer(m, v6.Advertise)
	if h.bind(a, m) && !h.lease.InUse() { // a guest that asks before its lease ends has it until it takes another
		h.setLease(LeaseOffered)
	}
	h.configure(a, m)
	return a, nil
}

// renew gives the addresses to a client that chose this server, has a lease, or had one of anybody. An address that is not
// the pod's ends.
func (h *handler6) renew(m *v6.Message, kind Kind) (*v6.Answer, error) {
	h.noteMessage(kind, "")
	a := h.answer(m, v6.Reply)
	h.assign(a, m)
	return a, nil
}

func (h *handler6) assign(a *v6.Answer, m *v6.Message) {
	if h.bind(a, m) {
		h.setLease(LeaseBound)
	}
	h.configure(a, m)
}

// confirm says whether a client that may have moved can keep its addresses (RFC 8415 §18.3.3).
func (h *handler6) confirm(m *v6.Message) (*v6.Answer, error) {
	var addrs []netip.Addr
	for _, ia := range m.IAs {
		addrs = append(addrs, ia.Addresses...)
	}
	if len(addrs) == 0 {
		return nil, drop.Malformed
	}
	a := h.answer(m, v6.Reply)
	i := slices.IndexFunc(addrs, func(addr netip.Addr) bool { return !slices.Contains(h.guest, addr) })
	if i < 0 {
		h.noteMessage(KindConfirm, "")
		h.setLease(LeaseBound)
		a.Status = &v6.StatusText{Status: v6.Success, Text: "the addresses are the pod's"}
		return a, nil
	}
	h.noteMessage(KindConfirm, addrs[i].String())
	h.setLease(LeaseNone)
	a.Status = &v6.StatusText{Status: v6.NotOnLink, Text: fmt.Sprintf("%s is not an address of this pod", addrs[i])}
	return a, nil
}

// giveUp takes note of a guest that does not use its addresses any more, or found one of them in use by another machine. There
// are no others to offer, so it changes nothing but what is known.
func (h *handler6) giveUp(m *v6.Message) (*v6.Answer, error) {
	state, kind, detail := LeaseReleased, KindRelease, ""
	if m.Type == v6.Decline {
		state, kind, detail = LeaseDeclined, KindDecline, declinedText
	}
	own := slices.ContainsFunc(m.IAs, func(ia v6.IA) bool {
		return slices.ContainsFunc(ia.Addresses, func(addr netip.Addr) bool { return slices.Contains(h.guest, addr) })
	})
	if own {
		h.setLease(state)
	}
	h.noteMessage(kind, detail)
	a := h.answer(m, v6.Reply)
	a.Status = &v6.StatusText{Status: v6.Success}
	return a, nil
}

// answer is one without anything but who it is from and for.
func (h *handler6) answer(m *v6.Message, t v6.Type) *v6.Answer {
	return &v6.Answer{Type: t, Transaction: m.Transaction, Client: m.Client, Server: h.duid}
}

// maxEnded bounds how many addresses that are not the pod's a client is told to give up in one message.
const maxEnded = 8

// bind gives all addresses to the first association for addresses, and says of the others that there is nothing for them. It
// reports whether there was one.
func (h *handler6) bind(a *v6.Answer, m *v6.Message) (bound bool) {
	for _, ia := range m.IAs {
		b := v6.Binding{Code: ia.Code, ID: ia.ID}
		switch {
		case ia.Code == v6.CodeIAPD:
			b.Status = &v6.StatusText{Status: v6.NoPrefixAvail, Text: "a pod has no prefix to delegate"}
		case ia.Code != v6.CodeIANA || bound:
			b.Status = &v6.StatusText{Status: v6.NoAddrsAvail, Text: "the pod's addresses are in the first association"}
		default:
			bound = true
			h.addresses(&b, ia.Addresses, m.Type != v6.Solicit)
		}
		a.Bindings = append(a.Bindings, b)
	}
	return bound
}

// addresses are those of the pod, the first preferred and the others deprecated: a guest sends from the pod's first
// whatever order its client adds them in. end has those end that a client has besides.
func (h *handler6) addresses(b *v6.Binding, has []netip.Addr, end bool) {
	valid := h.offer.LeaseSeconds
	if valid == 0 {
		valid, b.T1, b.T2 = v6.Infinite, v6.Infinite, v6.Infinite
	} else {
		b.T1, b.T2 = valid/2, uint32(uint64(valid)*4/5) // RFC 8415 §21.4
	}
	for i, addr := range h.guest {
		a := v6.Address{Addr: addr, Valid: valid}
		if i == 0 {
			a.Preferred = valid
		}
		b.Addresses = append(b.Addresses, a)
	}
	if !end {
		return
	}
	ended := 0
	for _, addr := range has {
		if ended < maxEnded && !slices.ContainsFunc(b.Addresses, func(a v6.Address) bool { return a.Addr == addr }) {
			b.Addresses = append(b.Addresses, v6.Address{Addr: addr})
			ended++
		}
	}
}

// configure adds what the client asks for besides addresses.
func (h *handler6) configure(a *v6.Answer, m *v6.Message) {
	o := &h.offer
	if m.Asks(v6.CodeDNS) {
		a.DNS = o.DNS
	}
	if m.Asks(v6.CodeSearch) {
		a.Search = o.Search
	}
	if m.Asks(v6.CodeNTP) {
		a.NTP = o.NTP
	}
	if m.Asks(v6.CodeSNTP) {
		a.SNTP = o.NTP
	}
	if m.FQDN != nil || m.Asks(v6.CodeFQDN) {
		a.FQDN = &v6.FQDN{Flags: v6.FQDNNone, Name: o.Hostname} // the pod's name is Kubernetes' to publish
		if m.FQDN != nil && m.FQDN.Flags&v6.FQDNServer != 0 {
			a.FQDN.Flags |= v6.FQDNOverride
		}
	}
	if m.Asks(v6.CodeBootFile) {
		a.BootFile = o.bootFile(bootClientOf6(m))
	}
}

// bootClientOf6 is what a message says of the firmware that sends it.
func bootClientOf6(m *v6.Message) bootClient {
	c := bootClient{is: true}
	for _, a := range m.Architectures {
		c.architectures = append(c.architectures, byte(a>>8), byte(a))
	}
	for _, class := range m.UserClasses { // one after the other, each with its length before it, as RFC 3004 has them
		if len(class) < 256 {
			c.userClass = append(append(c.userClass, byte(len(class))), class...)
		}
	}
	c.ipxe = c.hasClass(classIPXE)
	return c
}

func (h *handler6) noteMessage(kind Kind, detail string) {
	h.note(Event{Kind: kind, MAC: h.client, Address: h.guest[0], Transaction: h.request.Transaction, Detail: detail})
}

// note adds an event with the lease as it is now; the lease is changed first.
func (h *handler6) note(e Event) {
	e = h.withLease(e)
	e.At, e.Changed = h.now(), !h.lease.equal(h.reported)
	h.reported = h.lease
	h.events = append(h.events, e)
}

// takeEvents returns the events since the last call.
func (h *handler6) takeEvents() []Event {
	events := h.events
	h.events = h.events[:0]
	return events
}

// alive reports the first frame of the guest.
func (h *handler6) alive() {
	if !h.heard {
		h.heard = true
		h.note(Event{Kind: KindFirstFrame, MAC: h.client})
	}
}

// addressSeen reports that the guest uses one of its addresses, or is about to, once until it gives them up.
func (h *handler6) addressSeen(source, target netip.Addr) {
	if !h.lease.Seen.IsZero() {
		return
	}
	h.lease.Addresses, h.lease.Seen = h.guest, h.now()
	if h.lease.State == "" {
		h.lease.State = LeaseNone
	}
	if !slices.Contains(h.guest, source) {
		source = target
	}
	h.note(Event{Kind: KindAddressSeen, MAC: h.client, Address: source})
}

// setLease moves the lease to a state. A renewal keeps Since and moves Expires. Leaving the bound state means that the
// guest does not use the addresses now, whatever was seen before.
func (h *handler6) setLease(state string) {
	now := h.now()
	if h.lease.State != state {
		h.lease.State, h.lease.Since = state, now
	}
	h.lease.Addresses, h.lease.Expires = h.guest, time.Time{}
	switch {
	case state == LeaseNone:
		h.lease.Addresses, h.lease.Seen = nil, time.Time{}
	case state != LeaseBound:
		h.lease.Seen = time.Time{}
	case h.offer.LeaseSeconds > 0:
		h.lease.Expires = now.Add(time.Duration(h.offer.LeaseSeconds) * time.Second)
	}
}
