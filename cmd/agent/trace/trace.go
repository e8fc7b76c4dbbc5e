// Package trace shows what the guest and its server say to each other: it listens on the tap beside the server, writes
// lines and capture files, and changes nothing.
package trace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
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
	"github.com/podnic/podnic/network/plan"
)

// Limits end a trace by themselves; zero is without limit.
type Limits struct {
	Count int
	For   time.Duration
}

// Tracing is a trace that is about to begin.
type Tracing struct {
	taps []*tap
	ns   *network.Namespace
}

// tap is where it listens for one interface.
type tap struct {
	tracer      *dhcptrace.Tracer
	iface, name string
	client      identity.MAC
	offer       *dhcp.Offer
	offer6      *dhcp.Offer6
}

// Frame is what passed the tap of an interface.
type Frame struct {
	Interface string `json:"interface"`
	dhcptrace.Traced

	tap   int  // which of the trace's
	named bool // there are several
}

// Open listens on the taps of wired interfaces. It changes nothing, in the namespace and in the state directory.
func Open(req network.Request, service offering.Service) (*Tracing, error) {
	report, all, err := status.Read(req, service)
	if err != nil {
		return nil, err
	}
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	t := &Tracing{ns: ns}
	for i, seen := range all {
		if err := t.listen(seen, report.Interfaces[i]); err != nil {
			t.Close()
			return nil, err
		}
	}
	return t, nil
}

func (t *Tracing) listen(seen *network.Inspection, r status.InterfaceReport) error {
	if !seen.Wired {
		return plan.Refuse("%s is not wired to a guest, so there is nothing to trace: run `podnic prepare` first", r.Name)
	}
	if seen.Current.Link(plan.Tap) == nil {
		return plan.Refuse("the guest's tap %s is missing: run `podnic prepare` to mend the wiring", seen.Names.Tap)
	}
	tracer, err := dhcptrace.NewTracer(dhcptrace.TracerConfig{
		Link: seen.Names.Tap, Client: r.MAC, ServerMAC: plan.ServerMAC(seen.Original), Offer: r.Offer, Offer6: r.Offer6,
		InNamespace: t.ns.Do, Absent: func() string { return t.absent(r.Name) },
	})
	if errors.Is(err, syscall.EPERM) {
		return plan.Refuse("this process lacks CAP_NET_RAW, which a packet socket requires: add it to the container (securityContext.capabilities.add: [NET_RAW], as uid 0)")
	}
	if err != nil {
		return err
	}
	t.taps = append(t.taps, &tap{tracer: tracer, iface: r.Name, name: seen.Names.Tap, client: r.MAC, offer: r.Offer, offer6: r.Offer6})
	return nil
}

// String is how a trace begins: a line for each tap.
func (t *Tracing) String() string {
	var lines []string
	for _, tap := range t.taps {
		lines = append(lines, fmt.Sprintf("tracing %s of %s: the guest is %s (%s)", tap.name, tap.iface, tap.client, tap.served()))
	}
	return strings.Join(lines, "\n")
}

// served is what the guest is offered, in short.
func (t *tap) served() string {
	var addresses []string
	socket := ""
	if t.offer != nil {
		addresses, socket = append(addresses, t.offer.Address.Addr().String()), t.offer.Socket
	}
	if t.offer6 != nil {
		for _, p := range t.offer6.Addresses {
			addresses = append(addresses, p.Addr().String())
		}
		socket = t.offer6.Socket
	}
	if len(addresses) == 0 {
		return "layer 2 only"
	}
	return fmt.Sprintf("%s, served in %s mode", strings.Join(addresses, " and "), socket)
}

// Capture writes frames to a pcapng file, in which the server's reasons are comments.
func (t *Tracing) Capture(to io.Writer, application string) (func(Frame) error, error) {
	names := make([]string, len(t.taps))
	for i, tap := range t.taps {
		names[i] = tap.name
	}
	w, err := pcapng.NewWriter(to, names, application)
	if err != nil {
		return nil, err
	}
	return func(f Frame) error {
		if f.Length == 0 {
			return nil // an answer that did not come is not a frame
		}
		p := pcapng.Packet{Link: f.tap, At: f.At, Direction: pcapng.Outbound, Comment: reason(f.Traced), Data: f.Data}
		if f.FromGuest {
			p.Direction = pcapng.Inbound
		}
		return w.Write(p)
	}, nil
}

// absent says why the server does not answer, if nobody serves.
func (t *Tracing) absent(iface string) string {
	if holder, err := presence.Of(t.ns, iface); err != nil || holder != nil {
		return ""
	}
	return fmt.Sprintf("nobody serves %s: run `podnic serve` or `podnic run`", iface)
}

// stop ends Run.
func (t *Tracing) stop() {
	for _, tap := range t.taps {
		tap.tracer.Close()
	}
}

// Close must be called when the trace has ended.
func (t *Tracing) Close() {
	t.stop()
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

// Run gives each frame to a function, one after the other, until the context ends, a limit is reached, no tap is there any
// more or the function fails. Only the last is an error.
func (t *Tracing) Run(ctx context.Context, limits Limits, each func(Frame) error) (Summary, error) {
	began := time.Now()
	r := &following{Tracing: t, Summary: Summary{Frames: make(map[string]int)}, count: limits.Count, left: len(t.taps), each: each}
	if limits.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limits.For)
		defer cancel()
	}
	defer context.AfterFunc(ctx, t.stop)()
	var wait sync.WaitGroup
	for i := range t.taps {
		wait.Go(func() { r.follow(ctx, i) })
	}
	wait.Wait()
	r.Took = time.Since(began)
	for _, tap := range t.taps {
		r.Lost += tap.tracer.Lost()
	}
	return r.Summary, r.err
}

// following is a trace that runs.
type following struct {
	*Tracing
	count int
	each  func(Frame) error

	mu sync.Mutex
	Summary
	left int // taps that are there
	err  error
}

// follow reads the frames of one tap.
func (r *following) follow(ctx context.Context, i int) {
	tap := r.taps[i]
	for {
		f, err := tap.tracer.Next()
		r.mu.Lock()
		why, err := r.take(ctx, i, f, err)
		over := r.Ended != "" || r.err != nil || why != "" || err != nil
		switch {
		case r.Ended != "" || r.err != nil: // by another tap's
		case err != nil:
			r.err = err
			r.stop()
		case why == gone && r.left > 1:
			r.left--
		case why == gone:
			r.Ended = fmt.Sprintf("%s is gone: the interface was given back, or the pod has ended", tap.name)
		case why != "":
			r.Ended = why
			r.stop()
		}
		r.mu.Unlock()
		if over {
			return
		}
	}
}

// gone is why the trace of one tap ends, and not of the others.
const gone = "gone"

// take passes a frame on. It says why there will be no more.
func (r *following) take(ctx context.Context, i int, f dhcptrace.Traced, err error) (string, error) {
	switch {
	case r.Ended != "" || r.err != nil:
		return "", nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "the time is up", nil
	case ctx.Err() != nil:
		return "interrupted", nil
	case errors.Is(err, dhcptrace.ErrLinkGone):
		return gone, nil
	case err != nil:
		return "", err
	}
	if f.Length > 0 {
		r.Total++
		r.Frames[f.Protocol]++
	} else {
		r.Unanswered++
	}
	if err := r.each(Frame{Interface: r.taps[i].iface, Traced: f, tap: i, named: len(r.taps) > 1}); err != nil {
		return "", err
	}
	if r.count > 0 && r.Total >= r.count {
		return "the count is reached", nil
	}
	return "", nil
}
