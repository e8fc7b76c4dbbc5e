// Package hook does what libvirt calls its hook for: it wires and serves when a guest is to start, looks after both while
// it runs, and takes them back when it has ended.
package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/podnic/podnic/cmd/agent/detached"
	"github.com/podnic/podnic/cmd/agent/hooklog"
	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/cmd/agent/wiring"
	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/domain/qemuhook"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/holding"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Task is one call of libvirt's hook, and what the configuration says of it. Options.Tap and Options.Queues are zero
// unless somebody configured them: they are the domain's.
type Task struct {
	network.Request
	Call qemuhook.Call
	XML  io.Reader // the domain's
	// Domains are patterns of the names of domains that are podnic's without saying so (path.Match).
	Domains []string
	// Timeout bounds the whole call, from when the program was started.
	Timeout time.Duration
	Started time.Time
	// ServeArgs are the arguments of `podnic serve` that its server gets.
	ServeArgs []string
}

// Named reports whether a domain is podnic's by its name, which matches a pattern. The error is an invalid pattern.
func Named(name string, patterns []string) (bool, error) {
	for _, pattern := range patterns {
		match, err := path.Match(pattern, name)
		if err != nil {
			return false, fmt.Errorf("hook.domains: %q is not a pattern (%w): it takes *, ? and [a-z]", pattern, err)
		}
		if match {
			return true, nil
		}
	}
	return false, nil
}

// Run does what libvirt's hook is called for, within the timeout, and leaves a line in the log. A domain that is not
// podnic's is left alone, without a line.
func Run(req Task, log *zap.Logger) error {
	soft := req.Started.Add(req.Timeout - req.Timeout/10)
	ctx, cancel := context.WithDeadline(context.Background(), soft)
	defer cancel()
	req.LockTimeout = min(req.LockTimeout, time.Until(soft).Round(time.Millisecond))
	h := &hook{Task: req, entry: hooklog.Entry{
		Guest: req.Call.Guest, Operation: req.Call.Operation, SubOperation: req.Call.SubOperation, Reason: req.Call.Reason(),
	}}
	// What asks the context gives up a tenth of the time before the end, and can say what it waited for. What hangs in the
	// kernel is left behind.
	late := time.NewTimer(time.Until(req.Started.Add(req.Timeout)))
	defer late.Stop()
	result := make(chan hookResult, 1)
	h.stage("read the domain's XML")
	go func() { result <- h.run(ctx) }()
	var r hookResult
	select {
	case r = <-result:
	case <-late.C:
		r = h.overdue()
	}
	if r.entry != nil {
		r.entry.Finish(r.err, req.Started)
		if err := hooklog.Append(req.StateDir, r.entry); err != nil && r.err == nil { // an error says enough
			log.Warn("the hook's log lacks a line", zap.Error(err))
		}
	}
	return r.err
}

// hookResult is what came of a call; no entry where it did not concern podnic.
type hookResult struct {
	entry *hooklog.Entry
	err   error
}

// hook is one call on its way.
type hook struct {
	Task
	entry hooklog.Entry // the goroutine's own
	doing atomic.Value

	document *domainxml.Document
}

// stage says what is done from now on, for the message that it takes too long.
func (h *hook) stage(what string) { h.doing.Store(what) }

// did adds to the log's line.
func (h *hook) did(format string, args ...any) {
	h.entry.Did = append(h.entry.Did, fmt.Sprintf(format, args...))
}

// overdue is the end of a call that something holds up.
func (h *hook) overdue() hookResult {
	what, _ := h.doing.Load().(string)
	c := h.Call
	return hookResult{
		&hooklog.Entry{Guest: c.Guest, Operation: c.Operation, SubOperation: c.SubOperation, Reason: c.Reason()},
		fmt.Errorf("hook.timeout (%v) has passed while podnic was to %s", h.Timeout, what),
	}
}

func (h *hook) run(ctx context.Context) (r hookResult) {
	defer func() {
		if p := recover(); p != nil { // its exit status would kill a guest that runs
			r = hookResult{&h.entry, fmt.Errorf("podnic panicked while it was to %v: %v", h.doing.Load(), p)}
		}
	}()
	concerned, err := h.read()
	if err != nil {
		return hookResult{&h.entry, &plan.RefusalError{Reason: err}}
	}
	if !concerned {
		return hookResult{}
	}
	h.entry.UUID = h.document.UUID()
	h.stage("wait for another call of the hook")
	unlock, err := lockHooks(h.StateDir)
	switch {
	case err == nil:
		defer unlock()
	case statedir.IsUntrusted(err) && h.Call.Operation != qemuhook.Prepare:
		// A user who can put a directory there must not keep the pod from its interface.
		h.entry.Warnings = append(h.entry.Warnings, err.Error())
	default:
		return hookResult{&h.entry, err}
	}
	return hookResult{&h.entry, h.dispatch(ctx)}
}

