package agent

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTimelineKeepsTheFirstOfEach(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var line Timeline
	line.Add(EventStarted, start)
	line.Add(EventWired, start.Add(4500*time.Microsecond))
	line.Add(EventLease, time.Time{}) // never happened
	line.Add(EventWired, start.Add(time.Hour))
	want := Timeline{{EventStarted, start, 0}, {EventWired, start.Add(4500 * time.Microsecond), 4.5}}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Error(diff)
	}
}

func TestStateIsReadBackAndOnlyInItsNamespace(t *testing.T) {
	dir := t.TempDir()
	own, err := statedir.Make(dir, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	here := network.NamespaceID{Boot: "a", Cookie: 7}
	k := newKeeper(own, State{Namespace: here}, func(err error) { t.Error(err) })
	for range 100 {
		k.change(func(s *State) { s.Lease.State = dhcp.LeaseBound })
	}
	k.close()
	s, err := LoadState(dir, "eth0", here)
	if err != nil || s == nil || s.Lease.State != dhcp.LeaseBound {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err := LoadState(dir, "eth0", network.NamespaceID{Boot: "a", Cookie: 8}); s != nil || err != nil {
		t.Errorf("another namespace's state was taken: %+v, %v", s, err)
	}
	if s, err := LoadState(t.TempDir(), "eth0", here); s != nil || err != nil {
		t.Errorf("state out of nothing: %+v, %v", s, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "eth0", "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadState(dir, "eth0", here); err == nil {
		t.Error("a damaged file was taken")
	}
	files, err := os.ReadDir(filepath.Join(dir, "eth0"))
	if err != nil || len(files) != 1 {
		t.Errorf("left in the directory: %v, %v", files, err)
	}
}

func TestUnwritableStateIsToldOnce(t *testing.T) {
	var told []error
	dir := t.TempDir()
	own, err := statedir.Make(dir, "eth0")
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	k := newKeeper(own, State{}, func(err error) { told = append(told, err) })
	for range 3 {
		k.change(func(*State) {})
		time.Sleep(time.Millisecond) // a change while one is written would be joined with it
	}
	k.close()
	if len(told) != 1 || !errors.Is(told[0], os.ErrNotExist) {
		t.Errorf("told %v", told)
	}
}

func TestPhase(t *testing.T) {
	four := network.Snapshot{Addresses: []network.Address{{Link: network.NIC, Local: netip.MustParsePrefix("10.244.1.5/24")}}}
	six := network.Snapshot{Addresses: []network.Address{{Link: network.NIC, Local: netip.MustParsePrefix("fd00::5/64")}}}
	tap := func(frames uint64) *network.Snapshot {
		return &network.Snapshot{Links: []network.Link{{Role: network.Tap, RxFrames: frames}}}
	}
	now := time.Now()
	for _, test := range []struct {
		name     string
		original network.Snapshot
		frames   uint64
		state    *State
		alive    bool
		want     string
	}{
		{"nobody has served", four, 0, nil, false, PhaseWired},
		{"the server is not ready yet", four, 0, &State{}, true, PhaseWired},
		{"the server has died", four, 0, &State{Ready: now}, false, PhaseWired},
		{"somebody serves, and this process may not read how far it is", four, 0, nil, true, PhaseServing},
		{"ready to serve", four, 9, &State{Ready: now}, true, PhaseServing},
		{"offered", four, 9, &State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseOffered}}, true, PhaseServing},
		{"bound", four, 9, &State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseBound}}, true, PhaseReady},
		{"run out", four, 9, &State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseBound, Expires: now.Add(-time.Second)}}, true, PhaseServing},
		{"bound, and another MAC asks", four, 9, &State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseBound, Doubted: now}}, true, PhaseServing},
		{"seen using the address", four, 9, &State{Ready: now, Lease: dhcp.Lease{State: dhcp.LeaseNone, Seen: now}}, true, PhaseReady},
		{"layer 2, silent", six, 0, &State{Ready: now}, true, PhaseServing},
		{"layer 2, heard", six, 1, &State{Ready: now}, true, PhaseReady},
		{"gave up", four, 0, &State{Ready: now, Failed: "why"}, true, PhaseFailed},
	} {
		seen := &network.State{Wired: true, Original: &test.original, Current: tap(test.frames)}
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
