package serving

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/podnic/podnic/cmd/agent/confine"
	"github.com/podnic/podnic/cmd/agent/detached"
	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Serve answers the guests of the interfaces that are wired until the context ends. reload makes it read resolver and hostname
// again. starter is the process that waits for a detached server to be ready, and guest the one whose interfaces it serves besides those
// of the request;
// either may be nil.
func Serve(ctx context.Context, req network.Request, service offering.Service, reload <-chan os.Signal, started time.Time, starter *detached.Starter, guest *network.DomainRef, log *zap.Logger) error {
	err := serve(ctx, req, service, reload, started, starter, guest, log)
	starter.Failed(err)
	return err
}

func serve(ctx context.Context, req network.Request, service offering.Service, reload <-chan os.Signal, started time.Time, starter *detached.Starter, guest *network.DomainRef, log *zap.Logger) error {
	brief := req
	brief.Brief = true
	seen, err := Inspect(brief, log)
	if err != nil {
		return err
	}
	for _, one := range seen {
		if !one.Wired {
			return plan.Refuse("%s is not wired to a guest: run `podnic prepare` first", one.Names.Interface)
		}
	}
	s, err := NewSet(req, service, log)
	if err != nil {
		return err
	}
	defer s.Close()
	s.starter, s.guest = starter, guest
	if err := s.Claim(seen); err != nil {
		return err
	}
	if err := s.Add(seen); err != nil {
		return err
	}
	s.confine()
	s.Change(func(state *statefile.State) {
		state.Server.Detached = starter != nil
		state.Timeline.Add(statefile.EventStarted, started)
	})
	return s.Run(ctx, reload)
}

// Inspect inspects what is to be served. An interface that is lost is not, and the log says why.
func Inspect(req network.Request, log *zap.Logger) ([]*network.Inspection, error) {
	seen, lost, err := network.InspectEach(req)
	if err != nil {
		return nil, err
	}
	for _, l := range lost {
		log.Warn("an interface is not served", zap.String("interface", l.Names.Interface), zap.Error(l.Reason))
	}
	return seen, nil
}

// Set is all that one process serves: a server for each interface, with a socket and a file of its own.
type Set struct {
	req     network.Request
	service offering.Service
	ns      *network.Namespace
	starter *detached.Starter // nil unless detached
	log     *zap.Logger

	listener net.Listener    // for metrics; nil if not wanted, or once metrics has it
	metrics  *metrics.Server // nil if not wanted
	scrapes  atomic.Uint64

	claims  map[string]*Claim // of the interfaces that have no server yet
	ready   chan struct{}     // closed when all guests can be heard
	mu      sync.Mutex
	members []*member
	guest   *network.DomainRef // whose interfaces are all served; nil: those that the request names

	taking sync.Mutex                // while taken is called, or another takes its place
	taken  func(*network.Inspection) // told of interfaces that were wired meanwhile; may be nil
}

// Guest says that what records give to a guest is served too, though the request names other interfaces.
func (s *Set) Guest(ref network.DomainRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guest = &ref
}

// Gone is a context that ends when an interface is served no more, by this process.
func (s *Set) Gone(iface string) context.Context {
	for _, m := range s.all() {
		if m.wiring.Names.Interface == iface {
			return m.gone
		}
	}
	ended, end := context.WithCancel(context.Background())
	end()
	return ended
}

// OnTaken has f told of each interface that was wired since Run runs and is served, also of those that were while nobody was told;
// nil ends that. f must not wait.
func (s *Set) OnTaken(f func(*network.Inspection)) {
	s.taking.Lock()
	defer s.taking.Unlock()
	for _, m := range s.all() {
		if f != nil && m.untold {
			m.untold = false
			f(m.wiring)
		}
	}
	s.taken = f
}

// took tells of an interface that was wired meanwhile.
func (s *Set) took(m *member) {
	s.taking.Lock()
	defer s.taking.Unlock()
	if s.taken == nil {
		m.untold = true
		return
	}
	s.taken(m.wiring)
}

// member is a server that runs, or is about to.
type member struct {
	*Server
	reload  chan os.Signal
	cancel  context.CancelFunc
	gone    context.Context // ends when the interface was given back
	leave   context.CancelFunc
	dropped bool          // its interface was given back
	untold  bool          // it was wired meanwhile, and nobody was told; guarded by the set's taking
	ended   chan struct{} // closed when it has ended; then err is why
	err     error
}

