package upgrade

import (
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// TestRestoreTakesBackAnEarlierWiring: the pod is what it was before the earlier program.
func TestRestoreTakesBackAnEarlierWiring(t *testing.T) {
	wired(t, func(t *testing.T, s *site, _ earlier) {
		if out, errs, status := s.Run("restore"); status != 0 || strings.Contains(out+errs, "warning") || strings.Contains(out, "nothing") {
			t.Errorf("restore: exit status %d: %s%s", status, out, errs)
		}
		s.nothingLeft()
	})
}

// TestPrepareMendsAnEarlierWiring: what a newer one adds is put in, the record is not lost, and restore still takes all back.
func TestPrepareMendsAnEarlierWiring(t *testing.T) {
	wired(t, func(t *testing.T, s *site, _ earlier) {
		before := s.Status().Interfaces[0]
		if len(before.Differences) == 0 {
			t.Error("the earlier wiring lacks nothing: record one that does")
		}
		for _, d := range before.Differences {
			t.Log(d.What)
		}
		if out := s.Must("prepare"); strings.Contains(out, "rebuilt") {
			t.Errorf("the record was lost: %s", out)
		}
		if after := s.Status().Interfaces[0]; len(after.Differences) > 0 || after.MAC != before.MAC || after.Offer.Address != before.Offer.Address {
			t.Errorf("after prepare it is %+v", after)
		}
		s.Must("restore")
		s.nothingLeft()
	})
}

// TestGuestOfAnEarlierWiringKeepsItsNetwork while the server and then the wiring become those of today.
func TestGuestOfAnEarlierWiringKeepsItsNetwork(t *testing.T) {
	wired(t, func(t *testing.T, s *site, earlier earlier) {
		unplug := s.Plug(s.card)
		renew := earlier.serve(s)
		ping := podtest.Start(t, "the guest's ping", s.onCard("ping", "-n", "-i", "0.05", gateway))
		ping.Says(answer)

		old := s.Status().Interfaces[0].Lease
		if old.State != "bound" || old.Address != s.Pod.Address.Addr() {
			t.Errorf("the lease of the earlier server is %+v", old)
		}
		server := s.Serve()
		if now := s.Ready().Interfaces[0].Lease; now.State != "bound" || now.Address != old.Address || !now.Since.Equal(old.Since) {
			t.Errorf("the lease was %+v, and is %+v", old, now)
		}
		goesOn(ping)
		renew()
		goesOn(ping)
		s.Must("prepare")
		if differences := s.Status().Interfaces[0].Differences; len(differences) > 0 {
			t.Errorf("after prepare, the wiring has %v", differences)
		}
		goesOn(ping)
		ping.Signal(syscall.SIGINT)
		ping.Exits(0)
		if last, lost := answered(t, ping.Output()); len(lost) > 0 {
			t.Errorf("of the pings up to number %d, these had no answer: %v", last, lost)
		}
		server.End(syscall.SIGTERM)
		unplug()
		s.Must("restore")
		s.nothingLeft()
	})
}

// wired runs a test in a pod that each of the earlier programs has prepared.
func wired(t *testing.T, test func(*testing.T, *site, earlier)) {
	t.Parallel()
	for name, earlier := range earliers {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, earlier.network)
			earlier.wire(s)
			test(t, s, earlier)
		})
	}
}

// nothingLeft checks that the pod is as it was, and that podnic keeps nothing of it.
func (s *site) nothingLeft() {
	s.T.Helper()
	s.AsBefore()
	if left := podtest.Files(s.T, s.StateDir); len(left) > 0 {
		s.T.Errorf("left: %v", left)
	}
}

// answer is in each line of ping's that tells of an answer, and in none about a host that cannot be reached.
const answer = "bytes from"

// goesOn waits for answers that ping tells of from now on: more than can have been on their way.
func goesOn(ping *podtest.Process) {
	ping.Skip()
	for range 10 {
		ping.Says(answer)
	}
}

// answered reads what ping said: the last ping that had an answer, and those before it that had none. What was sent after it may
// be on its way.
func answered(t *testing.T, out string) (last int, lost []int) {
	t.Helper()
	came := map[int]bool{}
	for _, m := range regexp.MustCompile(answer+` .* icmp_seq=(\d+) `).FindAllStringSubmatch(out, -1) {
		number, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		came[number] = true
		last = max(last, number)
	}
	if last == 0 {
		t.Fatal("ping had no answer")
	}
	for number := 1; number < last; number++ {
		if !came[number] {
			lost = append(lost, number)
		}
	}
	return last, lost
}
