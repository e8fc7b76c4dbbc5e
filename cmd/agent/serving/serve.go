// Package serving serves the guest of interfaces: it claims each, runs a DHCP server for each, keeps the files by which others
// know how far things are, answers Prometheus, and gives up what it does not need. It neither makes nor takes back a wiring.
package serving

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/gateways"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
	"go.uber.org/zap"
)

// Server is the server of one interface and what it needs to run.
type Server struct {
	req     network.Request
	service offering.Service // read again on SIGHUP, by the goroutine of run alone
	wiring  *network.Inspection
	// warnings are those of wiring and offer; the server adds its own.
	warnings []string
	claim    *Claim
	keeper   *statefile.Keeper
	server   *dhcp.Server  // nil where IPv4 is not served
	server6  *dhcp.Server6 // nil where IPv6 is not served
	ready    chan struct{} // closed when the guest can be heard
	// hears and hears6 say whether the server of IPv4, and that of IPv6, has its socket; guarded by the keeper.
	hears, hears6 bool
	// routers are where the pod's IPv6 gateways are now; asked says that it is time to look, moved what was found.
	routers []identity.Router
	asked   chan struct{}
	moved   chan []identity.Router
	log     *zap.Logger
}

// speaker is a server of one family.
type speaker interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	Warnings() []string
	String() string
}

// speakers are the servers that there are; at layer 2 none.
func (s *Server) speakers() []speaker {
	var all []speaker
	if s.server != nil {
		all = append(all, s.server)
	}
	if s.server6 != nil {
		all = append(all, s.server6)
	}
	return all
}

