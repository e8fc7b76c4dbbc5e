package status

import (
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

// TestDeviationsOfServerAndGuest: what is wrong depends on how far things were, and not on what is not there yet.
func TestDeviationsOfServerAndGuest(t *testing.T) {
	served := statefile.Timeline{{Event: statefile.EventServing, At: time.Now()}}
	bound := dhcp.Lease{State: dhcp.LeaseBound}
	for _, test := range []struct {
		name            string
		phase           string
		timeline        statefile.Timeline
		lease           dhcp.Lease
		domain          *statefile.Domain
		alive, attached bool
		want            string // places
	}{
		{"prepared, and nobody has served", PhaseWired, nil, dhcp.Lease{}, nil, false, false, ""},
		{"the server is starting", PhaseWired, nil, dhcp.Lease{}, nil, true, false, ""},
		{"no guest yet", PhaseServing, served, dhcp.Lease{}, nil, true, false, ""},
		{"all is well", PhaseReady, served, bound, &statefile.Domain{}, true, true, ""},
		{"the server has ended", PhaseWired, served, dhcp.Lease{}, nil, false, false, "server"},
		{"a guest, and the state cannot be read", PhaseWired, nil, dhcp.Lease{}, nil, false, true, "server"},
		{"the server gave up", PhaseFailed, served, bound, nil, false, true, "server"},
		{"the guest with the lease has gone", PhaseReady, served, bound, nil, true, false, "guest"},
		{"libvirt knows of a guest, and the tap does not", PhaseServing, served, dhcp.Lease{}, &statefile.Domain{}, true, false, "guest"},
		{"both", PhaseWired, served, bound, nil, false, false, "server guest"},
	} {
		seen := &network.Inspection{Wired: true, Attached: test.attached, Current: &plan.Snapshot{Links: []plan.Link{
			{Role: plan.NIC, Up: true, LowerUp: true}, {Role: plan.Tap, Up: true, LowerUp: test.attached},
		}}}
		var got []string
		for _, d := range deviations(seen, &InterfaceReport{Phase: test.phase, Timeline: test.timeline, Domain: test.domain, Lease: test.lease}, test.alive) {
			got = append(got, string(d.Where))
		}
		if places := strings.Join(got, " "); places != test.want {
			t.Errorf("%s: %q, want %q", test.name, places, test.want)
		}
	}
}
