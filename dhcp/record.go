package dhcp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// received counts and reports a message of the guest.
func (h *handler) received(kind Kind, addr netip.Addr, detail string) {
	h.stats.Received[kind]++
	h.exchange.Message = kind
	h.noteMessage(kind, addr, detail)
}

// sent counts and reports a reply.
func (h *handler) sent(kind Kind, addr netip.Addr, detail string) {
	h.stats.Sent[kind]++
	h.exchange.Outcome = kind
	h.noteMessage(kind, addr, detail)
}

func (h *handler) noteMessage(kind Kind, addr netip.Addr, detail string) {
	h.note(Event{Kind: kind, MAC: h.request.MAC(), Address: addr, Transaction: h.request.XID(), Detail: detail})
}

// note adds an event with the lease as it is now; the lease is changed first.
func (h *handler) note(e Event) {
	e = h.withLease(e)
	e.At, e.Changed = h.now(), h.lease != h.reported
	h.reported = h.lease
	h.events = append(h.events, e)
}

func (h *handler) withLease(e Event) Event {
	e.Lease = h.lease
	return e
}

// alive reports the first frame of the guest.
func (h *handler) alive() {
	h.lease.Doubted = time.Time{}
	if !h.heard {
		h.heard = true
		h.note(Event{Kind: KindFirstFrame, MAC: h.client})
	}
}

// addressSeen reports that the guest uses the address, once until it gives it up.
func (h *handler) addressSeen() {
	if h.lease.Seen.IsZero() || h.lease != h.reported {
		h.lease.Address = h.offer.Address.Addr()
		if h.lease.Seen.IsZero() {
			h.lease.Seen = h.now()
		}
		h.note(Event{Kind: KindAddressSeen, MAC: h.client, Address: h.offer.Address.Addr()})
	}
}

// foreign takes note of a DHCP client with another MAC.
func (h *handler) foreign(m *v4.Message) {
	if !m.OverEthernet() {
		return
	}
	f, now := &h.stats.Foreign, h.now()
	if f.MAC != m.MAC() {
		*f = Foreign{MAC: m.MAC(), First: now}
	}
	f.Frames, f.Last = f.Frames+1, now
	if h.foreignLeft == 0 {
		return // queued before the filter was narrowed
	}
	h.foreignLeft--
	if h.lease.InUse() {
		h.lease.Doubted = now
	}
	h.note(Event{
		Kind: KindForeign, MAC: f.MAC, Transaction: m.XID(),
		Detail: h.foreignText(f.MAC),
	})
}

func (h *handler) foreignText(mac identity.MAC) string {
	return fmt.Sprintf("%s %s asks behind the tap; the pod's is %s", foreign, mac, h.client)
}

const foreign = "a DHCP client with the MAC"

// IsForeign reports whether a warning is that a client with another MAC than the pod's asks.
func IsForeign(warning string) bool { return strings.HasPrefix(warning, foreign) }

// expire ends a lease that ran out.
func (h *handler) expire() {
	if l := h.lease.At(h.now()); l != h.lease {
		h.lease = l
		h.note(Event{Kind: KindExpired, MAC: h.client, Address: l.Address})
	}
}

// setLease moves the lease to a state. A renewal keeps Since and moves Expires. Leaving the bound state means that the
// guest does not use the address now, whatever was seen before.
func (h *handler) setLease(state string) {
	now := h.now()
	if h.lease.State != state {
		h.lease.State, h.lease.Since = state, now
	}
	if state == LeaseBound {
		h.declined = false
	}
	h.lease.Address, h.lease.Expires = h.offer.Address.Addr(), time.Time{}
	switch {
	case state == LeaseNone:
		h.lease.Address, h.lease.Seen, h.lease.Doubted = netip.Addr{}, time.Time{}, time.Time{}
	case state == LeaseOffered:
		h.lease.Seen = time.Time{}
	case h.offer.LeaseSeconds > 0:
		h.lease.Expires = now.Add(time.Duration(h.offer.LeaseSeconds) * time.Second)
	}
}

// takeEvents returns the events since the last call.
func (h *handler) takeEvents() []Event {
	events := h.events
	h.events = h.events[:0]
	return events
}