// NewSet is a set without members.
func NewSet(req network.Request, service offering.Service, log *zap.Logger) (*Set, error) {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	return &Set{req: req, service: service, ns: ns, log: log, claims: make(map[string]*Claim), ready: make(chan struct{})}, nil
}

// Claim makes this process the one that serves the interfaces, and opens the socket for metrics, if one is wanted. Whatever is
// wrong is a refusal: it is called before anything is changed.
func (s *Set) Claim(seen []*network.Inspection) error {
	if err := errors.Join(s.checkMetrics(seen), s.claimEach(seen)); err != nil {
		return err
	}
	return s.listen()
}

// TakeOver is Claim in the place of detached servers that serve none but these interfaces. They end once all is claimed that they
// do not hold: a refusal leaves every server running.
func (s *Set) TakeOver(seen []*network.Inspection) error {
	var names []string
	for _, one := range seen {
		names = append(names, one.Names.Interface)
	}
	servers, err := presence.Detached(s.ns, s.req.StateDir, names...)
	if err != nil {
		return err
	}
	theirs := func(one *network.Inspection) bool {
		return slices.ContainsFunc(servers, func(p *presence.Process) bool { return slices.Contains(p.Interfaces, one.Names.Interface) })
	}
	if err := errors.Join(s.checkMetrics(seen), s.claimEach(slices.DeleteFunc(slices.Clone(seen), theirs))); err != nil {
		return err
	}
	// The address for metrics may be one of theirs.
	if err := s.listen(); err != nil && !(len(servers) > 0 && errors.Is(err, unix.EADDRINUSE)) {
		return err
	}
	for _, server := range servers {
		if _, err := server.End(); err != nil {
			return err
		}
	}
	if err := s.claimEach(slices.DeleteFunc(slices.Clone(seen), func(one *network.Inspection) bool { return !theirs(one) })); err != nil {
		return err
	}
	return s.listen()
}

func (s *Set) claimEach(seen []*network.Inspection) error {
	for _, one := range seen {
		claim, err := NewClaim(s.ns, one.Names.Interface)
		if err != nil {
			return err
		}
		s.claims[one.Names.Interface] = claim
	}
	return nil
}

// checkMetrics sees to it that metrics are served at no address of the guest.
func (s *Set) checkMetrics(seen []*network.Inspection) error {
	if s.service.Metrics.IsZero() {
		return nil
	}
	for _, one := range seen {
		if err := checkMetrics(s.service.Metrics, one); err != nil {
			return err
		}
	}
	return nil
}

// listen opens the socket for metrics in the pod's namespace, if it is not open.
func (s *Set) listen() error {
	a := s.service.Metrics
	if a.IsZero() || s.listener != nil {
		return nil
	}
	err := s.ns.Do(func() (err error) {
		s.listener, err = a.Listen()
		return err
	})
	if err != nil {
		return plan.Refuse("metrics cannot be served at %s: %w; choose another address with --metrics-listen", a, err)
	}
	return nil
}

// Add makes the servers of interfaces that were claimed. They answer once Run runs.
func (s *Set) Add(seen []*network.Inspection) error {
	for _, one := range seen {
		if _, err := s.add(one, seen); err != nil {
			return err
		}
	}
	if s.listener != nil {
		s.metrics = metrics.Serve(s.listener, s.scrape, s.guestReady)
		s.listener = nil
		s.log.Info("serving metrics", zap.Stringer("at", s.service.Metrics))
	}
	return nil
}

// add makes the server of an interface, beside the guest's others.
func (s *Set) add(one *network.Inspection, others []*network.Inspection) (*member, error) {
	name := one.Names.Interface
	for _, m := range s.all() {
		others = append(slices.Clone(others), m.wiring)
	}
	server, err := New(s.req, s.service.Of(one, others), one, s.claims[name], s.log)
	if err != nil {
		return nil, err
	}
	delete(s.claims, name)
	// What the namespace held, and what it takes to mend it, is not looked at again.
	one.Current, one.Repairs, one.Deviations = nil, nil, nil
	m := &member{Server: server, reload: make(chan os.Signal, 1), ended: make(chan struct{})}
	m.gone, m.leave = context.WithCancel(context.Background())
	s.mu.Lock()
	s.members = append(s.members, m)
	s.mu.Unlock()
	return m, nil
}

func (s *Set) all() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.members)
}

// Ready is closed when all guests can be heard.
func (s *Set) Ready() <-chan struct{} { return s.ready }

