package network

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// Request says where to work and what is wanted there.
type Request struct {
	// Namespace is the path of the network namespace; empty is the caller's own.
	Namespace string
	// In, if set, is that namespace, which is open already and stays so.
	In *Namespace `json:"-"`
	// StateDir is the directory of the record.
	StateDir string
	// Options are those of an interface. Interfaces, if there are any, are those of several, in place of them; what is done to
	// one interface takes Options alone.
	Options    plan.Options
	Interfaces []plan.Options
	// All asks for every interface that can be given to a guest, with Options, the one with the default route first.
	All bool
	// LockTimeout bounds the wait for another podnic.
	LockTimeout time.Duration
	// AllowHostNamespace lifts the refusal to work in the machine's own namespace, or in a node's.
	AllowHostNamespace bool

	// Others are users who are believed besides root and the effective user. A request that changes anything has none.
	Others []uint32 `json:"-"`
	// Brief inspects what is wired without a comparison with what should be: there are no Repairs and no Deviations, where a
	// record says what was wired, nor a warning that the kernel has no filter. A server does not need them, and they are most of
	// what such an inspection leaves in memory.
	Brief bool
	// StayFirst leaves a record of version 1 where it is: the podnic that wrote it, or another of its version, serves.
	StayFirst bool

	// Domain, if set, is written into the record: the guest that the interface is for.
	Domain *DomainRef

	// fault, if set, is called before every step; its error makes the step fail.
	fault func(step int) error
	// settled says that the pod network's links have been up for long, so that routers that do not answer are not waited for.
	settled bool
	// inspects says that nothing will be changed.
	inspects bool
	// without names what the kernel shall be taken to lack.
	without []string
	// beforeRequest, if set, is called before every netlink request that changes something.
	beforeRequest func()
}

// each are the options of the interfaces that were asked for.
func (r Request) each() []plan.Options {
	if len(r.Interfaces) > 0 {
		return r.Interfaces
	}
	return []plan.Options{r.Options}
}

// session is the work on one interface of a namespace.
type session struct {
	Request
	ns    *Namespace
	id    NamespaceID
	store Store
	rtnl  *rtnl.Conn
	nft   *rtnl.NFT
	found *discovery
	// reached is the namespace as it was when it was found to be as wanted.
	reached *plan.Snapshot
	close   func()
	unlock  func()
	// warnings are what was found on the way: who holds the lock that cannot be podnic, and records that are not to be
	// believed.
	warnings []string

	brief        bool // what the filter holds is not read
	noFilter     bool // the kernel has no filter for bridges
	hiddenFilter bool // this process may not see it
}

