package status

import (
	"fmt"
	"slices"

	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

// Places of a Deviation, besides the roles of links and plan.FilterPlace.
const (
	PlaceNetwork plan.Role = "pod network"
	PlaceServer  plan.Role = "server"
	PlaceGuest   plan.Role = "guest"
)

// Deaf is what is wrong with a server that runs and has lost its socket.
const Deaf = "the server runs and cannot hear the guest"

// Deviation is one way in which things are not as they should be, and what to do about it.
type Deviation struct {
	// Where is nic, bridge, tap, placeholder or filter (of the wiring), pod network, server or guest.
	Where plan.Role `json:"where"`
	// What is the whole sentence: "tap0 is down".
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

func (d Deviation) String() string { return d.What + ": " + d.Remedy }

const mend = "run `podnic prepare` to mend it"

// deviations are those of the wiring, and those that only show when the kernel's state is compared with the state file of a
// serving process. alive says whether that process still runs.
func deviations(seen *network.Inspection, r *InterfaceReport, alive bool) []Deviation {
	if !seen.Wired {
		return nil
	}
	var all []Deviation
	if nic := seen.Current.Link(plan.NIC); nic.Up && !nic.LowerUp {
		what := nic.Name + " has no carrier"
		if r.GuestLink != nil && r.GuestLink.Lowered {
			what += ", and the guest's link is down for that"
		}
		all = append(all, Deviation{PlaceNetwork, what, "the other end of the veth, on the node, is down: ask those who run the pod network"})
	}
	for _, d := range seen.Deviations {
		remedy := mend
		if d.Where == plan.Tap && seen.Current.Link(plan.Tap) == nil {
			remedy += ", and start the guest again, which holds the tap that is gone"
		}
		all = append(all, Deviation{d.Where, d.String(), remedy})
	}
	// Between prepare and serve nobody serves, and nothing is wrong with that.
	started := seen.Attached || slices.ContainsFunc(r.Timeline, func(m statefile.Moment) bool { return m.Event == statefile.EventServing })
	switch {
	case r.Phase == PhaseFailed:
		all = append(all, Deviation{PlaceServer, "the server gave up", "its reason is among the warnings; run `podnic run` or `podnic serve` again"})
	case !alive && started:
		all = append(all, Deviation{PlaceServer, "nobody serves " + seen.Names.Interface, "run `podnic run` or `podnic serve`, or take the interface back with `podnic restore`"})
	case r.Phase == PhaseWired && alive && started:
		all = append(all, Deviation{PlaceServer, Deaf, "it tries again by itself; what it lacks is named here or in its log"})
	}
	if tap := seen.Current.Link(plan.Tap); tap != nil && tap.Up && !seen.Attached && expected(r) {
		d := Deviation{PlaceGuest, fmt.Sprintf("the guest is not attached: nobody holds the other end of %s", tap.Name), "see whether the guest still runs (virsh list), and start it again"}
		if r.unplugged {
			d.What = fmt.Sprintf("the guest runs, and its card of %s was unplugged: nobody holds the other end of %s", r.Name, tap.Name)
			d.Remedy = fmt.Sprintf("plug it with `podnic attach %s`, or give the pod its interface back with `podnic detach %s`", r.Name, r.Name)
		}
		all = append(all, d)
	}
	return all
}

// expected reports whether a guest should hold the tap by now.
func expected(r *InterfaceReport) bool {
	if l := r.Lease6; l != nil && (l.InUse() || l.State == dhcp.LeaseOffered) {
		return true
	}
	return r.unplugged || r.Domain != nil || r.Lease.InUse() || r.Lease.State == dhcp.LeaseOffered || r.Lease.State == dhcp.LeaseBound
}
