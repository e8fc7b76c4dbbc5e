package dhcp

import (
	"fmt"
	"math/bits"
	"net/netip"

	"github.com/podnic/podnic/dhcp/internal/drop"
)

// refusals are the requests that nobody will ever answer, since something is wrong with them. They are told of when their
// number doubles, so that a flood of them is not a flood of events.
type refusals struct {
	relayed, malformed uint64
	relay              netip.Addr // of the last one, where it says
	part               string     // what was malformed in the last one, where that is known
}

// refuse takes note of a request that is dropped, if it is one of these.
func (h *handler) refuse(err error) {
	r := &h.refused
	switch err {
	case drop.Relayed:
		r.relayed++
		r.relay = h.request.Giaddr()
		h.refusal(KindRelayed, r.relayed, r.relayedText)
	case drop.Malformed, drop.Truncated:
		r.malformed++
		h.refusal(KindMalformed, r.malformed, r.malformedText)
	}
}

func (h *handler) refusal(kind Kind, number uint64, text func() string) {
	if doubled(number) {
		h.note(Event{Kind: kind, MAC: h.client, Detail: text()})
	}
}

func doubled(number uint64) bool { return bits.OnesCount64(number) == 1 }

func (r *refusals) relayedText() string {
	last := ""
	if r.relay.IsValid() {
		last = fmt.Sprintf(", the last by %s", r.relay)
	}
	return fmt.Sprintf("requests of the guest came by a relay (at least %d%s), and are not answered: nothing relays between guest and server",
		told(r.relayed), last)
}

func (r *refusals) malformedText() string {
	last := ""
	if r.part != "" {
		last = fmt.Sprintf(", the last in %s", r.part)
	}
	return fmt.Sprintf("requests of the guest were malformed or cut off (at least %d%s), and are not answered: `podnic trace` shows them", told(r.malformed), last)
}

// told is the number that was told of last.
func told(number uint64) uint64 { return 1 << (bits.Len64(number) - 1) }

func (r *refusals) texts() []string {
	var all []string
	if r.relayed > 0 {
		all = append(all, r.relayedText())
	}
	if r.malformed > 0 {
		all = append(all, r.malformedText())
	}
	return all
}
