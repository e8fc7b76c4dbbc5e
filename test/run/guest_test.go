package run

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestGuestIsThePod boots a guest in each kind of pod network and compares what it has with what the pod had, in both
// families on ptp. Then it is asked to shut down, and the pod has its interface back.
func TestGuestIsThePod(t *testing.T) {
	for name, test := range map[string]struct {
		network pod.Network
		mask    string
		routes  []string // that the guest must have
		mtu     string
	}{
		"ptp":    {pod.PTP.Dual(), "32", []string{"10.244.1.1/32", "10.244.1.0/24", "0.0.0.0/0"}, "1500"},
		"bridge": {pod.Bridge.WithMTU(1400), "24", []string{"0.0.0.0/0"}, "1400"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, test.network)
			file, path := s.domain()
			console := podtest.Console(t, path)
			metrics := filepath.Join(t.TempDir(), "metrics.sock")
			a := s.run("--domain", file, "--metrics-listen", "unix:"+metrics)
			s.Ready()
			if text := podtest.Metrics(t, metrics); !strings.Contains(text, "\npodnic_guest_ready{interface=\"eth0\"} 1\n") || !strings.Contains(text, `event="domain running"`) {
				t.Errorf("the metrics do not know of the guest:\n%s", text)
			}
			lease := guest.Fields(podtest.Wait(t, console, "guest: lease"))
			t.Log(lease)
			for field, want := range map[string]string{
				"address":  s.Pod.Address.Addr().String(),
				"mask":     test.mask,
				"mtu":      test.mtu,
				"hostname": "vm-0",
				"dns":      "10.96.0.10",
			} {
				if got := lease[field]; got != want {
					t.Errorf("the guest has %s %q, want %q", field, got, want)
				}
			}
			for _, route := range test.routes {
				if !strings.Contains(lease["routes"], route) {
					t.Errorf("the guest lacks the route %s: %s", route, lease["routes"])
				}
			}
			podtest.Wait(t, console, "guest: ready")
			reached := map[string]string{"gateway": s.Pod.Gateway.String(), "other pod": s.other.Address.Addr().String()}
			if s.Pod.Address6.IsValid() {
				s.hasIPv6(console)
				reached["gateway by IPv6"], reached["other pod by IPv6"] = s.Pod.Gateway6.String(), s.other.Address6.Addr().String()
			}
			if err := s.hello(); err != nil {
				t.Errorf("from another pod: %v", err)
			}
			for what, address := range reached {
				if out, err := s.client().Run(t.Context(), "ping -c 1 -W 90 "+address); err != nil {
					t.Errorf("from the guest to the %s: %v\n%s", what, err, out)
				}
			}
			mac, err := s.client().Run(t.Context(), "cat /sys/class/net/eth0/address")
			if want := s.MAC.String(); err != nil || strings.TrimSpace(mac) != want {
				t.Errorf("the guest has the MAC %q, want %q: %v", mac, want, err)
			}
			a.Signal(syscall.SIGTERM)
			a.Exits(0)
			if !strings.Contains(console.Text(), "guest: power button") {
				t.Error("the guest was not asked to shut down")
			}
			s.AsBefore()
		})
	}
}

// hasIPv6 checks that the guest has taken the pod's IPv6 address, and its router and resolver.
func (s *site) hasIPv6(console *guest.Console) {
	s.T.Helper()
	lease := guest.Fields(podtest.Wait(s.T, console, "guest: lease6"))
	s.T.Log(lease)
	router := podtest.In(s.T, s.Node.Namespace, "ip -6 -o address show dev "+s.Pod.HostLink+" scope link | sed 's/.* inet6 //; s/\\/.*//'")
	for field, want := range map[string]string{
		"address": s.Pod.Address6.Addr().String(), "router": strings.TrimSpace(router), "dns": "fd00:10:96::a",
		"search": "default.svc.cluster.local.,svc.cluster.local.,cluster.local.", "hostname": "vm-0.default.svc.cluster.local",
	} {
		if got := lease[field]; got != want {
			s.T.Errorf("the guest has %s %q, want %q", field, got, want)
		}
	}
}

