package status

import (
	"net/netip"
	"testing"
	"time"

	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

func TestPhase(t *testing.T) {
	four := plan.Snapshot{Addresses: []plan.Address{{Link: plan.NIC, Local: netip.MustParsePrefix("10.244.1.5/24")}}}
	six := plan.Snapshot{Addresses: []plan.Address{{Link: plan.NIC, Local: netip.MustParsePrefix("fd00::5/64")}}}
	tap := func(frames uint64) *plan.Snapshot {
		return &plan.Snapshot{Links: []plan.Link{{Role: plan.Tap, RxFrames: frames}}}
	}
	now := time.Now()
	for _, test := range []struct {
		name     string
		original plan.Snapshot
		frames   uint64
		state    *statefile.State
		alive    bool
		want     string
	}{
		{"nobody has served", four, 0, nil, false, PhaseWired},
		{"the server is not ready yet", four, 0, &statefile.State{}, true, PhaseWired},
		{"the server has died", four, 0, &statefile.State{Ready: now}, false, PhaseWired},
		{"somebody serves, and this process may not read how far it is", four, 0, nil, true, PhaseServing},
		{"ready to serve", four, 9, &statefile.State{Ready: now}, true, PhaseServing},
		{"offered", four, 9, &statefile.State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseOffered}}, true, PhaseServing},
		{"bound", four, 9, &statefile.State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseBound}}, true, PhaseReady},
		{"run out", four, 9, &statefile.State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseBound, Expires: now.Add(-time.Second)}}, true, PhaseServing},
		{"bound, and another MAC asks", four, 9, &statefile.State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseBound, Doubted: now}}, true, PhaseServing},
		{"seen using the address", four, 9, &statefile.State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseNone, Seen: now}}, true, PhaseReady},
		{"layer 2, silent", six, 0, &statefile.State{Ready: now}, true, PhaseServing},
		{"layer 2, heard", six, 1, &statefile.State{Ready: now}, true, PhaseReady},
		{"bound by IPv6 alone", six, 0, &statefile.State{Ready: now, Offer6: &dhcp.Offer6{}, Lease6: &dhcp.Lease6{State: dhcp.LeaseBound}}, true, PhaseReady},
		{"not bound by IPv6", six, 9, &statefile.State{Ready: now, Offer6: &dhcp.Offer6{}, Lease6: &dhcp.Lease6{State: dhcp.LeaseReleased}}, true, PhaseServing},
		{"bound by IPv6, not by IPv4", four, 9, &statefile.State{Ready: now, Lease6: &dhcp.Lease6{State: dhcp.LeaseBound}}, true, PhaseReady},
		{"run out by IPv6", six, 9, &statefile.State{Ready: now, Offer6: &dhcp.Offer6{}, Lease6: &dhcp.Lease6{State: dhcp.LeaseBound, Expires: now.Add(-time.Second)}}, true, PhaseServing},
		{"gave up", four, 0, &statefile.State{Ready: now, Failed: "why"}, true, PhaseFailed},
	} {
		seen := &network.Inspection{Wired: true, Original: &test.original, Current: tap(test.frames)}
		if got := phaseOf(seen, test.state, test.alive); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestReached(t *testing.T) {
	for _, test := range []struct {
		phase, wanted string
		want          bool
	}{
		{PhaseOriginal, "", true}, {PhaseOriginal, PhaseWired, false}, {PhaseWired, PhaseWired, true}, {PhaseServing, PhaseWired, true},
		{PhaseServing, PhaseReady, false}, {PhaseReady, PhaseReady, true}, {PhaseFailed, PhaseWired, false},
	} {
		if got := reached(test.phase, test.wanted); got != test.want {
			t.Errorf("%s for %q: %v", test.phase, test.wanted, got)
		}
	}
}
