// Package plug gives one more interface of the pod to a running libvirt guest, and takes one from it: wired and served
// before the guest has the card, given back to the pod after it has given the card up.
package plug

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/podnic/podnic/cmd/agent/detached"
	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/cmd/agent/wiring"
	"github.com/podnic/podnic/domain"
	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
	"go.uber.org/zap"
)

// Task is an interface, and the guest that gets it or gives it up.
type Task struct {
	// Request names the interface in its options.
	network.Request
	// Domain is the guest's name; empty is the one that records give interfaces of this pod to.
	Domain string
	// URI is libvirt's; empty is its default.
	URI string
	// ConnectTimeout bounds the wait for the libvirt daemon, Timeout that for the guest.
	ConnectTimeout, Timeout time.Duration
	// ServeArgs are arguments of `podnic serve`, where one has to be started.
	ServeArgs []string
	// Started is when the program was.
	Started time.Time
}

// Times of an attachment.
const (
	// takePatience is how long a server of the guest's other interfaces has to take a new one. It looks a tenth of a second after
	// the last change.
	takePatience = 5 * time.Second
	// pollInterval is how often to poll what gives no notice: who serves, and a tap's carrier.
	pollInterval = 20 * time.Millisecond
)

// plug is one task on its way.
type plug struct {
	Task
	log     *zap.Logger
	seen    *network.Inspection   // the interface
	others  []*network.Inspection // that are wired besides
	libvirt *domain.Connection
	guest   *domain.Guest
	started bool             // a server
	said    *statefile.State // what the last one before that said; nil: nothing
}

// Attachment is what Attach did.
type Attachment struct {
	*network.Result
	Domain network.DomainRef
	// Had says that the guest had the card already.
	Had bool
}

// Attach wires the interface for the guest, has it served, plugs the card, and waits until the emulator holds the tap. After an
// error that is neither a refusal nor a [network.StuckError], the pod and the guest are as they were.
func Attach(ctx context.Context, t Task, log *zap.Logger) (*Attachment, error) {
	p := &plug{Task: t, log: log}
	if err := p.inspect(); err != nil {
		return nil, err
	}
	if err := p.find(ctx); err != nil {
		return nil, err
	}
	defer p.libvirt.Close()
	ref := network.DomainRef{Name: p.guest.Name(), UUID: p.guest.UUID()}
	if owner := wiring.RecordedDomain(p.seen); p.seen.Wired && owner != nil && !owner.Is(ref.Name, ref.UUID) {
		return nil, plan.Refuse("%s is given to the guest %q: detach it from that one first", p.name(), owner.Name)
	}
	a := &Attachment{Domain: ref}
	if p.seen.Wired {
		var err error
		if a.Had, err = p.guest.Has(p.seen.Names.Tap); err != nil {
			return nil, err
		}
		if p.seen.Attached && !a.Had {
			return nil, plan.Refuse("%s, the tap of %s, is held by another process than the guest %q: end that first", p.seen.Names.Tap, p.name(), ref.Name)
		}
	}
	req := p.Request
	req.Domain = &ref
	if !p.seen.Wired && req.Options.Socket == "" {
		req.Options.Socket = p.socket(ref)
	}
	var err error
	if a.Result, err = wiring.Prepare(ctx, req, p.Started); err != nil {
		return nil, err
	}
	if err = p.serve(ctx, a); err == nil {
		err = p.plugIn(ctx, a)
	}
	if err != nil {
		return nil, p.takeBack(a, err)
	}
	return a, nil
}

func (p *plug) name() string { return p.seen.Names.Interface }

// inspect looks at the interface.
func (p *plug) inspect() (err error) {
	p.seen, err = network.Inspect(p.Request)
	return err
}

// find looks at the pod's other interfaces and finds the guest. Nothing is changed.
func (p *plug) find(ctx context.Context) error {
	wired, err := network.InspectAll(p.Only(plan.Options{}))
	if err != nil && !network.IsRefusal(err) {
		return err
	}
	for _, one := range wired {
		if one.Wired && one.Names.Interface != p.name() {
			p.others = append(p.others, one)
		}
	}
	if p.Domain == "" {
		if err := p.findDomain(); err != nil {
			return err
		}
	}
	if p.libvirt, err = domain.Connect(ctx, p.URI, p.ConnectTimeout, p.log); err != nil {
		return &plan.RefusalError{Reason: err}
	}
	p.guest, err = p.libvirt.Find(p.Domain)
	if err == nil && p.guest == nil {
		err = plan.Refuse("no domain called %s runs: start it, or name the one that does with --domain", p.Domain)
	}
	if err != nil {
		p.libvirt.Close()
	}
	return err
}