// TestKilledAgentIsAdopted kills podnic under a running guest: the guest lives on, restore will not take its network, the
// next run takes it over, and in the end the pod has its interface back.
func TestKilledAgentIsAdopted(t *testing.T) {
	s := newSite(t, pod.PTP)
	file, path := s.domain()
	console := podtest.Console(t, path)
	first := s.run("--domain", file)
	s.Ready()
	podtest.Wait(t, console, "guest: ready")
	first.Signal(syscall.SIGKILL)
	<-first.Done
	if err := s.hello(); err != nil {
		t.Fatalf("the guest did not survive its agent: %v", err)
	}
	if _, stderr, status := s.Run("restore"); status != 2 || !strings.Contains(stderr, "--force") {
		t.Errorf("restore under a running guest: exit status %d, %s", status, stderr)
	}
	if err := s.hello(); err != nil {
		t.Fatalf("a refused restore did harm: %v", err)
	}

	second := s.run("--domain", file)
	if r := s.Ready(); r.Interfaces[0].Lease.State != "bound" {
		t.Errorf("the new agent does not know the lease: %+v", r.Interfaces[0].Lease)
	}
	if err := s.hello(); err != nil {
		t.Fatalf("the guest did not survive being adopted: %v", err)
	}
	if strings.Count(console.Text(), "guest: up") != 1 {
		t.Error("the guest was started again")
	}
	second.Signal(syscall.SIGTERM)
	second.Exits(0)
	s.AsBefore()
}

// TestRestoreAfterAgentAndGuestAreGone is the same without a second run, and in a pod that has IPv6 alone.
func TestRestoreAfterAgentAndGuestAreGone(t *testing.T) {
	s := newSite(t, pod.PTP.IPv6Only())
	file, path := s.domain()
	console := podtest.Console(t, path)
	a := s.run("--domain", file)
	s.Ready()
	s.hasIPv6(console)
	if err := s.hello(); err != nil {
		t.Errorf("from another pod: %v", err)
	}
	a.Signal(syscall.SIGKILL)
	<-a.Done
	if _, err := s.libvirtd.Virsh(t.Context(), "destroy", "vm"); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, status := s.Run("restore"); status != 0 {
		t.Errorf("restore: exit status %d: %s%s", status, stdout, stderr)
	}
	s.AsBefore()
}

// TestExitStatusTellsHowTheGuestEnded ends guests in every way that the contract has a status for.
func TestExitStatusTellsHowTheGuestEnded(t *testing.T) {
	s := newSite(t, pod.PTP)
	for _, test := range []struct {
		name   string
		args   []string // of the kernel
		end    func(*podtest.Process)
		status int
	}{
		{"powers off", []string{"podnic.poweroff=1"}, func(*podtest.Process) {}, 0},
		{"crashes", nil, func(*podtest.Process) { s.killQEMU() }, 5},
		{"destroyed by somebody else", nil, func(*podtest.Process) {
			if _, err := s.libvirtd.Virsh(t.Context(), "destroy", "vm"); err != nil {
				t.Fatal(err)
			}
		}, 6},
		{"destroyed after the grace period", []string{"podnic.deaf"}, func(a *podtest.Process) { a.Signal(syscall.SIGTERM) }, 7},
		{"destroyed at the second signal", []string{"podnic.deaf"}, func(a *podtest.Process) {
			a.Signal(syscall.SIGTERM)
			a.Signal(syscall.SIGINT)
		}, 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.T = t
			file, path := s.domain(test.args...)
			console := podtest.Console(t, path)
			grace := "2s"
			if strings.Contains(test.name, "second") {
				grace = "10m"
			}
			a := s.run("--domain", file, "--grace", grace)
			podtest.Wait(t, console, "guest: up")
			test.end(a)
			a.Exits(test.status)
			s.AsBefore()
		})
	}
}

func (s *site) killQEMU() {
	s.T.Helper()
	pids, err := s.libvirtd.QEMU()
	if err != nil || len(pids) != 1 {
		s.T.Fatalf("QEMU's processes: %v, %v", pids, err)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		s.T.Fatal(err)
	}
}
