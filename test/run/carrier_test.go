package run

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestGuestsCarrierIsThePods takes the carrier of the pod's interface away and gives it back, while nothing else happens,
// while podnic is dead, and while libvirt is; the guest says what it sees.
func TestGuestsCarrierIsThePods(t *testing.T) {
	s := newSite(t, pod.Bridge)
	file, path := s.domain("podnic.carrier")
	console := podtest.Console(t, path)
	seen := make(map[string]int)
	sees := func(carrier string) {
		t.Helper()
		seen[carrier]++
		waitTimes(t, console, "guest: carrier "+carrier, seen[carrier])
	}
	a := s.run("--domain", file)
	sees("1")
	s.Ready()
	podtest.Wait(t, console, "guest: ready")

	s.network("down")
	sees("0")
	s.noted(true)
	s.network("up")
	sees("1")
	a.Says("the guest's link is up, as the carrier")
	s.noted(false)
	if err := s.hello(); err != nil {
		t.Errorf("with its carrier back, the guest has no network: %v", err)
	}

	// While podnic is dead nobody takes the link up. The next one does, whether the link is to follow from then on or not.
	s.network("down")
	sees("0")
	s.noted(true)
	a.End(syscall.SIGKILL) // the guest lives on
	s.network("up")
	a = s.run("--domain", file)
	sees("1")
	s.network("down")
	sees("0")
	s.noted(true)
	a.End(syscall.SIGKILL) // the guest lives on
	a = s.run("--domain", file, "--follow-carrier=false")
	sees("1")
	s.noted(false)
	a.End(syscall.SIGKILL) // the guest lives on
	a = s.run("--domain", file)
	sees("0")

	if err := s.libvirtd.Kill(); err != nil {
		t.Fatal(err)
	}
	a.Says("the connection to libvirt is lost")
	s.network("up")
	if err := s.libvirtd.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	sees("1")

	// What the user has taken down stays down, and is the user's to take up.
	s.setLink("down")
	sees("0")
	// Who follows is told the latest alone, so a carrier that is back at once may never have been away.
	state := "up"
	podtest.Until(t, "podnic says that the guest's link is not its own doing", func() bool {
		state = map[string]string{"up": "down", "down": "up"}[state]
		s.network(state)
		return strings.Contains(a.Text(), "not podnic's doing")
	})
	s.network("up")
	s.setLink("up")
	sees("1")
	if err := s.hello(); err != nil {
		t.Errorf("in the end, the guest has no network: %v", err)
	}
	a.Signal(syscall.SIGTERM)
	a.Exits(0)
	s.AsBefore()
}

// TestLinkThatTheDomainHasDownStaysDown starts a guest whose XML has its link down.
func TestLinkThatTheDomainHasDownStaysDown(t *testing.T) {
	s := newSite(t, pod.Bridge)
	file, path := s.domain("podnic.carrier")
	xml, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const its = "<interface type='ethernet'><target dev='tap0' managed='no'/><link state='down'/></interface>"
	down := strings.Replace(string(xml), "<memballoon", its+"<memballoon", 1)
	if err := os.WriteFile(file, []byte(down), 0o600); err != nil {
		t.Fatal(err)
	}
	console := podtest.Console(t, path)
	a := s.run("--domain", file)
	podtest.Wait(t, console, "guest: carrier 0")
	a.Says("the domain's XML has the guest's link down, and it stays so")
	a.Signal(syscall.SIGTERM)
	a.Exits(0)
	if strings.Contains(console.Text(), "guest: carrier 1") {
		t.Error("podnic has taken up a link that the domain has down")
	}
	s.AsBefore()
}

// network sets the node's end of the pod's link up or down.
func (s *site) network(state string) {
	s.T.Helper()
	if out, err := s.Node.Output(s.T.Context(), "ip", "link", "set", s.Pod.HostLink, state); err != nil {
		s.T.Fatalf("%v: %s", err, out)
	}
}

func (s *site) setLink(state string) {
	s.T.Helper()
	if out, err := s.libvirtd.Virsh(s.T.Context(), "domif-setlink", "vm", "tap0", state); err != nil {
		s.T.Fatalf("%v: %s", err, out)
	}
}

// noted waits until status says whether podnic has taken the guest's link down: the guest sees it before podnic notes it.
func (s *site) noted(lowered bool) {
	s.T.Helper()
	podtest.Until(s.T, fmt.Sprintf("status says that podnic has taken the guest's link down: %v", lowered), func() bool {
		out := s.Must("status", "-o", "json")
		return podtest.ReadReport(s.T, out).Interfaces[0].GuestLink.Lowered == lowered &&
			strings.Contains(out, "the guest's link is down for that") == lowered
	})
}

func waitTimes(t *testing.T, console *guest.Console, prefix string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), podtest.Patience)
	defer cancel()
	if _, err := console.WaitTimes(ctx, prefix, n); err != nil {
		t.Fatal(err)
	}
}
