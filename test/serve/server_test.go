package serve

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/internal/wire"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// asks sends a frame of the guest again and again until the status is as it should be. Clients do so too: a bridge
// forwards nothing in the moment after the tap was opened.
func (s *site) asks(frame []byte, what string, as func(podtest.Report) bool) {
	s.T.Helper()
	emulator := podtest.HoldTap(s.T, s.Pod.Namespace, "tap0")
	frame = append(make([]byte, tap.HeaderSize), frame...)
	s.Until(what, func(r podtest.Report) bool {
		if as(r) {
			return true
		}
		if _, err := emulator.Write(frame); err != nil {
			s.T.Fatal(err)
		}
		return false
	})
}

// TestReloadReadsResolvConfAndFileAgain changes the pod's resolver configuration and podnic's own under a server.
func TestReloadReadsResolvConfAndFileAgain(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(s.StateDir, "podnic.yaml"), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write("hostname: first\nmtu: 1300\n")
			server := s.serve("--config", filepath.Join(s.seen(), "podnic.yaml"))
			path := fmt.Sprintf("/proc/%d/root/etc/resolv.conf", server.PID())
			if err := os.WriteFile(path, []byte("nameserver 10.96.0.53\nnameserver ::1\nsearch .\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			write("hostname: second\n")
			server.Signal(syscall.SIGHUP)
			server.Says("configuration read again")
			s.warned("::1")
			write("mtu: many\n")
			server.Signal(syscall.SIGHUP)
			server.Says("cannot be used, so the old one stays")
			e := shapes[0].expect(s)
			guest := s.plug().run(clients[0], e)
			guest.sees("bound", []string{"ip=" + e.address, "dns=10.96.0.53", "hostname=second", fmt.Sprint("mtu=", mtu)})
		})
	}
}

// TestExpiredLeaseIsShownAsRunOut lets a lease end under the server, and then starts the server anew: the guest may be gone.
func TestExpiredLeaseIsShownAsRunOut(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			lease := []string{"--lease-time", "2s"}
			server := s.serve(lease...)
			mac := s.MAC
			e := shapes[0].expect(s)
			take := wire.Select(s.Pod.Address.Addr(), netip.MustParseAddr(e.server))
			var bound time.Time
			s.asks(wire.Request(mac, 1, take...), "the guest is bound", func(r podtest.Report) bool {
				bound = r.Interfaces[0].Lease.Expires
				return !bound.IsZero()
			})
			// It may have been asked once more since, and have given a later end.
			var end time.Time
			s.Until("the running server says that it ran out", func(r podtest.Report) bool {
				end = r.Interfaces[0].Lease.Expires
				return r.Phase == "serving" && r.Interfaces[0].Lease.State == "expired" && !end.Before(bound)
			})
			server.End(syscall.SIGKILL)
			s.serve(lease...)
			s.Until("a server is there and nothing is bound", func(r podtest.Report) bool {
				lease := r.Interfaces[0].Lease
				return r.Phase == "serving" && lease.State == "expired" && lease.Expires.Equal(end)
			})
		})
	}
}

// TestOtherMACIsAWarning has a client with another MAC behind the tap.
func TestOtherMACIsAWarning(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			s.serve()
			other := net.HardwareAddr{2, 0, 0, 0, 0, 9}
			text := "a DHCP client with the MAC " + other.String() + " asks behind the tap; the pod's is " + s.MAC.String()
			s.asks(wire.Request(other, 1, wire.Discover...), "there is a warning", func(r podtest.Report) bool {
				return slices.Contains(r.Interfaces[0].Warnings, text)
			})
			if r := s.Status(); r.Phase != "serving" {
				t.Errorf("the phase is %s", r.Phase)
			}
		})
	}
}

// TestServerOfThePodNetworkIsNeverHeard has a DHCP server and a client of it beside the pod, which talk by broadcast.
func TestServerOfThePodNetworkIsNeverHeard(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, mode, shapes[0])
			s.serve()
			e := shapes[0].expect(s)
			cable := s.plug()
			dir := t.TempDir()
			config := "interface cni0\nstart 10.244.2.100\nend 10.244.2.110\noption subnet 255.255.255.0\n" +
				"lease_file " + dir + "/leases\npidfile " + dir + "/pid\n"
			for name, text := range map[string]string{"conf": config, "leases": ""} {
				if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			beside, err := s.Node.AddNamespace("beside")
			if err != nil {
				t.Fatal(err)
			}
			s.In(s.Node.Namespace, "ip link add beside type veth peer name eth0 netns "+beside.Name+
				"\nip link set beside master cni0 up\nip -n "+beside.Name+" link set eth0 up")
			in := func(name string, command ...string) *podtest.Process {
				return podtest.Start(t, command[1], nsenter(name, command...))
			}
			in(s.Node.Path, "busybox", "udhcpd", "-f", dir+"/conf")

			guest := cable.run(clients[0], e)
			guest.sees("bound", clients[0].view(e)[:1])
			// With -B it asks for answers by broadcast, which reach every port of the node's bridge.
			other := in(beside.Path, "busybox", "udhcpc", "-f", "-q", "-B", "-i", "eth0", "-T", "1", "-s", "/bin/true")
			other.Says("lease of 10.244.2.1")
			s.onlyTheGuestLeft(cable)
			s.In(cable.guest, "ping -c 1 -W 90 "+e.gateway) // behind which there is nothing of the exchange left on its way
			for _, line := range cable.conversation() {
				if strings.HasPrefix(line, "server") && !strings.HasSuffix(line, "by "+e.server) {
					t.Errorf("the guest heard: %s", line)
				}
			}
		})
	}
}

// TestMissingSettingIsNamedByStatus leaves out one of the settings that UDP mode needs.
func TestMissingSettingIsNamedByStatus(t *testing.T) {
	for name, unset := range map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "1024",
		"net.ipv4.conf.all.accept_local":      "0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "udp", shapes[0])
			s.set(name, unset)
			server := s.start()
			if name != "net.ipv4.ip_unprivileged_port_start" {
				s.warned(name)
				return
			}
			// It gives up. What it said is believed by its user, as whom a probe of its container asks, and by nobody else.
			<-server.Done
			if r := s.ordinaryStatus(); r.Phase != "failed" || !strings.Contains(strings.Join(r.Interfaces[0].Warnings, "\n"), name) {
				t.Errorf("the status is %+v", r)
			}
			if r := s.Status(); r.Phase != "wired" {
				t.Errorf("root's status is %+v", r)
			}
		})
	}
}