// read reads the domain and reports whether it is podnic's.
func (h *hook) read() (bool, error) {
	xml, err := domainxml.ReadXML(h.XML)
	if err != nil {
		return false, err
	}
	if h.document, err = domainxml.Parse(xml); err != nil {
		return false, err
	}
	pod, err := h.document.Pod()
	if pod != nil || err != nil {
		return true, err
	}
	named, err := Named(h.Call.Guest, h.Domains)
	if h.Call.Ends() && (!named || err != nil) {
		// What was given to it is given back, whatever the configuration says of names by now, or does not.
		given, failed := network.GivenTo(h.Request, *h.guest())
		return failed == nil && len(given) > 0, nil
	}
	return named, err
}

func (h *hook) dispatch(ctx context.Context) error {
	switch h.Call.Operation {
	case qemuhook.Prepare:
		return h.prepare(ctx)
	case qemuhook.Start, qemuhook.Started, qemuhook.Reconnect, qemuhook.Attach:
		return h.check(ctx)
	case qemuhook.Stopped, qemuhook.Release:
		return h.end(ctx)
	}
	return nil // what is printed at migrate and restore would replace the XML
}

// lockHooks excludes other calls of the hook: libvirt starts guests side by side, and each call looks, decides and acts.
// A call that waits too long is ended by the timeout.
func lockHooks(stateDir string) (unlock func(), err error) {
	d, err := statedir.Make(stateDir, statedir.Own)
	if err != nil {
		return nil, plan.Refuse("the state directory cannot be made or written (%w): name another with state-dir", err)
	}
	defer d.Close()
	f, err := d.OpenLock("hook.lock")
	if err != nil {
		return nil, plan.Refuse("the state directory cannot be written (%w): name another with state-dir", err)
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { f.Close() }, nil
}

// guest is the domain as the record names it.
func (h *hook) guest() *network.DomainRef {
	return &network.DomainRef{Name: h.document.Name(), UUID: h.document.UUID()}
}

// isGuest reports whether the record's guest is this one.
func (h *hook) isGuest(ref *network.DomainRef) bool {
	return ref.Is(h.document.Name(), h.document.UUID())
}

// prepare gives the pod's interfaces to the guest that is about to start, all or none, and makes sure that they are served.
func (h *hook) prepare(ctx context.Context) error {
	h.stage("inspect the namespace")
	cards, err := h.cards()
	if err != nil {
		return err
	}
	for _, c := range cards {
		if c.seen.Wired {
			if err := h.settle(ctx, c); err != nil {
				return err
			}
		}
		if err := h.fits(c); err != nil {
			return err
		}
	}
	if err := h.wire(ctx, cards); err != nil {
		return err
	}
	err = h.serve(ctx, cards)
	fresh := slices.DeleteFunc(slices.Clone(cards), func(c *card) bool { return c.seen.Wired })
	if err == nil || len(fresh) == 0 {
		return err
	}
	h.stage("give the pod its interfaces back")
	if _, failed := wiring.RestoreAll(context.Background(), h.of(fresh...), false); failed != nil {
		return errors.Join(err, failed)
	}
	return fmt.Errorf("%w (everything was put back)", err)
}

// of is the request for the interfaces of cards, and no others.
func (h *hook) of(cards ...*card) network.Request {
	var options []plan.Options
	for _, c := range cards {
		o := c.asked
		o.Interface = c.name()
		options = append(options, o)
	}
	return h.Only(options...)
}

// settle decides whose wiring it is that is there. What an earlier guest left is taken back. What somebody else prepared or
// serves is used as it is.
func (h *hook) settle(ctx context.Context, c *card) (err error) {
	seen := c.seen
	ref := wiring.RecordedDomain(seen)
	if seen.Attached {
		owner := "a guest"
		if ref != nil {
			owner = fmt.Sprintf("the guest %q", ref.Name)
		}
		return plan.Refuse("%s is held by %s, and a pod's interface is for one: end that one first", seen.Names.Tap, owner)
	}
	alive, own, err := h.served(ctx, seen)
	switch {
	case err != nil:
		return err
	case ref == nil && seen.Record != nil: // by `podnic prepare`
		return nil
	case alive && ref != nil && !h.isGuest(ref):
		return plan.Refuse("%s is given to the guest %q, which is being started or was not released: end it, or run `podnic restore`", seen.Names.Interface, ref.Name)
	case alive && !own:
		return nil
	}
	h.stage("take back what an earlier guest left")
	if _, err := wiring.Restore(ctx, h.of(c), false); err != nil {
		return err
	}
	h.did("took back what an earlier guest left")
	c.seen, err = network.Inspect(h.of(c))
	return err
}

// served reports whether a process serves the interface, and whether it is a detached server. A process that holds
// the server's socket and is not a podnic that a state file names is a refusal: the guest would start without a server.
func (h *hook) served(ctx context.Context, seen *network.Inspection) (alive, own bool, err error) {
	ns, err := network.OpenNamespace(h.Namespace)
	if err != nil {
		return false, false, err
	}
	defer ns.Close()
	find := func() (*holding.Socket, *presence.Process, error) {
		holder, err := presence.Of(ns, seen.Names.Interface)
		if err != nil || holder == nil {
			return nil, nil, err
		}
		if !holder.Trusted() {
			return holder, nil, presence.Squatted(holder)
		}
		server, err := presence.Proven(holder, h.StateDir, seen.ID)
		return holder, server, err
	}
	holder, found, err := find()
	if holder == nil || found != nil || err != nil {
		return found != nil, found != nil && found.Detached, err
	}
	// One that has just begun writes its file in a moment.
	ctx, cancel := context.WithTimeout(ctx, namedPatience)
	defer cancel()
	changed, stop, err := statefile.Watch(h.StateDir, seen.Names.Interface)
	if err != nil {
		return false, false, err
	}
	defer stop()
	for {
		holder, found, err = find()
		if holder == nil || found != nil || err != nil {
			return found != nil, found != nil && found.Detached, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, false, plan.Refuse("%s has the socket @%s, by which podnic knows who serves, and no state in %s names it: end it, or have it use this directory",
				holder, holder.Name, h.StateDir)
		}
	}
}

// namedPatience is how long a server that has begun may take until its state file names it.
const namedPatience = time.Second

// fits refuses an interface that asks for what the pod, or the existing wiring, does not have.
func (h *hook) fits(c *card) error {
	link := c.seen.Original.Link(plan.NIC)
	want := domainxml.NIC{Tap: c.asked.Tap, MAC: link.MAC, MTU: c.seen.Original.GuestMTU(), Queues: c.asked.Queues}
	if c.seen.Wired {
		want.Tap, want.Queues = c.seen.Options.Tap, c.seen.Options.Queues
	}
	if err := c.nic.Fits(want); err != nil {
		return plan.Refuse("domain %q does not fit %s: %w", h.document.Name(), c.name(), err)
	}
	return nil
}

// wire makes the wirings, all or none, and mends those that are there. The record names the guest if a wiring is made for it.
func (h *hook) wire(ctx context.Context, cards []*card) error {
	var own, byHand []*card
	for _, c := range cards {
		if !c.seen.Wired || c.seen.Record == nil || h.isGuest(wiring.RecordedDomain(c.seen)) {
			own = append(own, c)
		} else {
			byHand = append(byHand, c)
		}
	}
	for _, group := range []struct {
		cards []*card
		guest *network.DomainRef
	}{{byHand, nil}, {own, h.guest()}} {
		if len(group.cards) == 0 {
			continue
		}
		var options []plan.Options
		var names []string
		for _, c := range group.cards {
			options, names = append(options, c.options()), append(names, c.name())
		}
		h.stage("wire " + strings.Join(names, ", "))
		req := h.Only(options...)
		req.Domain = group.guest
		all, err := wiring.PrepareAll(ctx, req, h.Started)
		if err != nil {
			return err
		}
		for _, r := range all {
			if err := h.wired(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// wired notes what was done.
func (h *hook) wired(r *network.Result) error {
	switch {
	case r.Repaired:
		h.did("mended the wiring of %s (%d changes)", r.Names.Interface, len(r.Steps))
	case len(r.Steps) > 0:
		h.did("wired %s (%d changes)", r.Names.Interface, len(r.Steps))
	}
	h.entry.Warnings = append(h.entry.Warnings, r.Warnings...)
	if r.TapRemade && h.Call.Operation != qemuhook.Prepare {
		return fmt.Errorf("the guest has lost its network: %s was gone, and the guest does not hold the one that has been made again; start it again", r.Names.Tap)
	}
	return nil
}

// serve makes sure that somebody serves the guest, and returns when the guest can be heard.
func (h *hook) serve(ctx context.Context, cards []*card) error {
	var unserved []*card
	for _, c := range cards {
		h.stage("ask who serves " + c.name())
		alive, _, err := h.served(ctx, c.seen)
		if err != nil {
			return err
		}
		if !alive {
			unserved = append(unserved, c)
			continue
		}
		h.stage("wait for the server of " + c.name())
		if err := presence.Await(ctx, h.StateDir, c.seen); err != nil {
			return err
		}
	}
	if len(unserved) == 0 {
		return nil
	}
	// Each domain's server is one of its own.
	args := slices.DeleteFunc(slices.Clone(h.ServeArgs), func(arg string) bool { return strings.HasPrefix(arg, "--interface=") })
	args = append(args, "--"+detached.GuestFlag+"="+h.document.UUID()+"/"+h.document.Name())
	for _, c := range unserved {
		args = append(args, "--interface="+c.name())
		if mtu := c.nic.MTU; mtu > 0 && mtu < c.seen.Original.GuestMTU() {
			args = append(args, fmt.Sprintf("--%s=%s=%d", detached.GuestMTUFlag, c.name(), mtu)) // the guest's driver takes no more
		}
	}
	h.stage("start a server")
	pid, err := detached.Start(ctx, h.StateDir, args)
	if err != nil {
		return err
	}
	h.did("started a server (process %d)", pid)
	return nil
}

// check looks after the network of a guest that runs, or is about to.
func (h *hook) check(ctx context.Context) error {
	h.stage("inspect the namespace")
	cards, err := h.cards()
	if err != nil {
		return err
	}
	if cards, err = h.attached(cards); err != nil {
		return err
	}
	var broken []*card
	for _, c := range cards {
		if !c.seen.Wired {
			return fmt.Errorf("%s is not wired, so the guest has no network: start it again", c.name())
		}
		if ref := wiring.RecordedDomain(c.seen); ref != nil && !h.isGuest(ref) {
			return fmt.Errorf("%s is given to the guest %q, so this one has no network: end one of them", c.name(), ref.Name)
		}
		if len(c.seen.Repairs) > 0 || c.seen.Record == nil {
			broken = append(broken, c)
		}
	}
	if err := h.wire(ctx, broken); err != nil {
		return err
	}
	return h.serve(ctx, cards)
}

// end takes back what was given to the guest, which has ended. What is another guest's, or was prepared by hand, stays.
func (h *hook) end(ctx context.Context) error {
	h.stage("find whose wiring it is")
	ours, err := network.GivenTo(h.Request, *h.guest())
	if err != nil {
		return err
	}
	var errs []error
	if len(ours) > 0 {
		var options []plan.Options
		for _, name := range ours {
			options = append(options, plan.Options{Interface: name})
		}
		// The guest is gone, libvirt says, so nobody loses a network by force.
		errs = append(errs, h.takeBack(ctx, options, true))
	}
	asked, err := h.asked()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, o := range eachOf(asked) {
		if o.Interface == "" && len(ours) > 0 || slices.Contains(ours, o.Interface) {
			continue
		}
		errs = append(errs, h.endUnrecorded(ctx, o))
	}
	return errors.Join(errs...)
}

// endUnrecorded takes back an interface that no record gives to the guest, if nobody has it.
func (h *hook) endUnrecorded(ctx context.Context, o plan.Options) error {
	req := h.Only(o)
	record, err := network.Recorded(req)
	if err != nil {
		return err
	}
	if record != nil && record.Domain != nil {
		return nil
	}
	// It was prepared by hand, or nothing is wired, or the record was lost. Whether another guest has it, the tap says.
	if seen, err := network.Inspect(req); err == nil && seen.Attached {
		return nil
	}
	if record == nil {
		return h.takeBack(ctx, []plan.Options{o}, false)
	}
	h.stage("end the server")
	return h.endServer(record.Options.Interface)
}

// takeBack ends the servers of interfaces and gives the pod these back. What is not wired any more needs neither.
func (h *hook) takeBack(ctx context.Context, options []plan.Options, force bool) error {
	h.stage("end the server")
	var served []string
	for _, o := range options {
		if o.Interface != "" {
			served = append(served, o.Interface)
		}
	}
	errs := []error{h.endServer(served...)}
	h.stage("give the pod its interface back")
	for _, o := range options {
		r, err := wiring.Restore(ctx, h.Only(o), force)
		switch {
		case network.IsNotWired(err):
		case err != nil:
			errs = append(errs, err)
		case len(r.Steps) > 0:
			h.did("restored %s (%d changes)", r.Names.Interface, len(r.Steps))
			h.entry.Warnings = append(h.entry.Warnings, r.Warnings...)
		}
	}
	return errors.Join(errs...)
}

func (h *hook) endServer(served ...string) error {
	pids, err := presence.EndDetached(h.Request, served...)
	for _, pid := range pids {
		h.did("ended the server (process %d)", pid)
	}
	return err
}
