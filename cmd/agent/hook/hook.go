// Package hook does what libvirt calls its hook for: it wires and serves when a guest is to start, looks after both while
// it runs, and takes them back when it has ended. It installs the hook, too.
package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync/atomic"
	"time"

	"github.com/podnic/podnic/cmd/agent/detached"
	"github.com/podnic/podnic/cmd/agent/hooklog"
	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/cmd/agent/wiring"
	"github.com/podnic/podnic/domain"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Task is one call of libvirt's hook, and what the configuration says of it. Options.Tap and Options.Queues are zero
// unless somebody configured them: they are the domain's.
type Task struct {
	network.Request
	Call domain.HookCall
	XML  io.Reader // the domain's
	// Domains are patterns of the names of domains that are podnic's without saying so (path.Match).
	Domains []string
	// Timeout bounds the whole call, from when the program was started.
	Timeout time.Duration
	Started time.Time
	// ServeArgs are the arguments of `podnic serve` that its server gets, MTU what they say of the MTU, 0 for nothing.
	ServeArgs []string
	MTU       int
}

// Named reports whether a domain is podnic's by its name, which matches a pattern. The error is a pattern that is none.
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

// hookResult is what came of a call; no entry where it was none of podnic's business.
type hookResult struct {
	entry *hooklog.Entry
	err   error
}

// hook is one call on its way.
type hook struct {
	Task
	entry hooklog.Entry // the goroutine's own
	doing atomic.Value

	document *domain.Document
	nic      domain.Interface
}

// stage says what is done from now on, for whoever finds that it takes too long.
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
		return hookResult{&h.entry, &network.RefusalError{Reason: err}}
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
	case statedir.IsUntrusted(err) && h.Call.Operation != domain.HookPrepare:
		// Whoever can put a directory of their own there must not keep the pod from its interface.
		h.entry.Warnings = append(h.entry.Warnings, err.Error())
	default:
		return hookResult{&h.entry, err}
	}
	return hookResult{&h.entry, h.dispatch(ctx)}
}

// read reads the domain and reports whether it is podnic's.
func (h *hook) read() (bool, error) {
	xml, err := domain.ReadXML(h.XML)
	if err != nil {
		return false, err
	}
	if h.document, err = domain.Parse(xml); err != nil {
		return false, err
	}
	pod, err := h.document.Pod()
	if pod != nil || err != nil {
		return true, err
	}
	return Named(h.Call.Guest, h.Domains)
}

func (h *hook) dispatch(ctx context.Context) error {
	switch h.Call.Operation {
	case domain.HookPrepare:
		return h.prepare(ctx)
	case domain.HookStart, domain.HookStarted, domain.HookReconnect, domain.HookAttach:
		return h.check(ctx)
	case domain.HookStopped, domain.HookRelease:
		return h.end(ctx)
	}
	return nil // what is printed at migrate and restore would replace the XML
}

