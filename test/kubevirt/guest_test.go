package kubevirt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// leaseTime is short, so that a guest rebinds while the test waits.
const leaseTime = "20s"

// TestGuestIsThePod starts a guest in the order in which KubeVirt does, with each kind of attachment: the sidecar is there
// first, the pod is wired, the domain is defined after several calls, the guest takes its lease, has it confirmed, and is
// the pod for another pod; the sidecar is killed and goes on where it was; in the end the launcher says that it is over.
func TestGuestIsThePod(t *testing.T) {
	for name, test := range map[string]struct {
		network pod.Network
		wire    func(*site)
		// binding is what status says. Where it is not KubeVirt's, podnic's plugin has wired the pod when it was made.
		binding string
		mask    string
		routes  []string // that the guest must have
	}{
		"managedTap": {
			network: pod.PTP,
			wire:    func(s *site) { s.wire(pod.Interface) },
			binding: "managedTap",
			mask:    "32", routes: []string{"169.254.75.10/32,0.0.0.0", "10.244.1.1/32,0.0.0.0", "0.0.0.0/0,10.244.1.1"},
		},
		"tap": {
			network: pod.Bridge,
			wire:    func(*site) {},
			binding: "bridge",
			mask:    "24", routes: []string{"169.254.75.10/32,0.0.0.0", "0.0.0.0/0,10.244.2.1"},
		},
		"tap, macvlan": {
			network: pod.Macvlan,
			wire:    func(*site) {},
			binding: "redirect",
			mask:    "24", routes: []string{"169.254.75.10/32,0.0.0.0", "0.0.0.0/0,10.244.3.1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, test.network)
			other := podtest.Pod(t, s.Node, pod.Spec{Name: "other", Network: test.network})
			mac := s.MAC.String()
			s.attach(pod.Interface)
			if test.binding != "managedTap" {
				s.prepare()
			}
			daemon := podtest.Libvirtd(t, s.Pod)
			image := podtest.Guest(t)
			wire := s.capture()

			sidecar := s.sidecar("hook-sidecar-0", plugin, "--lease-time", leaseTime)
			launcher := s.launcher()
			launcher.collect(1)
			if user, capabilities := sidecar.privileges(); user != fmt.Sprint(launcherUser) || capabilities != "" {
				t.Fatalf("the sidecar runs as %s with the capabilities %q", user, capabilities)
			}
			test.wire(s)
			console := filepath.Join(t.TempDir(), "console")
			// Before podnic is asked, the card is that of a machine with another address.
			xml, err := guest.Domain{
				Name: "default_vm-0", Image: image, KVM: daemon.KVM, Console: console, Interface: card("default", "tap0", "02:00:00:00:00:01"),
			}.XML()
			if err != nil {
				t.Fatal(err)
			}
			ours := vmi(nic{name: "default", binding: plugin})
			defined := launcher.define(xml, ours)
			for what, from := range map[string]string{"the same": xml, "its own result": defined} {
				if again := launcher.define(from, ours); again != defined {
					t.Errorf("asked again with %s, it answers\n%s\nand not\n%s", what, again, defined)
				}
			}
			if want := strings.Replace(xml, "02:00:00:00:00:01", mac, 1); canonical(t, defined) != canonical(t, want) {
				t.Errorf("the domain is defined as\n%s\nwant\n%s", defined, want)
			}

			follow := podtest.Console(t, console)
			s.start(daemon, defined)
			if r := sidecar.ready(pod.Interface); r.Interfaces[0].Binding != test.binding || r.Interfaces[0].MAC != mac {
				t.Errorf("status: %+v", r)
			}
			lease := guest.Fields(s.says(follow, "guest: lease"))
			for field, want := range map[string]string{
				"address": s.Pod.Address.Addr().String(), "mask": test.mask, "mtu": "1500", "hostname": "vm-0", "dns": "10.96.0.10",
				"serverid": "169.254.75.10",
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
			s.says(follow, "guest: ready")
			client := guest.Client{Address: s.Pod.Address.Addr(), Dial: other.DialContext}
			if _, err := client.Hello(t.Context()); err != nil {
				t.Errorf("from another pod: %v", err)
			}
			s.says(follow, "guest: renewed")

			sidecar.Signal(syscall.SIGKILL)
			<-sidecar.Done
			sidecar = s.sidecar("hook-sidecar-0", plugin, "--lease-time", leaseTime)
			if r := sidecar.ready(pod.Interface); r.Interfaces[0].Lease.State != "bound" {
				t.Errorf("the new sidecar does not know the lease: %+v", r)
			}
			s.saysAgain(follow, 1+strings.Count(follow.Text(), "guest: renewed"), "guest: renewed")
			if strings.Contains(follow.Text(), "guest: nak") || strings.Contains(follow.Text(), "guest: leasefail") {
				t.Error("the guest lost its lease")
			}
			if _, err := client.Hello(t.Context()); err != nil {
				t.Errorf("from another pod, after the lease was confirmed twice: %v", err)
			}

			if _, err := daemon.Virsh(t.Context(), "destroy", "default_vm-0"); err != nil {
				t.Fatal(err)
			}
			launcher.shutdown()
			sidecar.exits(0)
			s.without(wire, s.Pod.Address.Addr().String(), "bootp", "BOOTP", "169.254.75.10", ".67:", ".68:", ".67 >", ".68 >")
		})
	}
}

// prepare does what podnic's CNI plugin does for domainAttachmentType tap: the wiring is podnic's own.
func (s *site) prepare() {
	s.T.Helper()
	cmd := s.Pod.Command(s.T.Context(), podtest.Program(s.T), "prepare", "--socket", "udp", "--tap-owner", fmt.Sprint(launcherUser),
		"--tap-group", fmt.Sprint(launcherUser), "--state-dir", filepath.Join(s.T.TempDir(), "host"))
	if out, err := cmd.CombinedOutput(); err != nil {
		s.T.Fatalf("podnic prepare: %v: %s", err, out)
	}
}

// start defines and starts a domain.
func (s *site) start(daemon *libvirtd.Daemon, xml string) {
	s.T.Helper()
	file := filepath.Join(s.T.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		s.T.Fatal(err)
	}
	if _, err := daemon.Virsh(s.T.Context(), "create", file); err != nil {
		s.T.Fatal(err)
	}
}

// says waits for a line of a guest.
func (s *site) says(console *guest.Console, prefix string) string {
	s.T.Helper()
	return s.saysAgain(console, 1, prefix)
}

// saysAgain waits for the nth such line.
func (s *site) saysAgain(console *guest.Console, n int, prefix string) string {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), podtest.Patience)
	defer cancel()
	line, err := console.WaitTimes(ctx, prefix, n)
	if err != nil {
		s.T.Fatal(err)
	}
	return line
}
