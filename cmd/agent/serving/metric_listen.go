package serving

import (
	"slices"

	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
)

// checkMetrics refuses what is the guest's. A socket there would open all the same, since the namespace keeps the
// addresses, and nobody outside of the pod would ever reach it: what is sent to them goes to the guest.
func checkMetrics(a metrics.Address, seen *network.Inspection) error {
	const remedy = "use unix:PATH, a loopback address, the address of another interface, or, with --binding shared, one of --pod-ports"
	addr := a.TCP.Addr().WithZone("")
	switch {
	case a.Socket != "":
		return nil
	case kept(a, seen) && addr != identity.ServerLinkLocal && addr != seen.Server:
		return nil
	case addr.IsUnspecified():
		return plan.Refuse("metrics cannot be served at %s, which is every address of the pod: those of %s are the guest's; %s", a, seen.Names.Interface, remedy)
	case addr == identity.ServerLinkLocal || addr == seen.Server:
		return plan.Refuse("metrics cannot be served at %s, which is the DHCP server's and reached by the guest alone; %s", a, remedy)
	}
	if slices.ContainsFunc(seen.Original.Addresses, func(o plan.Address) bool {
		return o.Link == plan.NIC && o.Local.Addr().WithZone("") == addr
	}) {
		return plan.Refuse("metrics cannot be served at %s, which is an address of %s and was given to the guest; %s", a, seen.Names.Interface, remedy)
	}
	return nil
}

// kept reports whether the pod's containers keep an address's port, so that what is sent there does not go to the guest.
func kept(a metrics.Address, seen *network.Inspection) bool {
	return seen.Options.PodPorts.Has(a.TCP.Port(), plan.ProtocolTCP)
}

// observation is what is known of an interface and its guest as of now.
func (s *Server) observation() *observation {
	o := &observation{iface: s.wiring.Names.Interface, repairs: -1}
	if s.server != nil {
		o.stats = s.server.Stats()
	}
	if s.server6 != nil {
		stats := s.server6.Stats()
		o.stats6 = &stats
	}
	s.keeper.Read(func(state *statefile.State) {
		o.state = *state
		o.state.Timeline, o.state.Warnings = slices.Clone(state.Timeline), slices.Clone(state.Warnings)
	})
	if r, err := (network.Store{Dir: s.req.StateDir, Interface: o.iface}).Load(); err == nil && r != nil && r.Namespace == o.state.Namespace {
		o.repairs = r.Repairs
	}
	if s.wiring.Options.Guarded() {
		// nftables' counters require CAP_NET_ADMIN: the server gives it up, podnic run does not.
		if lies, err := network.Lies(s.req.Namespace, s.wiring.Names); err == nil {
			o.spoofed = &lies
		}
	}
	return o
}
