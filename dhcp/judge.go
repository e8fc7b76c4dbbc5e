package dhcp

import (
	"time"

	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// Judge says what a server makes of a frame of its guest, by the handler that answers it in a server. It sends nothing, and
// is not safe for concurrent use.
type Judge struct{ handler *handler }

// NewJudge is a judge for a server that makes an offer to the client, and sends from a MAC.
func NewJudge(offer Offer, client, server identity.MAC) *Judge {
	return &Judge{newHandler(offer, client, server, Lease{}, time.Now)}
}

// Verdict is what a server makes of a frame. It is valid until the next one.
type Verdict struct {
	// Reply is the frame that is sent; nil is none.
	Reply []byte
	// Dropped is why the frame is not answered; nil if it is, or wants no answer.
	Dropped error
	// State is that of a client whose REQUEST is answered (RFC 2131 §4.3.2).
	State string
	// Refused is why the answer is a NAK.
	Refused string
	// Request is the DHCP message of the frame, or of an earlier one where it has none.
	Request *v4.Message
}

// Frame judges a frame as it is read from the tap, without a VLAN tag. A frame that makes the handler panic panics here.
func (j *Judge) Frame(frame []byte, sum link.ChecksumState) Verdict {
	h := j.handler
	h.foreignLeft, h.dropped = foreignAllowance, nil
	out, err := h.answerFrame(frame, sum)
	if err == nil {
		err = h.dropped
	}
	v := Verdict{Reply: out, Dropped: err, Request: &h.request}
	for _, e := range h.takeEvents() {
		switch e.Kind {
		case KindRequest:
			if err == nil {
				v.State = e.Detail
			}
		case KindNak:
			v.Refused = e.Detail
		}
	}
	return v
}
