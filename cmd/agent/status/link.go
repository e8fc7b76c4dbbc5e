package status

import (
	"net/netip"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
)

// LinkReport is one link of the wiring as the kernel has it.
type LinkReport struct {
	Role      plan.Role      `json:"role"` // nic, bridge, tap or placeholder; a podnic link that has no place in the wiring: stray NAME
	Name      string         `json:"name"`
	MAC       identity.MAC   `json:"mac"`
	MTU       int            `json:"mtu"`
	Up        bool           `json:"up"`
	Carrier   bool           `json:"carrier"` // of a tap: somebody holds its other end
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// Received and Sent are frames since the link was made; on the tap, received means from the guest. Dropped are those
	// that were lost in either direction.
	Received uint64 `json:"received"`
	Sent     uint64 `json:"sent"`
	Dropped  uint64 `json:"dropped"`
}

func linkReports(s *plan.Snapshot) []LinkReport {
	reports := make([]LinkReport, 0, len(s.Links))
	for _, l := range s.Links {
		r := LinkReport{
			Role: l.Role, Name: l.Name, MAC: l.MAC, MTU: l.MTU, Up: l.Up, Carrier: l.LowerUp,
			Received: l.RxFrames, Sent: l.TxFrames, Dropped: l.RxDropped + l.TxDropped,
		}
		for _, a := range s.Addresses {
			if a.Link == l.Role && !isLinkLocal6(a.Local.Addr()) {
				r.Addresses = append(r.Addresses, a.Local)
			}
		}
		reports = append(reports, r)
	}
	return reports
}
