package trace

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

// TracerConfig is what a Tracer needs to know.
type TracerConfig struct {
	// Link is the name of the guest's tap, in either mode of the server.
	Link string
	// Client is the guest's MAC, ServerMAC the one that the server sends from.
	Client, ServerMAC identity.MAC
	// Offer and Offer6 are what the guest is told, nil where there is no server of that family.
	Offer  *dhcp.Offer
	Offer6 *dhcp.Offer6
	// InNamespace is as in Config.
	InNamespace func(func() error) error
	// Absent says why nobody answers, where it knows; it is asked when an answer does not come.
	Absent func() string
}

// Tracer sees the DHCP, ARP and Neighbor Discovery that pass the guest's tap, in both directions. It sends nothing, and
// what it says of the server's reasons is what the server's own handler makes of the same frame.
type Tracer struct {
	monitor *link.Monitor
	decoder *decoder
	absent  func() string
	open    []unanswered
	lost    atomic.Uint64
}

// unanswered is a frame of the guest that the server is to answer.
type unanswered struct {
	Traced
	until time.Time
}

// answerTime is how long an answer may take. The server needs well under a millisecond; a client asks again after one
// second at the earliest.
const answerTime = time.Second

// maxUnanswered bounds the memory of what is waited for.
const maxUnanswered = 64

// ErrLinkGone is returned by Next when the tap was deleted.
var ErrLinkGone = link.ErrGone

// NewTracer opens a packet socket on the tap. It needs CAP_NET_RAW.
func NewTracer(c TracerConfig) (*Tracer, error) {
	t := &Tracer{decoder: newDecoder(c.Client, c.ServerMAC, c.Offer, c.Offer6), absent: c.Absent}
	err := c.InNamespace(func() (err error) {
		t.monitor, err = link.OpenMonitor(c.Link)
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Close ends the trace; a call of Next returns an error then. It may be called again.
func (t *Tracer) Close() {
	t.Lost() // the kernel forgets it with the socket
	t.monitor.Close()
}

// Lost is how many frames the kernel dropped because they were not read in time.
func (t *Tracer) Lost() uint64 { return t.lost.Add(t.monitor.QueueDrops()) }

// Next waits for a frame, or for an answer that does not come. The error is ErrLinkGone when the tap is deleted.
func (t *Tracer) Next() (Traced, error) {
	for {
		frame, about, err := t.monitor.Read(t.deadline())
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return t.expire(), nil
		case errors.Is(err, link.ErrDown), errors.Is(err, drop.Oversized):
			continue // it may come up again; no message is that large
		case err != nil:
			return Traced{}, err
		}
		f := t.decoder.decode(frame, about.VLAN(), !about.Outgoing, about.Sum)
		f.At = about.At
		if about.Tagged {
			f.Data = slices.Concat(f.Data[:12], about.Tag[:], f.Data[12:]) // where the kernel took it off
			f.Length = len(f.Data)
		}
		t.track(f)
		return f, nil
	}
}

// deadline is when the first answer is overdue.
func (t *Tracer) deadline() time.Time {
	if len(t.open) == 0 {
		return time.Time{}
	}
	return t.open[0].until
}

// expire reports that the first answer that is waited for does not come.
func (t *Tracer) expire() Traced {
	f := t.open[0].Traced
	t.open = slices.Delete(t.open, 0, 1)
	why := t.absent()
	if why == "" {
		// A bridge port that has just come up forwards nothing yet, so that a UDP socket misses a guest's first frames.
		why = "the server is there, and may not have heard it"
	}
	return Traced{
		At: f.At.Add(answerTime), Peer: PeerServer, Protocol: f.Protocol, Transaction: f.Transaction,
		Message: fmt.Sprintf("no %s to %s", f.Answer, f.Message), Why: why,
	}
}

// track keeps in mind which answers are to come.
func (t *Tracer) track(f Traced) {
	if !f.FromGuest {
		t.open = slices.DeleteFunc(t.open, func(u unanswered) bool { return u.Protocol == f.Protocol && u.subject == f.subject })
		return
	}
	if f.Answer != "" && len(t.open) < maxUnanswered {
		f.Data, f.Details = nil, nil
		t.open = append(t.open, unanswered{f, time.Now().Add(answerTime)})
	}
}
