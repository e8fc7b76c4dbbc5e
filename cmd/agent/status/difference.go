package status

import (
	"fmt"
	"slices"

	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
)

// Places of a Difference, besides the roles of links and network.FilterPlace.
const (
	PlaceNetwork network.Role = "pod network"
	PlaceServer  network.Role = "server"
	PlaceGuest   network.Role = "guest"
)

// Deaf is what is wrong with a server that runs and has lost its socket.
const Deaf = "the server runs and cannot hear the guest"

// Difference is one way in which things are not as they should be, and what to do about it.
type Difference struct {
	// Where is nic, bridge, tap, placeholder or filter (of the wiring), pod network, server or guest.
	Where network.Role `json:"where"`
	// What is the whole sentence: "tap0 is down".
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

func (d Difference) String() string { return d.What + ": " + d.Remedy }

const mend = "run `podnic prepare` to mend it"

// differences are those of the wiring, and those that only show when the kernel's state is compared with the state file of a
// serving process. alive says whether that process still runs.
func differences(seen *network.State, report *Report, lease dhcp.Lease, alive bool) []Difference {
	if !seen.Wired {
		return nil
	}
	var all []Difference
	if nic := seen.Current.Link(network.NIC); nic.Up && !nic.LowerUp {
		all = append(all, Difference{PlaceNetwork, nic.Name + " has no carrier", "the other end of the veth, on the node, is down: ask whoever runs the pod network"})
	}
	for _, d := range seen.Deviations {
		remedy := mend
		if d.Where == network.Tap && seen.Current.Link(network.Tap) == nil {
			remedy += ", and start the guest again, which holds the tap that is gone"
		}
		all = append(all, Difference{d.Where, d.String(), remedy})
	}
	// Between prepare and serve nobody serves, and nothing is wrong with that.
	started := seen.Attached || slices.ContainsFunc(report.Timeline, func(m statefile.Moment) bool { return m.Event == statefile.EventServing })
	switch {
	case report.Phase == PhaseFailed:
		all = append(all, Difference{PlaceServer, "the server gave up", "its reason is among the warnings; run `podnic run` or `podnic serve` again"})
	case !alive && started:
		all = append(all, Difference{PlaceServer, "nobody serves " + seen.Names.Interface, "run `podnic run` or `podnic serve`, or take the interface back with `podnic restore`"})
	case report.Phase == PhaseWired && alive && started:
		all = append(all, Difference{PlaceServer, Deaf, "it tries again by itself; what it lacks is named here or in its log"})
	}
	if tap := seen.Current.Link(network.Tap); tap != nil && tap.Up && !seen.Attached && expected(report, lease) {
		all = append(all, Difference{PlaceGuest, fmt.Sprintf("the guest is not attached: nobody holds the other end of %s", tap.Name), "see whether the guest still runs (virsh list), and start it again"})
	}
	return all
}

// expected reports whether a guest should hold the tap by now.
func expected(report *Report, lease dhcp.Lease) bool {
	return report.Domain != nil || lease.InUse() || lease.State == dhcp.LeaseOffered || lease.State == dhcp.LeaseBound
}