// lockHooks excludes other calls of the hook: libvirt starts guests side by side, and each call looks, decides and acts.
// Whoever waits too long is ended by the timeout.
func lockHooks(stateDir string) (unlock func(), err error) {
	d, err := statedir.Make(stateDir, statedir.Own)
	if err != nil {
		return nil, network.Refuse("the state directory cannot be made or written (%w): name another with state-dir", err)
	}
	defer d.Close()
	f, err := d.OpenLock("hook.lock")
	if err != nil {
		return nil, network.Refuse("the state directory cannot be written (%w): name another with state-dir", err)
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
	switch {
	case ref == nil:
		return false
	case ref.UUID != "" && h.document.UUID() != "":
		return ref.UUID == h.document.UUID()
	}
	return ref.Name == h.document.Name()
}

// prepare gives the pod's interface to the guest that is about to start, and makes sure that it is served.
func (h *hook) prepare(ctx context.Context) error {
	h.stage("look at the namespace")
	pod, err := h.document.Pod()
	if err != nil {
		return &network.RefusalError{Reason: err}
	}
	if pod != nil && pod.Interface != "" {
		h.Options.Interface = pod.Interface
	}
	if pod != nil && pod.Binding != "" {
		h.Options.Binding = pod.Binding
	}
	if err := h.readInterface(); err != nil {
		return err
	}
	seen, err := network.Inspect(h.Request)
	if err != nil {
		return err
	}
	if seen.Wired {
		if seen, err = h.settle(ctx, seen); err != nil {
			return err
		}
	}
	if err := h.fits(seen); err != nil {
		return err
	}
	h.Options.Tap, h.Options.Queues = h.nic.Tap, h.nic.TapQueues()
	if err := h.wire(ctx, seen); err != nil {
		return err
	}
	err = h.serve(ctx, seen)
	if err == nil || seen.Wired {
		return err
	}
	h.stage("give the pod its interface back")
	if _, failed := wiring.Restore(context.Background(), h.Request, false); failed != nil {
		return errors.Join(err, failed)
	}
	return fmt.Errorf("%w (everything was put back)", err)
}

// readInterface finds the interface in the domain that the pod's is for.
func (h *hook) readInterface() (err error) {
	name := h.Options.Tap
	if name == "" {
		name = network.DefaultTap
	}
	if h.nic, err = h.document.Tap(name); err != nil {
		return &network.RefusalError{Reason: err}
	}
	return nil
}

// settle decides whose wiring it is that is there. What an earlier guest left is taken back. What somebody else prepared or
// serves is used as it is.
func (h *hook) settle(ctx context.Context, seen *network.State) (*network.State, error) {
	ref := wiring.RecordedDomain(seen)
	if seen.Attached {
		owner := "a guest"
		if ref != nil {
			owner = fmt.Sprintf("the guest %q", ref.Name)
		}
		return nil, network.Refuse("%s is held by %s, and a pod's interface is for one: end that one first", seen.Names.Tap, owner)
	}
	alive, own, err := h.served(ctx, seen)
	switch {
	case err != nil:
		return nil, err
	case ref == nil && seen.Record != nil: // by `podnic prepare`
		return seen, nil
	case alive && ref != nil && !h.isGuest(ref):
		return nil, network.Refuse("%s is given to the guest %q, which is being started or was not released: end it, or run `podnic restore`", seen.Names.Interface, ref.Name)
	case alive && !own:
		return seen, nil
	}
	h.stage("take back what an earlier guest left")
	if _, err := wiring.Restore(ctx, h.Request, false); err != nil {
		return nil, err
	}
	h.did("took back what an earlier guest left")
	return network.Inspect(h.Request)
}

// served reports whether a process serves the interface, and whether it is a detached server. Somebody who has the name of
// who serves and is no podnic that a state file names is a refusal: the guest would start without a server.
func (h *hook) served(ctx context.Context, seen *network.State) (alive, own bool, err error) {
	ns, err := network.OpenNamespace(h.Namespace)
	if err != nil {
		return false, false, err
	}
	defer ns.Close()
	look := func() (*network.SocketHolder, *presence.Server, error) {
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
	holder, found, err := look()
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
		holder, found, err = look()
		if holder == nil || found != nil || err != nil {
			return found != nil, found != nil && found.Detached, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, false, network.Refuse("%s has the socket @%s, by which podnic knows who serves, and no state in %s names it: end it, or have it use this directory",
				holder, holder.Name, h.StateDir)
		}
	}
}

// namedPatience is how long a server that has begun may take until its state file names it.
const namedPatience = time.Second

// fits refuses an interface that asks for what the pod, or the wiring that is there, does not have.
func (h *hook) fits(seen *network.State) error {
	link := seen.Original.Link(network.NIC)
	want := domain.NIC{Tap: h.Options.Tap, MAC: link.MAC, MTU: seen.Original.GuestMTU(), Queues: h.Options.Queues}
	if seen.Wired {
		want.Tap, want.Queues = seen.Options.Tap, seen.Options.Queues
	}
	if iface := h.Options.Interface; seen.Wired && iface != "" && iface != seen.Names.Interface {
		return network.Refuse("domain %q is for %s, and %s is wired already: change interface='%s' in its metadata, or run `podnic restore`",
			h.document.Name(), iface, seen.Names.Interface, iface)
	}
	if err := h.nic.Fits(want); err != nil {
		return network.Refuse("domain %q does not fit %s: %w", h.document.Name(), seen.Names.Interface, err)
	}
	return nil
}

// wire makes the wiring, or mends the one that is there. The record names the guest if the wiring is made for it.
func (h *hook) wire(ctx context.Context, seen *network.State) error {
	h.stage("wire " + seen.Names.Interface)
	req := h.Request
	if seen.Wired {
		req.Options = seen.Options
	}
	if !seen.Wired || seen.Record == nil || h.isGuest(wiring.RecordedDomain(seen)) {
		req.Domain = h.guest()
	}
	r, err := wiring.Prepare(ctx, req, h.Started)
	if err != nil {
		return err
	}
	switch {
	case r.Repaired:
		h.did("mended the wiring of %s (%d changes)", r.Names.Interface, len(r.Steps))
	case len(r.Steps) > 0:
		h.did("wired %s (%d changes)", r.Names.Interface, len(r.Steps))
	}
	h.entry.Warnings = append(h.entry.Warnings, r.Warnings...)
	if r.TapRemade && h.Call.Operation != domain.HookPrepare {
		return fmt.Errorf("the guest has lost its network: %s was gone, and the guest does not hold the one that has been made again; start it again", r.Names.Tap)
	}
	return nil
}

// serve makes sure that somebody serves the guest, and returns when the guest can be heard.
func (h *hook) serve(ctx context.Context, seen *network.State) error {
	h.stage("ask who serves " + seen.Names.Interface)
	alive, _, err := h.served(ctx, seen)
	if err != nil {
		return err
	}
	if alive {
		h.stage("wait for the server of " + seen.Names.Interface)
		return awaitServer(ctx, h.StateDir, seen)
	}
	args := slices.Clone(h.ServeArgs)
	if mtu := h.nic.MTU; mtu > 0 && mtu < seen.Original.GuestMTU() && (h.MTU == 0 || mtu < h.MTU) {
		args = append(args, fmt.Sprintf("--mtu=%d", mtu)) // the guest's driver takes no more
	}
	h.stage("start a server")
	pid, err := detached.Start(ctx, h.StateDir, args)
	if err != nil {
		return err
	}
	h.did("started a server (process %d)", pid)
	return nil
}

// awaitServer waits until the server of an interface says that it can hear the guest.
func awaitServer(ctx context.Context, stateDir string, seen *network.State) error {
	iface, id := seen.Names.Interface, seen.ID
	// Most often it can. A watch is made only where it cannot yet, since to give one back takes the kernel milliseconds.
	if heard, err := hears(stateDir, iface, id); heard || err != nil {
		return err
	}
	changed, stop, err := statefile.Watch(stateDir, iface)
	if err != nil {
		return err
	}
	defer stop()
	for {
		if heard, err := hears(stateDir, iface, id); heard || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.New("the server that is there cannot hear the guest: see what `podnic status` warns of")
		}
	}
}

