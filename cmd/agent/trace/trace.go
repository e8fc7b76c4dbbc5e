// Package trace shows what the guest and its server say to each other: it listens on the tap beside the server, writes
// lines and capture files, and changes nothing.
package trace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/dhcp"
	dhcptrace "github.com/podnic/podnic/dhcp/trace"
	"github.com/podnic/podnic/dhcp/trace/pcapng"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
)

// Limits end a trace by themselves; zero is without limit.
type Limits struct {
	Count int
	For   time.Duration
}

// Tracing is a trace that is about to begin.
type Tracing struct {
	tracer *dhcptrace.Tracer
	ns     *network.Namespace
	// Interface and Tap are where it listens.
	Interface, Tap string
	client         identity.MAC
	offer          *dhcp.Offer
}

// Open listens on the tap of a wired interface. It changes nothing, in the namespace and in the state directory.
func Open(req network.Request, service offering.Service) (*Tracing, error) {
	report, seen, err := status.Read(req, service)
	if err != nil {
		return nil, err
	}
	if !seen.Wired {
		return nil, network.Refuse("%s is not wired to a guest, so there is nothing to trace: run `podnic prepare` first", seen.Names.Interface)
	}
	if seen.Current.Link(network.Tap) == nil {
		return nil, network.Refuse("the guest's tap %s is missing: run `podnic prepare` to mend the wiring", seen.Names.Tap)
	}
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	r := report.Interfaces[0]
	t := &Tracing{ns: ns, Interface: r.Name, Tap: seen.Names.Tap, client: r.MAC, offer: r.Offer}
	t.tracer, err = dhcptrace.NewTracer(dhcptrace.TracerConfig{
		Link: seen.Names.Tap, Client: r.MAC, ServerMAC: network.ServerMAC(seen.Original), Offer: r.Offer,
		InNamespace: ns.Do, Absent: t.absent,
	})
	if err != nil {
		ns.Close()
		if errors.Is(err, syscall.EPERM) {
			err = network.Refuse("this process lacks CAP_NET_RAW, which a packet socket takes: add it to the container (securityContext.capabilities.add: [NET_RAW], as uid 0)")
		}
		return nil, err
	}
	return t, nil
}

// String is the first line of a trace.
func (t *Tracing) String() string {
	served := "layer 2 only"
	if t.offer != nil {
		served = fmt.Sprintf("%s, served in %s mode", t.offer.Address.Addr(), t.offer.Socket)
	}
	return fmt.Sprintf("tracing %s of %s: the guest is %s (%s)", t.Tap, t.Interface, t.client, served)
}

// Capture writes frames to a pcapng file, in which the server's reasons are comments.
func (t *Tracing) Capture(to io.Writer, application string) (func(dhcptrace.Traced) error, error) {
	w, err := pcapng.NewWriter(to, t.Tap, application)
	if err != nil {
		return nil, err
	}
	return func(f dhcptrace.Traced) error {
		if f.Length == 0 {
			return nil // an answer that did not come is no frame
		}
		p := pcapng.Packet{At: f.At, Direction: pcapng.Outbound, Comment: reason(f), Data: f.Data}
		if f.FromGuest {
			p.Direction = pcapng.Inbound
		}
		return w.Write(p)
	}, nil
}

// absent says why the server does not answer, if nobody serves.
func (t *Tracing) absent() string {
	if holder, err := presence.Of(t.ns, t.Interface); err != nil || holder != nil {
		return ""
	}
	return fmt.Sprintf("nobody serves %s: run `podnic serve` or `podnic run`", t.Interface)
}

// Close must be called when the trace has ended.
func (t *Tracing) Close() {
	t.tracer.Close()
	t.ns.Close()
}

// Summary is what a trace saw.
type Summary struct {
	Took time.Duration
	// Frames are counted by protocol; Total is their sum, Unanswered what the server did not answer and should have.
	Frames            map[string]int
	Total, Unanswered int
	// Lost is how many frames the kernel dropped because they were not read in time.
	Lost uint64
	// Ended is why.
	Ended string
}

// Run gives each frame to a function until the context ends, a limit is reached, the tap is gone or the function fails.
// Only the last is an error.
func (t *Tracing) Run(ctx context.Context, limits Limits, each func(dhcptrace.Traced) error) (Summary, error) {
	began := time.Now()
	s := Summary{Frames: make(map[string]int)}
	if limits.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limits.For)
		defer cancel()
	}
	defer context.AfterFunc(ctx, t.tracer.Close)()
	var err error
	s.Ended, err = t.follow(ctx, limits.Count, &s, each)
	s.Took, s.Lost = time.Since(began), t.tracer.Lost()
	return s, err
}

func (t *Tracing) follow(ctx context.Context, count int, s *Summary, each func(dhcptrace.Traced) error) (string, error) {
	for count == 0 || s.Total < count {
		f, err := t.tracer.Next()
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return "the time is up", nil
		case ctx.Err() != nil:
			return "interrupted", nil
		case errors.Is(err, dhcptrace.ErrLinkGone):
			return fmt.Sprintf("%s is gone: the interface was given back, or the pod has ended", t.Tap), nil
		case err != nil:
			return "", err
		}
		if f.Length > 0 {
			s.Total++
			s.Frames[f.Protocol]++
		} else {
			s.Unanswered++
		}
		if err := each(f); err != nil {
			return "", err
		}
	}
	return "the count is reached", nil
}