// New prepares the server of an interface that this process has claimed, and takes the claim over. The state of an
// earlier process of this namespace is taken over: a lease is the guest's, whichever process gave it.
func New(req network.Request, service offering.Service, wiring *network.Inspection, claim *Claim, log *zap.Logger) (*Server, error) {
	s := &Server{
		req: req, service: service, wiring: wiring, claim: claim, ready: make(chan struct{}), log: log,
		routers: wiring.Original.Routers, asked: make(chan struct{}, 1), moved: make(chan []identity.Router),
	}
	unresolved := s.resolveGateway()
	offers, warnings, err := s.service.Offers(s.current())
	if err != nil {
		return nil, &plan.RefusalError{Reason: err}
	}
	warnings = append(warnings, unresolved...)
	if err := os.MkdirAll(req.StateDir, 0o700); err != nil {
		return nil, plan.Refuse("the state directory cannot be made (%w): name a directory that can be written with --state-dir", err)
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
	before := state.Offer6
	if known := knownRouters(wiring.Original, before); !slices.Equal(known, s.routers) {
		s.routers = known
		if offers, warnings, err = s.service.Offers(s.current()); err != nil {
			return nil, &plan.RefusalError{Reason: err}
		}
		warnings = append(warnings, unresolved...)
	}
	state.Ready, state.Failed, state.Offer, state.Offer6 = time.Time{}, "", offers.V4, offers.V6
	if state.Server, err = statefile.ThisProcess(); err != nil {
		return nil, err
	}
	s.warnings = slices.Concat(wiring.Warnings, warnings)
	state.Warnings = s.warnings
	for _, w := range state.Warnings {
		log.Warn(w)
	}
	if offers.V4 != nil {
		if err := s.newServer(*offers.V4, state.Lease); err != nil {
			return nil, err
		}
		state.Lease = s.server.Lease()
	}
	if state.Lease6, err = s.newServer6(offers.V6, before, state.Lease6); err != nil {
		return nil, err
	}
	if len(s.speakers()) == 0 {
		close(s.ready)
	}
	state.First = false
	s.keeper = statefile.NewKeeper(dir, *state, func(err error) { log.Warn("status is out of date", zap.Error(err)) })
	s.keeper.Change(func(*statefile.State) {})
	return s, nil
}

// resolveGateway finds the MAC that ARP of the guest, or of its firmware, for its subnet is answered with, where it is told
// the pod's mask and the neighbours do not answer.
func (s *Server) resolveGateway() (warnings []string) {
	o := s.service.Options
	boots := len(o.BootFiles) > 0 && s.wiring.Options.Socket == plan.SocketPacket
	if o.SubnetMask != dhcp.MaskPod && !boots || !o.GatewayMAC.IsZero() {
		return nil
	}
	id, _ := plan.Identify(s.wiring.Original, s.wiring.Options)
	own, gateway := id.V4.First(), id.V4.Gateway
	known := slices.ContainsFunc(id.V4.Neighbours, func(n identity.Neighbour) bool { return n.Address == gateway })
	wanted := o.SubnetMask == dhcp.MaskPod || own.Pod.Contains(gateway)
	if !wanted || own.Prefix == own.Pod || !gateway.IsValid() || known {
		return nil
	}
	mac, err := gateways.Resolve(s.claim.ns, s.wiring.Names.NIC, s.wiring.Options.Mark, id.MAC, own.Prefix.Addr(), gateway)
	if err != nil {
		return []string{err.Error()}
	}
	s.service.Options.GatewayMAC = mac
	return nil
}

func (s *Server) newServer(offer dhcp.Offer, lease dhcp.Lease) (err error) {
	s.server, err = dhcp.NewServer(dhcp.Config{
		Offer:       offer,
		Client:      s.wiring.Original.Link(plan.NIC).MAC,
		ServerMAC:   plan.ServerMAC(s.wiring.Original),
		Link:        s.wiring.Names.Binding.ServerLink(s.wiring.Names, offer.Socket),
		InNamespace: s.claim.ns.Do,
		Lease:       lease,
		Observe:     s.observe,
		Log:         s.log,
	})
	return err
}

// newServer6 makes the server of IPv6, and what is known of its lease; none where there is no offer.
func (s *Server) newServer6(offer, before *dhcp.Offer6, lease *dhcp.Lease6) (*dhcp.Lease6, error) {
	if offer == nil {
		return nil, nil
	}
	if lease == nil {
		lease = &dhcp.Lease6{State: dhcp.LeaseNone}
	}
	var err error
	s.server6, err = dhcp.NewServer6(dhcp.Config6{
		Offer:       *offer,
		Before:      before,
		Client:      s.wiring.Original.Link(plan.NIC).MAC,
		ServerMAC:   plan.ServerMAC(s.wiring.Original),
		Link:        s.wiring.Names.Binding.ServerLink(s.wiring.Names, offer.Socket),
		InNamespace: s.claim.ns.Do,
		Lease:       *lease,
		Asked:       s.lookForRouters,
		Observe:     s.observe6,
		Log:         s.log,
	})
	if err != nil {
		return nil, err
	}
	known := s.server6.Lease()
	return &known, nil
}

// Ready is closed when the guest can be heard, by the servers of both families; at layer 2 there is nothing to wait for.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// speak runs the servers until the context ends, or one of them fails: then the other ends too.
func (s *Server) speak(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := s.speakers()
	errs := make(chan error)
	for _, one := range all {
		go func() {
			err := one.Run(ctx)
			cancel()
			errs <- err
		}()
	}
	go func() {
		for _, one := range all {
			select {
			case <-one.Ready():
			case <-ctx.Done():
				return
			}
		}
		close(s.ready)
	}()
	var failed []error
	for range all {
		failed = append(failed, <-errs)
	}
	return errors.Join(failed...)
}

// Run serves until the context ends.
func (s *Server) Run(ctx context.Context, reload <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	serves := len(s.speakers()) > 0
	if serves {
		go func() { ended <- s.speak(ctx) }()
	}
	if s.watchesRouters() {
		go s.followRouters(ctx, s.routers)
	}
	ready := s.Ready()
	for {
		select {
		case <-ready:
			ready = nil
			if !serves { // else the servers have said when they could hear the guest, before they heard it
				s.keeper.Change(func(state *statefile.State) { hearing(state, time.Now()) })
			}
			s.log.Info("serving", zap.String("interface", s.wiring.Names.Interface), zap.Stringer("server", stringer(s.speakers())))
			settle()
		case <-reload:
			s.reload()
		case now := <-s.moved:
			s.routersMoved(now)
		case err := <-ended:
			s.keeper.Change(func(state *statefile.State) {
				state.Ready = time.Time{}
				if err != nil {
					state.Failed = err.Error()
				}
			})
			return err
		case <-ctx.Done():
			if !serves {
				return nil
			}
			ctx = context.Background() // wait for the servers alone
		}
	}
}

type stringer []speaker

func (s stringer) String() string {
	if len(s) == 0 {
		return "layer 2 only"
	}
	texts := make([]string, len(s))
	for i, one := range s {
		texts[i] = one.String()
	}
	return strings.Join(texts, ", ")
}

// reload reads configuration, resolver and hostname again. What cannot be used changes nothing.
func (s *Server) reload() {
	before := s.service
	offers, warnings, err := s.again()
	if err != nil {
		s.service = before
		s.log.Error("the configuration read again cannot be used, so the old one stays", zap.Error(err))
		return
	}
	s.tell(offers, warnings)
	s.log.Info("configuration read again")
}

func (s *Server) again() (offers offering.Offers, warnings []string, err error) {
	if again := s.service.Again; again != nil {
		next, err := again()
		if err != nil {
			return offers, nil, err
		}
		next.GuestMTUs = s.service.GuestMTUs
		next = next.WithMTUOf(s.wiring.Names.Interface)
		next.Again, next.Beside = again, s.service.Beside
		next.Options.GatewayMAC = s.service.Options.GatewayMAC
		s.service = next
	}
	unresolved := s.resolveGateway()
	offers, warnings, err = s.service.Offers(s.current())
	return offers, append(warnings, unresolved...), err
}

// told is what the servers warn of now.
func (s *Server) told() []string {
	var all []string
	for _, one := range s.speakers() {
		all = append(all, one.Warnings()...)
	}
	return all
}

// observe keeps what the server of IPv4 sees of the guest, observe6 what that of IPv6 does.
func (s *Server) observe(e dhcp.Event) {
	s.keeper.Change(func(state *statefile.State) {
		state.Lease = e.Lease
		s.keep(state, e, &s.hears)
	})
}

func (s *Server) observe6(e dhcp.Event) {
	s.keeper.Change(func(state *statefile.State) {
		state.Lease6 = &e.Lease6
		s.keep(state, e, &s.hears6)
	})
}

// keep keeps what both see. The guest is served while all hear it.
func (s *Server) keep(state *statefile.State, e dhcp.Event, hears *bool) {
	state.Warnings = slices.Concat(s.warnings, s.told())
	switch e.Kind {
	case dhcp.KindSocketLost:
		*hears, state.Ready = false, time.Time{}
	case dhcp.KindSocketOpen:
		if *hears = true; s.hears == (s.server != nil) && s.hears6 == (s.server6 != nil) {
			hearing(state, e.At)
		}
	case dhcp.KindFirstFrame:
		state.Timeline.Add(statefile.EventFirstFrame, e.At)
	case dhcp.KindDiscover, dhcp.KindSolicit:
		state.Timeline.Add(statefile.EventDiscover, e.At)
	case dhcp.KindAck, dhcp.KindReply, dhcp.KindAddressSeen:
		if state.InUse(e.At) {
			state.Timeline.Add(statefile.EventLease, e.At)
		}
	}
}

// hearing notes since when the guest can be heard.
func hearing(state *statefile.State, at time.Time) {
	state.Ready = at.UTC()
	state.Timeline.Add(statefile.EventServing, at)
}

// Change changes what the state file says.
func (s *Server) Change(f func(*statefile.State)) { s.keeper.Change(f) }

// Answers reports whether there is a DHCP server: at layer 2 there is none.
func (s *Server) Answers() bool { return len(s.speakers()) > 0 }

// AnswersIPv4 reports whether there is one of IPv4.
func (s *Server) AnswersIPv4() bool { return s.server != nil }

// discard is Close where the interface was given back: what it knew of the guest is past.
func (s *Server) discard() {
	s.keeper.Discard()
	s.claim.Release()
}

// Close lets go of all that New took. The state file stays: it holds the lease for the next process.
func (s *Server) Close() {
	s.keeper.Change(func(state *statefile.State) { state.Ready = time.Time{} })
	s.keeper.Close()
	s.claim.Release()
}
