package serving

import (
	"runtime"
	"slices"

	"github.com/podnic/podnic/cmd/agent/metrics"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
)

// Listen opens the socket for metrics, if one is wanted, in the pod's namespace. Whatever is wrong with the address is a
// refusal: it is called before anything is changed.
func (c *Claim) Listen(a metrics.Address, seen *network.State) error {
	if a.IsZero() {
		return nil
	}
	if err := checkMetrics(a, seen); err != nil {
		return err
	}
	err := c.ns.Do(func() (err error) {
		c.metrics, err = a.Listen()
		return err
	})
	if err != nil {
		return network.Refuse("metrics cannot be served at %s: %w; choose another address with --metrics-listen", a, err)
	}
	return nil
}

// checkMetrics refuses what is the guest's. A socket there would open all the same, since the namespace keeps the
// addresses, and nobody outside of the pod would ever reach it: what is sent to them goes to the guest.
func checkMetrics(a metrics.Address, seen *network.State) error {
	const remedy = "use unix:PATH, a loopback address, or the address of another interface"
	addr := a.TCP.Addr().WithZone("")
	switch {
	case a.Socket != "":
		return nil
	case addr.IsUnspecified():
		return network.Refuse("metrics cannot be served at %s, which is every address of the pod: those of %s are the guest's; %s", a, seen.Names.Interface, remedy)
	case addr == identity.ServerLinkLocal || addr == seen.Server:
		return network.Refuse("metrics cannot be served at %s, which is the DHCP server's and reached by the guest alone; %s", a, remedy)
	}
	if slices.ContainsFunc(seen.Original.Addresses, func(o network.Address) bool {
		return o.Link == network.NIC && o.Local.Addr().WithZone("") == addr
	}) {
		return network.Refuse("metrics cannot be served at %s, which is an address of %s and was given to the guest; %s", a, seen.Names.Interface, remedy)
	}
	return nil
}

// collectAfter is after how many scrapes their garbage is collected, which is some 20 KiB each. The runtime itself would
// begin at 4 MiB, twice what a process that serves a guest has of its own.
const collectAfter = 16

// scrape is the text of all metrics as of now.
func (s *Server) scrape() []byte {
	if s.scrapes.Add(1)%collectAfter == 0 {
		defer runtime.GC()
	}
	o := observation{version: s.version, goVersion: runtime.Version(), repairs: -1, process: readProcessUse()}
	if s.server != nil {
		o.stats = s.server.Stats()
	}
	s.keeper.Read(func(state *statefile.State) {
		o.state = *state
		o.state.Timeline, o.state.Warnings = slices.Clone(state.Timeline), slices.Clone(state.Warnings)
	})
	if r, err := (network.Store{Dir: s.req.StateDir, Interface: s.wiring.Names.Interface}).Load(); err == nil && r != nil && r.Namespace == o.state.Namespace {
		o.repairs = r.Repairs
	}
	return metrics.Text(o.families())
}
