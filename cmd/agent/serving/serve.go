// Package serving serves the guest of one interface: it claims the interface, runs the DHCP server, keeps the file by which
// others know how far things are, answers Prometheus, and gives up what it does not need. It neither makes nor takes back a
// wiring.
package serving

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/podnic/podnic/cmd/agent/confine"
	"github.com/podnic/podnic/cmd/agent/detached"
	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/statedir"
	"go.uber.org/zap"
)

// Serve answers the guest of a namespace that is wired until the context ends. reload makes it read resolver and hostname
// again. starter is who waits for a detached server to be ready.
func Serve(ctx context.Context, req network.Request, service offering.Service, reload <-chan os.Signal, started time.Time, starter *detached.Starter, log *zap.Logger) error {
	err := serve(ctx, req, service, reload, started, starter, log)
	starter.Failed(err)
	return err
}

func serve(ctx context.Context, req network.Request, service offering.Service, reload <-chan os.Signal, started time.Time, starter *detached.Starter, log *zap.Logger) error {
	seen, err := network.Inspect(req)
	if err != nil {
		return err
	}
	if !seen.Wired {
		return network.Refuse("%s is not wired to a guest: run `podnic prepare` first", seen.Names.Interface)
	}
	claim, err := NewClaim(req, seen.Names.Interface)
	if err != nil {
		return err
	}
	if err := claim.Listen(service.Metrics, seen); err != nil {
		claim.Release()
		return err
	}
	s, err := New(req, service, seen, claim, log)
	if err != nil {
		claim.Release()
		return err
	}
	defer s.Close()
	s.starter = starter
	s.confine()
	s.keeper.Change(func(state *statefile.State) {
		state.Server.Detached = starter != nil
		state.Timeline.Add(statefile.EventStarted, started)
	})
	return s.Run(ctx, reload)
}

// Server is the server of one interface and what it needs to run.
type Server struct {
	req     network.Request
	service offering.Service // read again on SIGHUP, by the goroutine of run alone
	version string
	wiring  *network.State
	// warnings are those of wiring and offer; the server adds its own.
	warnings []string
	claim    *Claim
	keeper   *statefile.Keeper
	server   *dhcp.Server    // nil at layer 2
	metrics  *metrics.Server // nil if not wanted
	scrapes  atomic.Uint64
	starter  *detached.Starter // nil unless detached
	log      *zap.Logger
}

// New prepares the server of an interface that this process has claimed, and takes the claim over. The state of an
// earlier process of this namespace is taken over: a lease is the guest's, whoever gave it.
func New(req network.Request, service offering.Service, wiring *network.State, claim *Claim, log *zap.Logger) (*Server, error) {
	s := &Server{req: req, service: service, version: service.Version, wiring: wiring, claim: claim, log: log}
	unresolved := s.resolveGateway()
	offer, warnings, err := s.service.Offer(wiring)
	if err != nil {
		return nil, &network.RefusalError{Reason: err}
	}
	warnings = append(warnings, unresolved...)
	if err := os.MkdirAll(req.StateDir, 0o700); err != nil {
		return nil, network.Refuse("the state directory cannot be made (%w): name a directory that can be written with --state-dir", err)
	}
	// Opened once: whatever others make of its name, what is read and written is in this one.
	dir, err := statedir.MakeOrBeside(req.StateDir, wiring.Names.Interface)
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("%v: status will not show what the server knows, and the next one will not know it", err))
	}
	defer func() {
		if s.keeper == nil {
			dir.Close()
		}
	}()
	state, err := statefile.Load(req.StateDir, wiring.Names.Interface, wiring.ID)
	if err != nil && dir != nil {
		log.Warn("the state of an earlier server is lost", zap.Error(err))
	}
	if state == nil {
		state = &statefile.State{Namespace: wiring.ID}
	}
	state.Ready, state.Failed, state.Offer = time.Time{}, "", offer
	if state.Server, err = statefile.ThisProcess(); err != nil {
		return nil, err
	}
	s.warnings = slices.Concat(wiring.Warnings, warnings)
	state.Warnings = s.warnings
	for _, w := range state.Warnings {
		log.Warn(w)
	}
	if offer != nil {
		if err := s.newServer(*offer, state.Lease); err != nil {
			return nil, err
		}
		state.Lease = s.server.Lease()
	}
	state.First = false
	s.keeper = statefile.NewKeeper(dir, *state, func(err error) { log.Warn("status is out of date", zap.Error(err)) })
	s.keeper.Change(func(*statefile.State) {})
	if claim.metrics != nil {
		s.metrics = metrics.Serve(claim.metrics, s.scrape)
		log.Info("serving metrics", zap.Stringer("at", service.Metrics))
	}
	return s, nil
}

