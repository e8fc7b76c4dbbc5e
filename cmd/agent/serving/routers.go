package serving

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/gateways"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap"
)

// routersRest is between two looks at where the pod's IPv6 gateways are: a guest that has lost its router asks every second.
const routersRest = 10 * time.Second

// followRouters looks where the gateways are whenever the guest asks for one, and sends what has changed. It returns
// when the context ends.
func (s *Server) followRouters(ctx context.Context, known []identity.Router) {
	var before string
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.asked:
		}
		now, err := gateways.RoutersNow(s.claim.ns, gateways.Wiring{Original: s.wiring.Original, Names: s.wiring.Names, Options: s.wiring.Options}, known)
		switch {
		case ctx.Err() != nil:
			return // what it asked by may be closed
		case err != nil && err.Error() != before:
			before = err.Error()
			s.log.Warn("a gateway that moves is not noticed", zap.Error(err))
		case err == nil && !slices.Equal(now, known):
			known = now
			select {
			case s.moved <- now:
			case <-ctx.Done():
				return
			}
		}
		rest := time.NewTimer(routersRest)
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
		}
	}
}

// watchesRouters reports whether this process can ask for gateways, and there are some.
func (s *Server) watchesRouters() bool {
	return s.server6 != nil && len(s.wiring.Original.Gateways()) > 0
}

// lookForRouters has them looked for soon.
func (s *Server) lookForRouters() {
	select {
	case s.asked <- struct{}{}:
	default: // it is to be done anyway
	}
}

// knownRouters are those that an earlier process has offered, where they are of the same gateways: it has looked since the
// interface was wired.
func knownRouters(original *plan.Snapshot, before *dhcp.Offer6) []identity.Router {
	if before == nil {
		return original.Routers
	}
	known := slices.Clone(original.Routers)
	for i, r := range known {
		for _, b := range before.Routers {
			if b.Gateway == r.Gateway && !b.MAC.IsZero() {
				known[i].Address, known[i].MAC = b.Address, b.MAC
			}
		}
	}
	return known
}

// current is the wiring with the routers as they are known now.
func (s *Server) current() *network.Inspection {
	one, original := *s.wiring, s.wiring.Original.Clone()
	original.Routers = s.routers
	one.Original = original
	return &one
}

// routersMoved tells the guest where its routers are now.
func (s *Server) routersMoved(now []identity.Router) {
	for _, r := range now {
		i := slices.IndexFunc(s.routers, func(o identity.Router) bool { return o.Gateway == r.Gateway })
		if i < 0 || s.routers[i] == r {
			continue
		}
		s.log.Info("a gateway has moved, and the guest is told", zap.Stringer("gateway", r.Gateway),
			zap.String("was", routerText(s.routers[i])), zap.String("is", routerText(r)))
	}
	s.routers = now
	offers, warnings, err := s.service.Offers(s.current())
	if err != nil || offers.V6 == nil {
		s.log.Error("what is known of the gateways cannot be offered", zap.Error(err))
		return
	}
	s.tell(offers, warnings)
}

func routerText(r identity.Router) string { return fmt.Sprintf("%s at %s", r.Address, r.MAC) }

// tell has the servers offer something else.
func (s *Server) tell(offers offering.Offers, warnings []string) {
	for _, w := range warnings {
		s.log.Warn(w)
	}
	s.keeper.Change(func(state *statefile.State) {
		s.warnings = slices.Concat(s.wiring.Warnings, warnings)
		state.Offer, state.Offer6, state.Warnings = offers.V4, offers.V6, slices.Concat(s.warnings, s.told())
	})
	if s.server != nil && offers.V4 != nil {
		s.server.Reload(*offers.V4)
	}
	if s.server6 != nil && offers.V6 != nil {
		s.server6.Reload(*offers.V6)
	}
}