// open enters the namespace, once it is certain that it is not the machine's own.
func open(req Request) (*session, error) {
	ns, leave := req.In, func() {}
	if ns == nil {
		var err error
		if ns, err = OpenNamespace(req.Namespace); err != nil {
			return nil, err
		}
		leave = func() { ns.Close() }
	}
	s := &session{Request: req, ns: ns, store: Store{req.StateDir, req.Options.Interface}, close: leave, unlock: func() {}}
	if err := s.begin(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) begin() (err error) {
	if !s.AllowHostNamespace {
		initial, err := s.ns.initial()
		if err != nil {
			return err
		}
		if initial {
			return plan.Refuse("%s is the machine's own, and rewiring it would take the machine off its network: run podnic in a pod, name one with --netns, or pass --allow-host-namespace if you are certain", s.ns)
		}
	}
	if s.id, err = s.ns.ID(); err != nil {
		return err
	}
	if s.rtnl, err = rtnl.Open(s.ns); err != nil {
		return err
	}
	s.rtnl.Before, s.rtnl.Remembers = s.beforeRequest, true
	s.nft = &rtnl.NFT{NS: s.ns, Links: s.rtnl, Before: s.beforeRequest, Hidden: s.hidden(), Remembers: true}
	leave := s.close
	s.close = func() { s.unlock(); s.nft.Close(); s.rtnl.Close(); leave() }
	return nil
}

// lock excludes others until the session is closed.
func (s *session) lock(ctx context.Context) error {
	unlock, warning, err := s.ns.Lock(ctx, s.LockTimeout)
	if err != nil {
		return err
	}
	if warning != "" {
		s.warnings = append(s.warnings, warning)
	}
	s.unlock = unlock
	return nil
}

// load reads the record of an interface and refuses that of another namespace. One that is not to be believed is lost.
func (s *session) load(iface string) (*Record, error) {
	s.store.Interface = iface
	r, err := s.store.load(s.Others...)
	if IsLost(err) {
		s.warnings = append(s.warnings, fmt.Sprintf("%v; nothing in it is believed", err))
		return nil, nil
	}
	if err != nil || r == nil {
		return nil, err
	}
	if r.Namespace != s.id {
		why := "this one has taken its place"
		if r.Namespace.Boot != s.id.Boot {
			why = "the machine was started again since"
		}
		return nil, plan.Refuse("the record %s is of another network namespace (%s): remove it if that namespace is gone, or name another directory with --state-dir", r.path(s.StateDir), why)
	}
	return r, nil
}

// recorded finds the record of the interface that was discovered. Where too little is left of the wiring to tell its name,
// the index of the pod's link, which our links carry, tells its record.
func (s *session) recorded() (*Record, error) {
	r, err := s.load(s.found.names.Interface)
	if err != nil || len(s.found.marked) == 0 {
		return r, err
	}
	mark := s.found.marked[0].Group
	if r != nil && !r.managed() && !plan.MarkedFor(mark, r.Original.Link(plan.NIC).Index) {
		s.warnings = append(s.warnings, fmt.Sprintf("the record %s is of another link than the one that is wired; it is not believed", r.path(s.StateDir)))
		r = nil
	}
	if r != nil {
		return r, nil
	}
	if other := s.recordOf(mark); other != nil && other.Options.Interface != s.store.Interface {
		s.store.Interface = other.Options.Interface
		return other, nil
	}
	return nil, nil
}

// recordOf is the record of this namespace whose wiring has the mark; nil where there is none that is believed.
func (s *session) recordOf(mark uint32) *Record {
	for _, r := range records(s.StateDir, s.Others...) {
		if r.Namespace == s.id && !r.managed() && plan.MarkedFor(mark, r.Original.Link(plan.NIC).Index) {
			return r
		}
	}
	return nil
}

// of is the work on another interface of the same namespace, under the same lock. It is closed with this one.
func (s *session) of(d *discovery) *session {
	t := *s
	t.found, t.warnings, t.reached, t.noFilter, t.hiddenFilter = d, nil, nil, false, false
	t.Options.Interface, t.store = d.names.Interface, Store{s.StateDir, d.names.Interface}
	return &t
}

// snapshot reads the namespace anew.
func (s *session) snapshot(nic int, names plan.Names) (*plan.Snapshot, error) {
	s.rtnl.Forget()
	s.nft.Forget()
	all, err := s.rtnl.Links()
	if err != nil {
		return nil, err
	}
	return s.read(all, nic, names)
}

// read takes a snapshot, given the links.
func (s *session) read(all []plan.Link, nic int, names plan.Names) (*plan.Snapshot, error) {
	snapshot, err := s.rtnl.Read(all, nic, names)
	if err != nil {
		return nil, err
	}
	if nic := snapshot.Link(plan.NIC); nic != nil && plan.MayMerge(*nic) {
		if nic.LRO, err = s.rtnl.LRO(nic.Name); err != nil {
			return nil, err
		}
	}
	family, table := names.Binding.FilterFamily(), plan.FilterTable(names.Interface)
	if s.brief {
		err = s.nft.Check(family, table)
	} else {
		snapshot.Filter, err = s.nft.Read(family, table)
	}
	switch {
	case errors.Is(err, rtnl.ErrNoFilter):
		s.noFilter = true
	case errors.Is(err, unix.EPERM):
		s.hiddenFilter = true // reading requires CAP_NET_ADMIN too
	case err != nil:
		return nil, err
	}
	if plan.ByTC(names.Binding) {
		if snapshot.Qdiscs, err = s.qdiscsOf(snapshot); err != nil {
			return nil, err
		}
	}
	return snapshot, nil
}

// wired is the namespace that the original should become here, given what it is now. A kernel without nftables of the filter's
// family gets no filter. An inspection asks whether it is so: a table that is not there does not say why.
func (s *session) wired(original *plan.Snapshot, o plan.Options, now *plan.Snapshot) *plan.Snapshot {
	w := plan.Wired(original, o)
	if s.inspects && !s.noFilter && !s.hiddenFilter && w.Filter != nil && now.Filter == nil {
		s.noFilter = s.lacks(w.Filter.Family.Number)
	}
	if s.noFilter {
		w.Filter = nil
	}
	return w
}

// lacks reports whether the kernel has no nftables of a family. That for links was asked for with what else it needs.
func (s *session) lacks(family byte) bool {
	return family != plan.RedirectFamily.Number && errors.Is(s.ns.Do(func() error { return rtnl.ProbeTable(family) }), rtnl.ErrNoFilter)
}

// rounds is how often reach looks again whether everything is as wanted. The first round does all there is to do; another
// is needed only where the kernel did more or less than the plan knew.
const rounds = 3

// reach makes the namespace what is wanted and reads it back.
func (s *session) reach(current, wanted *plan.Snapshot, names plan.Names) (taken []plan.Step, err error) {
	var steps []plan.Step
	for range rounds {
		if steps, err = diffNow(names.Binding, current, wanted); err != nil {
			return taken, err
		}
		if len(steps) == 0 {
			s.reached = current
			return taken, nil
		}
		e := rtnl.NewExecutor(s.ns, s.rtnl, s.nft, current)
		if s.fault != nil {
			base := len(taken)
			e.Before = func(i int) error { return s.fault(base + i) }
		}
		if err := e.Apply(steps); err != nil {
			return append(taken, steps...), err
		}
		taken = append(taken, steps...)
		if current, err = s.snapshot(wanted.Link(plan.NIC).Index, names); err != nil {
			return taken, err
		}
	}
	if steps, err = diffNow(names.Binding, current, wanted); err != nil {
		return taken, err
	}
	if len(steps) == 0 {
		s.reached = current
		return taken, nil
	}
	words := make([]string, len(steps))
	for i, step := range steps {
		words[i] = step.InWords()
	}
	return taken, fmt.Errorf("the kernel took every change, and yet the namespace is not as wanted; left to do: %s", strings.Join(words, "; "))
}

// diffNow is Diff as of now: entries that have expired since are dropped.
func diffNow(b plan.Binding, current, wanted *plan.Snapshot) ([]plan.Step, error) {
	now, err := rtnl.BootTime()
	if err != nil {
		return nil, err
	}
	return plan.Diff(b, current, wanted.At(now)), nil
}