// resolveGateway finds the MAC that ARP of the guest, or of its firmware, for its subnet is answered with, where it is told
// the pod's mask and the neighbours do not answer.
func (s *Server) resolveGateway() (warnings []string) {
	id, _ := network.Identify(s.wiring.Original)
	known := slices.ContainsFunc(id.Neighbours, func(n identity.Neighbour) bool { return n.Address == id.Gateway })
	o := s.service.Options
	wanted := o.SubnetMask == dhcp.MaskPod || len(o.BootFiles) > 0 && s.wiring.Options.Socket == network.SocketPacket && id.PodAddress.Contains(id.Gateway)
	if !wanted || !o.GatewayMAC.IsZero() || id.Address == id.PodAddress || !id.Gateway.IsValid() || known {
		return nil
	}
	mac, err := network.Resolve(s.claim.ns, s.wiring.Names.NIC, id.MAC, id.Address.Addr(), id.Gateway)
	if err != nil {
		return []string{err.Error()}
	}
	s.service.Options.GatewayMAC = mac
	return nil
}

func (s *Server) newServer(offer dhcp.Offer, lease dhcp.Lease) (err error) {
	link := s.wiring.Names.Tap
	if offer.Socket == network.SocketUDP {
		link = s.wiring.Names.Bridge
	}
	s.server, err = dhcp.NewServer(dhcp.Config{
		Offer:       offer,
		Client:      s.wiring.Original.Link(network.NIC).MAC,
		ServerMAC:   network.ServerMAC(s.wiring.Original),
		Link:        link,
		InNamespace: s.claim.ns.Do,
		Lease:       lease,
		Observe:     s.observe,
		Log:         s.log,
	})
	return err
}

// Ready is closed when the guest can be heard; at layer 2 there is nothing to wait for.
func (s *Server) Ready() <-chan struct{} {
	if s.server != nil {
		return s.server.Ready()
	}
	now := make(chan struct{})
	close(now)
	return now
}

// Run serves until the context ends.
func (s *Server) Run(ctx context.Context, reload <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	if s.server != nil {
		go func() { ended <- s.server.Run(ctx) }()
	}
	ready := s.Ready()
	var settled <-chan time.Time
	for {
		select {
		case <-ready:
			ready = nil
			now := time.Now()
			s.keeper.Change(func(state *statefile.State) {
				state.Ready = now.UTC()
				state.Timeline.Add(statefile.EventServing, now)
			})
			s.log.Info("serving", zap.String("interface", s.wiring.Names.Interface), zap.Stringer("server", stringer{s.server}))
			if s.starter != nil {
				go s.detach(cancel)
			}
			settled = time.After(settleTime)
		case <-settled:
			settled = nil
			giveBack()
		case <-reload:
			s.reload()
		case err := <-ended:
			s.keeper.Change(func(state *statefile.State) {
				state.Ready = time.Time{}
				if err != nil {
					state.Failed = err.Error()
				}
			})
			return err
		case <-ctx.Done():
			if s.server == nil {
				return nil
			}
			ctx = context.Background() // wait for the server alone
		}
	}
}