// hears reports whether the server says that it can hear the guest, or nothing.
func hears(stateDir, iface string, id network.NamespaceID) (bool, error) {
	state, err := statefile.Load(stateDir, iface, id)
	switch {
	case err != nil:
		return false, err
	case state == nil || state.Server == nil || !state.Ready.IsZero():
		return true, nil
	case state.Failed != "":
		return false, errors.New(state.Failed)
	}
	start, err := statefile.StartTime(state.Server.ID)
	return err != nil || start != state.Server.Start, nil // left by one that has ended
}

// check looks after the network of a guest that runs, or is about to.
func (h *hook) check(ctx context.Context) error {
	h.stage("look at the namespace")
	seen, err := network.Inspect(h.Request)
	if err != nil {
		return err
	}
	if !seen.Wired {
		return fmt.Errorf("%s is not wired, so the guest has no network: start it again", seen.Names.Interface)
	}
	if ref := wiring.RecordedDomain(seen); ref != nil && !h.isGuest(ref) {
		return fmt.Errorf("%s is given to the guest %q, so this one has no network: end one of them", seen.Names.Interface, ref.Name)
	}
	if err := h.readInterface(); err != nil {
		return err
	}
	if len(seen.Missing) > 0 || seen.Record == nil {
		if err := h.wire(ctx, seen); err != nil {
			return err
		}
	}
	return h.serve(ctx, seen)
}

// end takes back what was given to the guest, which has ended. What is another guest's, or was prepared by hand, stays.
func (h *hook) end(ctx context.Context) error {
	h.stage("look whose wiring it is")
	record, err := network.Recorded(h.Request)
	if err != nil {
		return err
	}
	ours := record != nil && h.isGuest(record.Domain)
	if !ours {
		if record != nil && record.Domain != nil {
			return nil
		}
		// It was prepared by hand, or nothing is wired, or the record was lost. Whether another guest has it, the tap says.
		if seen, err := network.Inspect(h.Request); err == nil && seen.Attached {
			return nil
		}
	}
	h.stage("end the server")
	pid, err := presence.EndDetached(h.Request, "")
	if pid > 0 {
		h.did("ended the server (process %d)", pid)
	}
	if record != nil && !ours {
		return err
	}
	h.stage("give the pod its interface back")
	// The guest is gone, libvirt says, so nobody loses a network by force.
	r, failed := wiring.Restore(ctx, h.Request, ours)
	if failed == nil && len(r.Steps) > 0 {
		h.did("restored %s (%d changes)", r.Names.Interface, len(r.Steps))
		h.entry.Warnings = append(h.entry.Warnings, r.Warnings...)
	}
	return errors.Join(err, failed)
}
