package upgrade

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// TestRestoreTakesBackAnEarlierWiring: the pod is what it was before the earlier program.
func TestRestoreTakesBackAnEarlierWiring(t *testing.T) {
	t.Parallel()
	for name, earlier := range earliers {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			earlier.wire(s)
			if out, errs, status := s.Run("restore"); status != 0 || strings.Contains(out+errs, "warning") || strings.Contains(out, "nothing") {
				t.Errorf("restore: exit status %d: %s%s", status, out, errs)
			}
			s.AsBefore()
			if left := podtest.Files(t, s.StateDir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestPrepareMendsAnEarlierWiring: what a newer one adds is put in, the record is not lost, and restore still takes all back.
func TestPrepareMendsAnEarlierWiring(t *testing.T) {
	t.Parallel()
	for name, earlier := range earliers {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			earlier.wire(s)
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
			s.AsBefore()
			if left := podtest.Files(t, s.StateDir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestGuestOfAnEarlierWiringKeepsItsNetwork while the server and then the wiring become those of today.
func TestGuestOfAnEarlierWiringKeepsItsNetwork(t *testing.T) {
	t.Parallel()
	for name, earlier := range earliers {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			earlier.wire(s)
			unplug := s.Plug(s.card)
			renew := earlier.serve(s)
			ping := podtest.Start(t, "the guest's ping", s.onCard("ping", "-n", "-i", "0.05", gateway))
			ping.Says("icmp_seq=")

			old := s.Status().Interfaces[0].Lease
			if old.State != "bound" || old.Address != s.Pod.Address.Addr() {
				t.Errorf("the lease of the earlier server is %+v", old)
			}
			server := s.Serve()
			if now := s.Ready().Interfaces[0].Lease; now.State != "bound" || now.Address != old.Address || !now.Since.Equal(old.Since) {
				t.Errorf("the lease was %+v, and is %+v", old, now)
			}
			ping.Says("icmp_seq=")
			renew()
			s.Must("prepare")
			if differences := s.Status().Interfaces[0].Differences; len(differences) > 0 {
				t.Errorf("after prepare, the wiring has %v", differences)
			}
			ping.Says("icmp_seq=")
			ping.Signal(syscall.SIGINT)
			ping.Exits(0)
			// The last one may be on its way.
			if sent, received := counts(t, ping.Output()); received < sent-1 {
				t.Errorf("of %d pings %d came back", sent, received)
			}
			server.End(syscall.SIGTERM)
			unplug()
			s.Must("restore")
			s.AsBefore()
			if left := podtest.Files(t, s.StateDir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// counts are those of ping's summary.
func counts(t *testing.T, out string) (sent, received int) {
	t.Helper()
	m := regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`).FindStringSubmatch(out)
	if m == nil {
		t.Fatal("ping has no summary")
	}
	sent, err := strconv.Atoi(m[1])
	if err == nil {
		received, err = strconv.Atoi(m[2])
	}
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", m[0], err))
	}
	return sent, received
}