// Run serves until the context ends, or all servers have ended by themselves. Where one of several does, the others go on:
// their guests need them. Interfaces that are wired and given back meanwhile are noticed. A detached server ends with the last
// of its interfaces: a restore of that one may find no server to end, since it has left already.
func (s *Set) Run(ctx context.Context, reload <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended, running := make(chan *member), 0
	start := func(m *member) {
		running++
		var own context.Context
		own, m.cancel = context.WithCancel(ctx)
		go func() {
			m.err = m.Server.Run(own, m.reload)
			close(m.ended)
			ended <- m
		}()
	}
	members := s.all()
	for _, m := range members {
		start(m)
	}
	go s.await(ctx, members, cancel)
	changed, stop, err := network.Watch(s.ns)
	if err != nil {
		s.log.Warn("an interface that is wired from now on is not noticed", zap.Error(err))
	} else {
		defer stop()
	}
	var errs []error
	var inspect <-chan time.Time
	done := ctx.Done()
	left := func() bool { return s.starter != nil && inspect == nil && len(s.all()) == 0 }
	for running > 0 || ctx.Err() == nil && len(errs) == 0 && !left() {
		select {
		case m := <-ended:
			running--
			m.cancel()
			switch {
			case m.dropped:
				m.discard()
			case m.err != nil:
				errs = append(errs, m.err)
				if running > 0 && ctx.Err() == nil {
					s.log.Error("the server of an interface has ended", zap.String("interface", m.wiring.Names.Interface), zap.Error(m.err))
				}
			}
		case signal := <-reload:
			for _, m := range s.all() {
				select {
				case m.reload <- signal:
				default: // it will read everything anew anyway
				}
			}
		case <-changed:
			if inspect == nil {
				inspect = time.After(inspectRest)
			}
		case <-inspect:
			if inspect = nil; s.inspect(start) {
				inspect = time.After(inspectRest)
			}
		case <-done:
			done, changed, inspect = nil, nil, nil // wait for the servers alone
		}
	}
	return errors.Join(errs...)
}

// inspectRest is between a change in the namespace and its inspection: a prepare makes two dozen changes in a row.
const inspectRest = 100 * time.Millisecond

// inspect takes up what has been wired since the last time, and drops what has been given back. It reports whether something is
// under way, so that it is to be looked at again.
func (s *Set) inspect(start func(*member)) (again bool) {
	req := s.req
	req.In = s.ns
	wired, err := network.Wired(req)
	if err != nil {
		s.log.Debug("what is wired cannot be told", zap.Error(err))
		return false
	}
	s.mu.Lock()
	s.members = slices.DeleteFunc(s.members, func(m *member) bool {
		if m.cancel == nil || slices.Contains(wired, m.wiring.Names.Interface) {
			return false
		}
		s.log.Info("the interface was given back", zap.String("interface", m.wiring.Names.Interface))
		m.dropped = true
		m.cancel()
		m.leave()
		return true
	})
	s.mu.Unlock()
	for _, name := range wired {
		if slices.ContainsFunc(s.all(), func(m *member) bool { return m.wiring.Names.Interface == name }) {
			continue
		}
		m, ready := s.take(req, name)
		again = again || !ready
		if m == nil {
			continue
		}
		start(m)
		s.took(m)
	}
	return again
}

// wants reports whether an interface is to be served: one that was named, or any where none was, or one of the guest's. Where this
// process is a guest's, what a record gives to another guest is that one's server's to take, also if it was this guest's before.
func (s *Set) wants(seen *network.Inspection) bool {
	s.mu.Lock()
	guest := s.guest
	s.mu.Unlock()
	if guest != nil && seen.Record != nil && seen.Record.Domain != nil {
		return seen.Record.Domain.Is(guest.Name, guest.UUID)
	}
	return s.named(seen.Names.Interface)
}

// named reports whether an interface was named, or none was.
func (s *Set) named(name string) bool {
	if len(s.req.Interfaces) == 0 {
		return s.req.Options.Interface == "" || s.req.Options.Interface == name
	}
	return slices.ContainsFunc(s.req.Interfaces, func(o plan.Options) bool { return o.Interface == name })
}