// findDomain takes the guest that records name, if it is one.
func (p *plug) findDomain() error {
	var names []string
	for _, one := range append([]*network.Inspection{p.seen}, p.others...) {
		if ref := wiring.RecordedDomain(one); one.Wired && ref != nil && !slices.Contains(names, ref.Name) {
			names = append(names, ref.Name)
		}
	}
	if p.seen.Wired && wiring.RecordedDomain(p.seen) != nil {
		names = names[:1] // its own
	}
	switch len(names) {
	case 0:
		return plan.Refuse("no record gives an interface of this pod to a guest: name the guest with --domain")
	case 1:
		p.Domain = names[0]
		return nil
	}
	return plan.Refuse("several guests have interfaces of this pod (%v): name one with --domain", names)
}

// socket is that of the guest's other interfaces, which its server can open.
func (p *plug) socket(ref network.DomainRef) string {
	for _, one := range p.others {
		if wiring.RecordedDomain(one).Is(ref.Name, ref.UUID) {
			return one.Options.Socket
		}
	}
	return ""
}

// serve waits until the server of the guest's other interfaces has taken this one up, or starts one where there is none that does.
func (p *plug) serve(ctx context.Context, a *Attachment) error {
	ns, err := network.OpenNamespace(p.Namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	served := func(name string) bool {
		holder, err := presence.Of(ns, name)
		return err == nil && holder != nil
	}
	expected := func() bool {
		return slices.ContainsFunc(p.others, func(one *network.Inspection) bool {
			owner := wiring.RecordedDomain(one) // nil: it was prepared by hand
			return (owner == nil || owner.Is(a.Domain.Name, a.Domain.UUID)) && served(one.Names.Interface)
		})
	}
	for deadline := time.Now().Add(takePatience); expected() && !served(p.name()) && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollInterval):
		}
	}
	if !served(p.name()) {
		args := append(slices.Clone(p.ServeArgs), "--interface="+p.name(), "--"+detached.GuestFlag+"="+a.Domain.UUID+"/"+a.Domain.Name)
		if others, err := presence.All(ns); err == nil && len(others) > 0 {
			args = append(args, "--metrics-listen=") // the address that is configured is theirs
		}
		if p.said, err = statefile.Load(p.StateDir, p.name(), p.seen.ID); err != nil {
			p.log.Warn("what an earlier server said is lost", zap.Error(err))
		}
		p.started = true // one that fails may have left its file, too
		pid, err := detached.Start(ctx, p.StateDir, args)
		if err == nil {
			p.log.Info("started a server", zap.String("interface", p.name()), zap.Int("pid", pid))
			return nil
		}
		if !served(p.name()) {
			return err
		}
		p.started = false
	}
	ctx, cancel := context.WithTimeout(ctx, takePatience)
	defer cancel()
	return presence.Await(ctx, p.StateDir, a.Seen)
}

// plugIn gives the guest the card and waits until its emulator holds the tap.
func (p *plug) plugIn(ctx context.Context, a *Attachment) error {
	original := a.Record.Original
	err := p.guest.Plug(domainxml.NIC{
		Name: p.name(), Tap: a.Names.Tap, MAC: original.Link(plan.NIC).MAC, MTU: original.GuestMTU(), Queues: a.Record.Options.Queues,
		Alias: domainxml.AliasOf(p.name()),
	})
	if err != nil {
		return err
	}
	held, err := p.awaitTap(ctx, a.Names.Tap, true)
	if err == nil && !held {
		err = fmt.Errorf("the guest %q has the card, and nobody holds %s within %s", a.Domain.Name, a.Names.Tap, p.Timeout)
	}
	return err
}

// awaitTap waits until a tap is held, or no longer, and tells whether it is so.
func (p *plug) awaitTap(ctx context.Context, tap string, held bool) (bool, error) {
	for deadline := time.Now().Add(p.Timeout); ; {
		now, err := network.InspectTap(p.Request, tap)
		if err != nil || now.Held == held {
			return err == nil, err
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(pollInterval):
		}
	}
}