// confine takes from the process all that serving does not need, before the guest is heard. A server that it fails for is as
// good as one of an older podnic, so it goes on.
func (s *Server) confine() {
	err := s.claim.ns.Stay()
	if err == nil {
		err = confine.To(s.needs())
	}
	if err != nil {
		s.log.Warn("the server keeps more privileges than it needs", zap.Error(err))
	}
}

// needs is what it takes to serve, to open the socket again, and to read everything again.
func (s *Server) needs() confine.Needs {
	n := confine.Needs{Directories: []string{s.req.StateDir}}
	if s.server != nil {
		_ = s.claim.ns.Do(func() error {
			n.Capabilities = dhcp.Capabilities(s.wiring.Options.Socket)
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

// detach tells the starter that the server is ready. What is in the state file by then is what it takes to end the server.
func (s *Server) detach(cancel func()) {
	if err := s.keeper.Write(); err != nil {
		s.log.Warn("status is out of date", zap.Error(err))
	}
	if !s.starter.Ready() {
		s.log.Error("who started this server ended before it was ready, so it ends too")
		cancel()
	}
}

type stringer struct{ server *dhcp.Server }

func (s stringer) String() string {
	if s.server == nil {
		return "layer 2 only"
	}
	return s.server.String()
}

// reload reads configuration, resolver and hostname again. What cannot be used changes nothing.
func (s *Server) reload() {
	before := s.service
	offer, warnings, err := s.again()
	if err != nil {
		s.service = before
		s.log.Error("the configuration read again cannot be used, so the old one stays", zap.Error(err))
		return
	}
	for _, w := range warnings {
		s.log.Warn(w)
	}
	s.keeper.Change(func(state *statefile.State) {
		s.warnings = slices.Concat(s.wiring.Warnings, warnings)
		state.Offer, state.Warnings = offer, slices.Concat(s.warnings, s.told())
	})
	if s.server != nil && offer != nil {
		s.server.Reload(*offer)
	}
	s.log.Info("configuration read again")
}

func (s *Server) again() (offer *dhcp.Offer, warnings []string, err error) {
	if again := s.service.Again; again != nil {
		next, err := again()
		if err != nil {
			return nil, nil, err
		}
		next.Again, next.Options.GatewayMAC = again, s.service.Options.GatewayMAC
		s.service = next
	}
	unresolved := s.resolveGateway()
	offer, warnings, err = s.service.Offer(s.wiring)
	return offer, append(warnings, unresolved...), err
}

// told is what the server warns of now.
func (s *Server) told() []string {
	if s.server == nil {
		return nil
	}
	return s.server.Warnings()
}

// observe keeps what the server sees of the guest.
func (s *Server) observe(e dhcp.Event) {
	s.keeper.Change(func(state *statefile.State) {
		state.Lease, state.Warnings = e.Lease, slices.Concat(s.warnings, s.told())
		switch e.Kind {
		case dhcp.KindSocketLost:
			state.Ready = time.Time{}
		case dhcp.KindSocketOpen:
			state.Ready = e.At.UTC()
		case dhcp.KindFirstFrame:
			state.Timeline.Add(statefile.EventFirstFrame, e.At)
		case dhcp.KindDiscover:
			state.Timeline.Add(statefile.EventDiscover, e.At)
		case dhcp.KindAck, dhcp.KindAddressSeen:
			if e.Lease.InUse() {
				state.Timeline.Add(statefile.EventLease, e.At)
			}
		}
	})
}

// Change changes what the state file says.
func (s *Server) Change(f func(*statefile.State)) { s.keeper.Change(f) }

// Answers reports whether there is a DHCP server: at layer 2 there is none.
func (s *Server) Answers() bool { return s.server != nil }

// Close lets go of all that New took. The state file stays: it holds the lease for the next process.
func (s *Server) Close() {
	if s.metrics != nil {
		s.metrics.Close()
	}
	s.keeper.Change(func(state *statefile.State) { state.Ready = time.Time{} })
	s.keeper.Close()
	s.claim.Release()
}
