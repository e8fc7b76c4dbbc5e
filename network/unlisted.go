package network

import (
	"fmt"
	"slices"

	"github.com/podnic/podnic/network/holding"
	"github.com/podnic/podnic/network/plan"
)

// unlisted are the pod's listeners that nobody reaches by the address that guest and containers share, since their ports are
// the guest's.
func (s *session) unlisted(original *plan.Snapshot, o plan.Options) (warnings []string) {
	all, err := holding.Listeners(s.ns)
	if err != nil {
		return []string{err.Error()}
	}
	reached := append(slices.Clone(o.PodPorts), o.Sources)
	said := make(map[string]bool)
	for _, l := range all {
		own := l.Address.IsUnspecified() || slices.ContainsFunc(original.AddressesOf(plan.NIC), func(a plan.Address) bool {
			return a.Local.Addr() == l.Address && !l.Address.IsLinkLocalUnicast()
		})
		port := plan.PortRange{First: l.Port, Last: l.Port, Protocol: l.Protocol}.String()
		if !own || said[port] || reached.Has(l.Port, l.Protocol) || plan.IsDHCP(l.Port, l.Protocol) {
			continue
		}
		said[port] = true
		if len(said) > maxUnlisted {
			return append(warnings, "further ports that the pod's processes listen on are not among --pod-ports")
		}
		warnings = append(warnings, fmt.Sprintf("%s listens on %s, which is not among --pod-ports, so that the guest is reached there from outside: if that is not meant, restore, and prepare with it among them", &l.Holder, port))
	}
	return warnings
}

// maxUnlisted bounds what is said of them.
const maxUnlisted = 8
