package statefile

import (
	"errors"
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

// TestNothingIsWrittenAfterTheEnd: a server that has ended, and one whose interface was given back, may be told something still.
func TestNothingIsWrittenAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(*Keeper){"closed": (*Keeper).Close, "discarded": (*Keeper).Discard} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			own, err := statedir.Make(dir, "eth0")
			if err != nil {
				t.Fatal(err)
			}
			k := NewKeeper(own, State{}, func(err error) { t.Error(err) })
			end(k)
			path := filepath.Join(dir, "eth0", "state.json")
			before, _ := os.ReadFile(path)
			k.Change(func(s *State) { s.Lease.State = dhcp.LeaseBound })
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Errorf("written: %s", after)
			}
		})
	}
}

func TestStateIsReadBackAndOnlyInItsNamespace(t *testing.T) {
	dir := t.TempDir()
	own, err := statedir.Make(dir, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	here := network.NamespaceID{Boot: "a", Cookie: 7}
	k := NewKeeper(own, State{Namespace: here}, func(err error) { t.Error(err) })
	for range 100 {
		k.Change(func(s *State) { s.Lease.State = dhcp.LeaseBound })
	}
	k.Close()
	s, err := Load(dir, "eth0", here)
	if err != nil || s == nil || s.Lease.State != dhcp.LeaseBound {
		t.Fatalf("%+v, %v", s, err)
	}
	if s, err := Load(dir, "eth0", network.NamespaceID{Boot: "a", Cookie: 8}); s != nil || err != nil {
		t.Errorf("another namespace's state was taken: %+v, %v", s, err)
	}
	if s, err := Load(t.TempDir(), "eth0", here); s != nil || err != nil {
		t.Errorf("state out of nothing: %+v, %v", s, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "eth0", "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "eth0", here); err == nil {
		t.Error("a damaged file was taken")
	}
	line := Timeline{{Event: EventStarted, At: time.Unix(1, 0).UTC()}}
	if own, err = statedir.OpenOwn(dir, "eth0"); err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if err := Begin(own, here, line); err != nil {
		t.Fatal(err)
	}
	begun, err := Load(dir, "eth0", here)
	if diff := cmp.Diff(&State{Version: stateVersion, Namespace: here, Timeline: line}, begun, cmp.Comparer(func(a, b dhcp.Lease) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
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
	k := NewKeeper(own, State{}, func(err error) { told = append(told, err) })
	for range 3 {
		k.Change(func(*State) {})
		time.Sleep(time.Millisecond) // a change while one is written would be joined with it
	}
	k.Close()
	if len(told) != 1 || !errors.Is(told[0], os.ErrNotExist) {
		t.Errorf("told %v", told)
	}
}
