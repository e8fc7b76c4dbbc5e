package libvirtd_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/internal/process"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// guestTime bounds what an emulated guest may take for anything on a machine that is busy with other tests.
const guestTime = 90 * time.Second

// wire makes a bridge with a tap in the pod. It stands apart from the pod's own interface, so nothing of podnic is needed.
const wire = `
ip link add br0 type bridge
ip address add 203.0.113.1/24 dev br0
ip tuntap add tap0 mode tap vnet_hdr
ip link set tap0 master br0 up
ip link set br0 up
`

// leases has busybox's server hand out one address, the way podnic does in a ptp pod.
const leases = `start 203.0.113.9
end 203.0.113.9
interface br0
lease_file %[1]s/leases
pidfile %[1]s/pid
option subnet 255.255.255.255
option staticroutes 203.0.113.1/32 0.0.0.0, 0.0.0.0/0 203.0.113.1
option router 203.0.113.254
option dns 10.96.0.10 10.96.0.11
option search svc.cluster.local cluster.local
option domain cluster.local
option hostname vm-0
option mtu 1400
`

const tapInterface = `<interface type='ethernet'>
      <mac address='02:00:00:00:00:09'/>
      <target dev='tap0' managed='no'/>
      <model type='virtio'/>
    </interface>`

func TestGuestLeasesServesAndObeysThePowerButton(t *testing.T) {
	podtest.NeedRoot(t)
	ctx := t.Context()
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: pod.PTP})
	run(t, p, wire)
	serve(t, p)
	began := time.Now()
	daemon := podtest.Libvirtd(t, p)
	t.Logf("libvirtd: %v", time.Since(began))

	began = time.Now()
	console := start(t, daemon, p, guest.Domain{Name: "vm", Interface: tapInterface})
	lease := podtest.Wait(t, console, "guest: lease")
	t.Logf("lease: %v", time.Since(began))
	want := map[string]string{
		"address": "203.0.113.9", "mask": "32", "routes": "203.0.113.1/32,0.0.0.0,0.0.0.0/0,203.0.113.1",
		"router": "203.0.113.254", "mtu": "1400", "hostname": "vm-0", "dns": "10.96.0.10,10.96.0.11",
		"search": "svc.cluster.local,cluster.local", "domain": "cluster.local", "ntp": "", "serverid": "203.0.113.1",
		"lease": "864000", "interface": "eth0",
	}
	if diff := cmp.Diff(want, guest.Fields(lease)); diff != "" {
		t.Errorf("lease (-want +got):\n%s", diff)
	}
	podtest.Wait(t, console, "guest: gateway 203.0.113.1 answers")
	podtest.Wait(t, console, "guest: ready")

	client := guest.Client{Address: netip.MustParseAddr("203.0.113.9"), Dial: p.DialContext}
	if hello, err := client.Hello(ctx); err != nil || hello != "hello from the guest\n" {
		t.Errorf("hello: %q, %v", hello, err)
	}
	got, err := client.Run(ctx, "ip route; hostname; cat /sys/class/net/eth0/mtu /etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	wantRun := `default via 203.0.113.1 dev eth0 
203.0.113.1 dev eth0 scope link 
vm-0
1400
search svc.cluster.local cluster.local
nameserver 10.96.0.10
nameserver 10.96.0.11
`
	if diff := cmp.Diff(wantRun, got); diff != "" {
		t.Errorf("in the guest (-want +got):\n%s", diff)
	}
	if _, err := client.Run(ctx, "ls /nowhere"); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("a script that fails: %v", err)
	}

	virsh(t, daemon, "shutdown", "vm", "--mode", "acpi")
	podtest.Wait(t, console, "guest: power button")
	podtest.Wait(t, console, "guest: bye")
	gone(t, daemon)
}

func TestGuestOutlivesTheDaemon(t *testing.T) {
	podtest.NeedRoot(t)
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: pod.PTP})
	run(t, p, wire)
	daemon := podtest.Libvirtd(t, p)
	console := start(t, daemon, p, guest.Domain{
		Name: "vm", Interface: tapInterface, Arguments: []string{"podnic.static=203.0.113.9/32,203.0.113.1"},
	})
	before, err := daemon.QEMU()
	if err != nil || len(before) != 1 {
		t.Fatalf("guests %v, %v; want one", before, err)
	}
	if err := daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	podtest.Wait(t, console, "guest: ready")
	if err := daemon.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := virsh(t, daemon, "domstate", "vm"); got != "running" {
		t.Errorf("the guest is %s", got)
	}
	after, err := daemon.QEMU()
	if err != nil || !cmp.Equal(before, after) {
		t.Errorf("guests %v, %v; want %v", after, err, before)
	}
}

func TestDaemonHasNoNetworkOfItsOwn(t *testing.T) {
	podtest.NeedRoot(t)
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: pod.PTP})
	before := podtest.State(t, p.Namespace)
	daemon := podtest.Libvirtd(t, p)
	virsh(t, daemon, "list", "--all")
	if networks, err := daemon.Virsh(t.Context(), "net-list", "--all"); err == nil && networks != "" {
		t.Errorf("networks: %s", networks)
	}
	if diff := before.Diff(podtest.State(t, p.Namespace)); diff != "" {
		t.Errorf("libvirtd changed the pod's network:\n%s", diff)
	}
	inside, err := daemon.Command(t.Context(), "virsh", "--quiet", "--connect", "qemu:///system?socket="+daemon.Socket, "list").CombinedOutput()
	if err != nil {
		t.Errorf("from the daemon's namespaces: %v: %s", err, inside)
	}
}

// gone waits for the guest's QEMU to end.
func gone(t *testing.T, daemon *libvirtd.Daemon) {
	t.Helper()
	ids, err := daemon.QEMU()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), guestTime)
	defer cancel()
	for _, id := range ids {
		if err := process.Wait(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
}

// start boots a guest in the daemon and follows its console.
func start(t *testing.T, daemon *libvirtd.Daemon, p *pod.Pod, domain guest.Domain) *guest.Console {
	t.Helper()
	domain.Image = podtest.Guest(t)
	domain.KVM = daemon.KVM
	domain.Console = filepath.Join(p.Dir, domain.Name+".console")
	console := podtest.Console(t, domain.Console)
	xml, err := domain.XML()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.Dir, domain.Name+".xml")
	if err := os.WriteFile(file, []byte(xml), 0o644); err != nil {
		t.Fatal(err)
	}
	virsh(t, daemon, "create", file)
	return console
}

// serve runs busybox's DHCP server on the bridge until the test ends.
func serve(t *testing.T, p *pod.Pod) {
	t.Helper()
	config := filepath.Join(p.Dir, "udhcpd.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, leases, p.Dir), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Dir, "leases"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	server := p.Command(t.Context(), "busybox", "udhcpd", "-f", config)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Wait() }) // killed with the test's context
}

func run(t *testing.T, p *pod.Pod, script string) {
	t.Helper()
	if _, err := p.Output(t.Context(), "sh", "-ec", script); err != nil {
		t.Fatal(err)
	}
}

func virsh(t *testing.T, daemon *libvirtd.Daemon, args ...string) string {
	t.Helper()
	out, err := daemon.Virsh(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