// takeBack undoes what was done. What was wired before stays so, and its record names whom it named. A guest that has got the card
// keeps it, and its network.
func (p *plug) takeBack(a *Attachment, cause error) error {
	if a.Had {
		return cause
	}
	if has, err := p.guest.Has(a.Names.Tap); err != nil || has {
		return &network.StuckError{Cause: fmt.Errorf("%w; and the guest may have the card: run `podnic detach %s --domain %s`", cause, p.name(), a.Domain.Name), Rollback: err}
	}
	if err := p.undo(a); err != nil {
		return &network.StuckError{Cause: cause, Rollback: err}
	}
	return fmt.Errorf("%w (everything was put back)", cause)
}

func (p *plug) undo(a *Attachment) error {
	if !a.Found {
		_, err := wiring.Restore(context.Background(), p.only(), false)
		return err
	}
	var err error
	if p.started {
		_, err = presence.EndDetached(p.Request, p.name())
		err = errors.Join(err, p.unsay())
	}
	return errors.Join(err, network.SetDomain(context.Background(), p.Request, p.name(), wiring.RecordedDomain(p.seen)))
}

// unsay has the interface's file say what it said before a server was started, of which nothing is left.
func (p *plug) unsay() error {
	if p.said == nil {
		return statefile.Remove(p.StateDir, p.name())
	}
	dir, err := statedir.OpenOwn(p.StateDir, p.name())
	if err != nil {
		return err
	}
	defer dir.Close()
	return statefile.Begin(dir, p.seen.ID, p.said.Timeline)
}

// only is the request for the interface, by its name.
func (p *plug) only() network.Request { return p.Only(plan.Options{Interface: p.name()}) }

// patience is how long a wait may last before the log says what it is for.
const patience = time.Second

// waiting has the log say what is waited for, should that last, until what it returns is called.
func (p *plug) waiting(what string) (over func() bool) {
	return time.AfterFunc(patience, func() {
		p.log.Info("waiting for "+what, zap.String("interface", p.name()), zap.Duration("timeout", p.Timeout))
	}).Stop
}

// Detach asks the guest to give the card up, waits until it has, and gives the pod its interface back. Where the guest does not,
// the error is a [domain.KeptError], and nothing has changed. A guest that ends meanwhile has given it up; if the interface was
// given back with its others by then, the Restoration has no steps.
func Detach(ctx context.Context, t Task, log *zap.Logger) (*network.Restoration, error) {
	p := &plug{Task: t, log: log}
	if err := p.inspect(); err != nil {
		return nil, err
	}
	if !p.seen.Wired {
		return nil, plan.Refuse("%s is not wired to a guest", p.name())
	}
	if err := p.find(ctx); err != nil {
		return nil, err
	}
	defer p.libvirt.Close()
	if owner := wiring.RecordedDomain(p.seen); owner != nil && !owner.Is(p.guest.Name(), p.guest.UUID()) {
		return nil, plan.Refuse("%s is given to the guest %q, and not to %q", p.name(), owner.Name, p.guest.Name())
	}
	if err := p.unplug(ctx); err != nil {
		return nil, err
	}
	r, err := wiring.Restore(ctx, p.only(), false)
	if network.IsNotWired(err) {
		return &network.Restoration{Names: p.seen.Names}, nil // with the guest's end
	}
	return r, err
}

// unplug returns when the guest has given the card up, and nobody holds the tap.
func (p *plug) unplug(ctx context.Context) error {
	defer p.waiting("the guest to give up its card")()
	tap := p.seen.Names.Tap
	err := p.guest.Unplug(ctx, tap, p.Timeout)
	if without, ok := errors.AsType[*domain.NoDeviceError](err); ok {
		held, failed := network.InspectTap(p.Request, tap)
		switch {
		case failed != nil:
			return fmt.Errorf("%w, and podnic cannot tell whether %s is held: %w", without, tap, failed)
		case held.Held:
			return plan.Refuse("%w, and %s is held by %s", without, tap, held.Who())
		}
		err = nil // it was unplugged before
	}
	if err != nil {
		return err
	}
	switch free, err := p.awaitTap(ctx, tap, false); {
	case err != nil:
		return fmt.Errorf("the guest has given up its interface, which is not given back (%w): run `podnic restore --interface %s`", err, p.name())
	case !free:
		return fmt.Errorf("the guest has given up its interface, and %s is still held: run `podnic restore --interface %s` once it is not", tap, p.name())
	}
	return nil
}