// take makes the server of an interface that was wired meanwhile; false while the wiring is not finished, or
// another process still serves it.
func (s *Set) take(req network.Request, name string) (m *member, ready bool) {
	log := s.log.With(zap.String("interface", name))
	req.Options, req.Interfaces = plan.Options{Interface: name}, nil
	seen, err := network.Inspect(req)
	switch {
	case err != nil:
		return nil, !s.named(name)
	case !s.wants(seen):
		return nil, true
	case len(seen.Repairs) > 0:
		return nil, false
	}
	claim, err := NewClaim(s.ns, name)
	if err != nil {
		log.Debug("not served by this process", zap.Error(err))
		return nil, true
	}
	s.claims[name] = claim
	if m, err = s.add(seen, nil); err != nil {
		delete(s.claims, name)
		claim.Release()
		log.Error("an interface that was wired meanwhile cannot be served", zap.Error(err))
		return nil, true
	}
	m.Change(func(state *statefile.State) { state.Server.Detached = s.starter != nil })
	log.Info("an interface was wired meanwhile, and is served too")
	return m, true
}

// await tells that all servers can hear their guests, also the starter.
func (s *Set) await(ctx context.Context, members []*member, cancel func()) {
	for _, m := range members {
		select {
		case <-m.Ready():
		case <-m.ended:
			return
		case <-ctx.Done():
			return
		}
	}
	close(s.ready)
	if s.starter != nil {
		s.detach(cancel)
	}
}

// detach tells the starter that the servers are ready. What is in the state files by then is what it takes to end them.
func (s *Set) detach(cancel func()) {
	for _, m := range s.all() {
		if err := m.keeper.Write(); err != nil {
			s.log.Warn("status is out of date", zap.Error(err))
		}
	}
	if !s.starter.Ready() {
		s.log.Error("the process that started this server ended before the server was ready, so the server ends, too")
		cancel()
	}
}

// confine takes from the process all that serving does not need, before a guest is heard. A server that it fails for is as good
// as one of an older podnic, so it goes on.
func (s *Set) confine() {
	err := s.ns.Stay()
	if err == nil {
		err = confine.To(s.needs())
	}
	if err != nil {
		s.log.Warn("the server keeps more privileges than it needs", zap.Error(err))
	}
}

// needs is what it takes to serve, to open the sockets again, and to read everything again.
func (s *Set) needs() confine.Needs {
	n := confine.Needs{Directories: []string{s.req.StateDir}}
	for _, m := range s.all() {
		if !m.Answers() && s.guest == nil { // another interface of the guest may come, which takes the same socket
			continue
		}
		_ = s.ns.Do(func() error {
			for _, c := range dhcp.Capabilities(m.wiring.Options.Socket) {
				if !slices.Contains(n.Capabilities, c) {
					n.Capabilities = append(n.Capabilities, c)
				}
			}
			return nil
		})
	}
	for _, file := range []string{s.service.ResolvConf, s.service.Config} {
		if file != "" {
			n.Files = append(n.Files, file)
		}
	}
	if socket := s.service.Metrics.Socket; socket != "" {
		n.Sockets = append(n.Sockets, socket)
	}
	return n
}

// Change changes what the state files say.
func (s *Set) Change(f func(*statefile.State)) {
	for _, m := range s.all() {
		m.Change(f)
	}
}

// ChangeOf changes what the state file of one interface says.
func (s *Set) ChangeOf(iface string, f func(*statefile.State)) {
	for _, m := range s.all() {
		if m.wiring.Names.Interface == iface {
			m.Change(f)
		}
	}
}

// collectAfter is after how many scrapes their garbage is collected, which is some 20 KiB each. The runtime itself would
// begin at 4 MiB, twice what a process that serves a guest has of its own.
const collectAfter = 16

// scrape is the text of all metrics as of now.
func (s *Set) scrape() []byte {
	if s.scrapes.Add(1)%collectAfter == 0 {
		defer runtime.GC()
	}
	var interfaces []*observation
	for _, m := range s.all() {
		interfaces = append(interfaces, m.observation())
	}
	return metrics.Text(families(readProcessUse(s.service.Version), interfaces))
}

// guestReady reports whether the guest has taken an address of each interface that has one. Where all were given back, there is
// no guest.
func (s *Set) guestReady() bool {
	all := s.all()
	return len(all) > 0 && !slices.ContainsFunc(all, func(m *member) bool {
		used := m.server == nil && m.server6 == nil // at layer 2 nobody can tell
		m.keeper.Read(func(state *statefile.State) { used = used || state.InUse(time.Now()) })
		return !used
	})
}

// Close lets go of all that was claimed and added. The state files stay: they hold the leases for the next process.
func (s *Set) Close() {
	if s.metrics != nil {
		s.metrics.Close()
	}
	if s.listener != nil {
		s.listener.Close()
	}
	for _, m := range s.all() {
		m.leave()
		m.Server.Close()
	}
	for _, claim := range s.claims {
		claim.Release()
	}
	s.ns.Close()
}
