package dhcp

import (
	"slices"
	"time"

	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

// Judge6 says what a server of IPv6 makes of a frame of its guest, as a Judge does of IPv4.
type Judge6 struct{ handler *handler6 }

// NewJudge6 is a judge for a server that makes an offer to the client, and sends from a MAC.
func NewJudge6(offer Offer6, client, server identity.MAC) *Judge6 {
	return &Judge6{newHandler6(offer, nil, client, server, Lease6{}, time.Now)}
}

// Verdict6 is what a server makes of a frame. It is valid until the next one.
type Verdict6 struct {
	// Replies are the frames that are sent.
	Replies []link.Response
	// Dropped is why the frame is not answered; nil if it is, or wants no answer.
	Dropped error
	// Part is what of the message cannot be read, where that is known.
	Part string
	// Own: it is about an address of the guest.
	Own bool
}

// Frame judges a frame as it is read from the tap, without a VLAN tag. A frame that makes the handler panic panics here.
func (j *Judge6) Frame(frame []byte, sum link.ChecksumState) Verdict6 {
	h := j.handler
	h.lease, h.malformed = Lease6{}, nil
	out := h.packet(link.Packet{Data: frame, Sum: sum})
	v := Verdict6{Replies: out, Dropped: h.dropped}
	if h.malformed != nil {
		v.Part = h.malformed.String()
	}
	v.Own = slices.ContainsFunc(h.takeEvents(), func(e Event) bool { return e.Kind == KindAddressSeen })
	return v
}
