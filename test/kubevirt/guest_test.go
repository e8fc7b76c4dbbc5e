package kubevirt

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
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
			network: pod.PTP.Dual(),
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
			unseen := []string{"bootp", "BOOTP", "169.254.75.10", ".67:", ".68:", ".67 >", ".68 >"}
			var programs []string
			if s.Pod.Address6.IsValid() { // else IPv6 passes, and what a guest asks the pod network for, too
				programs = append(programs, guest.DHCPv6Client)
				unseen = append(unseen, "dhcp6", "router advertisement", "fe80::706f:646e:6963:2")
			}
			image := podtest.Guest(t, programs...)
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
			if s.Pod.Address6.IsValid() {
				s.hasIPv6(guest.Fields(s.says(follow, "guest: lease6")))
			}
			s.says(follow, "guest: ready")
			client := guest.Client{Address: s.Pod.Address.Addr(), Dial: other.DialContext}
			if _, err := client.Hello(t.Context()); err != nil {
				t.Errorf("from another pod: %v", err)
			}
			if s.Pod.Address6.IsValid() {
				if _, err := (guest.Client{Address: s.Pod.Address6.Addr(), Dial: other.DialContext}).Hello(t.Context()); err != nil {
					t.Errorf("from another pod, by IPv6: %v", err)
				}
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
			s.without(wire, s.Pod.Address.Addr().String(), unseen...)
		})
	}
}

// nodesRouter is the link-local address of the node's end of the pod's link, or of the gateway beside the link that it stands on.
func (s *site) nodesRouter() string {
	s.T.Helper()
	return strings.TrimSpace(s.In(s.Node.Namespace, "ip -6 -o address show dev "+cmp.Or(s.Pod.HostLink, "gateway")+" scope link | sed 's/.* inet6 //; s/\\/.*//'"))
}

// hasIPv6 checks that the guest has taken the pod's IPv6 address, its router and its resolver.
func (s *site) hasIPv6(lease map[string]string) {
	s.T.Helper()
	for field, want := range map[string]string{
		"address": s.Pod.Address6.Addr().String(), "router": s.nodesRouter(), "dns": "fd00:10:96::a",
		"search": "sub.default.svc.cluster.local.,default.svc.cluster.local.,svc.cluster.local.,cluster.local.",
	} {
		if got := lease[field]; got != want {
			s.T.Errorf("the guest has %s %q, want %q", field, got, want)
		}
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

// TestIPv6AloneIsServed has a pod without IPv4 behind KubeVirt's wiring, and a real client behind its tap. The sidecar is
// killed, and what the guest sends and hears of the other side of the node does not need it. One that starts without the
// directory of the first knows the pod's address from the placeholder, and from the alias of its link that it is served.
func TestIPv6AloneIsServed(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.PTP.IPv6Only())
	other := podtest.Pod(t, s.Node, pod.Spec{Name: "other", Network: pod.PTP.IPv6Only()})
	s.attach(pod.Interface)
	sidecar := s.sidecar("hook-sidecar-0", plugin)
	launcher := s.launcher()
	launcher.collect(1)
	s.wire(pod.Interface)
	launcher.define(domainXML(card("default", "tap0", otherMAC)), vmi(nic{name: "default", binding: plugin}))
	sidecar.serving(pod.Interface)

	client := s.Guest()
	s.Plug(client)
	address := s.Pod.Address6.Addr().String()
	s.lease6(client)
	if routes := s.In(client, "ip -6 route show default"); !strings.Contains(routes, "via "+s.nodesRouter()+" dev eth0") {
		t.Errorf("the guest's default route is %q", routes)
	}
	r := sidecar.ready(pod.Interface).Interfaces[0]
	if r.Lease6.State != "bound" || r.Lease.State != "" && r.Lease.State != "none" || r.Offer6.Router != s.nodesRouter() {
		t.Errorf("status: %+v", r)
	}
	reaches := func() {
		t.Helper()
		s.In(client, "ping -6 -c 1 -W 90 "+other.Address6.Addr().String())
		podtest.In(t, other.Namespace, "ping -6 -c 1 -W 90 "+address)
	}
	reaches()
	sidecar.Signal(syscall.SIGKILL)
	<-sidecar.Done
	reaches()

	if err := os.RemoveAll(sidecar.part); err != nil {
		t.Fatal(err)
	}
	sidecar = s.sidecar("hook-sidecar-0", plugin)
	launcher.sidecars = nil
	launcher.collect(1)
	launcher.define(domainXML(card("default", "tap0", otherMAC)), vmi(nic{name: "default", binding: plugin}))
	lost := sidecar.serving(pod.Interface).Interfaces[0]
	if len(lost.Offer6.Addresses) != 1 || lost.Offer6.Addresses[0].Addr().String() != address || !strings.Contains(strings.Join(lost.Warnings, "\n"), "routes") {
		t.Errorf("without its directory: %+v", lost)
	}
	sidecar.Signal(syscall.SIGTERM)
	sidecar.exits(0)
}

// lease6 has dhclient take a lease of IPv6 in the guest, and configure it. The kernel takes the routes.
func (s *site) lease6(client *pod.Namespace) {
	s.T.Helper()
	dir := s.T.TempDir()
	script := filepath.Join(dir, "script")
	const text = "#!/bin/sh\n[ $reason != BOUND6 ] || ip -6 address replace $new_ip6_address/128 dev eth0\n"
	podtest.Executable(s.T, script, []byte(text))
	// The kernel gives a shell no notice of an address that may be used.
	usable := func(scope string) {
		s.T.Helper()
		s.In(client, "timeout 90 sh -c 'until ip -6 -o address show dev eth0 -tentative scope "+scope+" | grep -q inet6; do sleep 0.05; done'")
	}
	usable("link")
	p := podtest.Start(s.T, "dhclient", exec.Command("nsenter", "--net="+client.Path, "--", "dhclient", "-6", "-d", "-cf", "/dev/null",
		"-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), "-sf", script, "eth0"))
	usable("global")
	p.End(syscall.SIGTERM)
}
