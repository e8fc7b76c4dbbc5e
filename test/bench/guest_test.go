package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// BenchmarkGuest boots a real guest (emulated where there is no KVM) and takes the time until it has its lease: by `podnic
// run`, and by a shell script with ip(8), dnsmasq and virsh, which keeps no record of what the pod's interface held.
func BenchmarkGuest(b *testing.B) {
	podtest.NeedRoot(b)
	guests(b, &host{image: podtest.Guest(b), network: plain, undo: undoByHand, says: "guest: lease "})
}

// BenchmarkGuest6 is the same for both families, until the guest has its lease of IPv6, by dhclient, and a router.
func BenchmarkGuest6(b *testing.B) {
	podtest.NeedRoot(b)
	network := pod.Plain
	network.Scripts.Node += "\nip address add fd00:10:244:1::1/64 dev $LINK nodad\necho 1 >/proc/sys/net/ipv6/conf/all/forwarding"
	network.Scripts.Pod += "\nip address add fd00:10:244:1::5/64 dev eth0 nodad\nip -6 route add default via fd00:10:244:1::1"
	guests(b, &host{
		image: podtest.Guest(b, guest.DHCPv6Client), network: network, says: "guest: lease6 ",
		wire: "ip address add fd00:10:244:1::fe/64 dev br0 nodad\nip address add fe80::1/64 dev br0 nodad\n",
		undo: undoByHand + "ip address add fd00:10:244:1::5/64 dev eth0 nodad\nip -6 route add default via fd00:10:244:1::1\n",
		more: []string{
			"--enable-ra", "--quiet-ra", "--quiet-dhcp6", "--dhcp-range=fd00:10:244:1::,static,64,infinite",
			"--dhcp-host=0a:58:0a:f4:01:05,[fd00:10:244:1::5]", "--dhcp-option=option6:dns-server,[fd00:10:96::a]",
		},
	})
}

func guests(b *testing.B, s *host) {
	b.Helper()
	podnic := podtest.Program(b)
	b.Run("podnic", func(b *testing.B) {
		s.start(b)
		dir := memoryDir(b)
		file := s.domain(b, "")
		s.lease(b, func(b *testing.B) (end func()) {
			cmd := s.pod.Command(context.Background(), podnic, "run", "--connect", s.libvirtd.URI, "--state-dir", dir,
				"--domain", file, "--grace", "0s", "--log-level", "error")
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			return func() {
				_ = cmd.Process.Signal(syscall.SIGTERM) // destroyed at once, which is exit status 7
				_ = cmd.Wait()
			}
		})
	})
	b.Run("script", func(b *testing.B) {
		need(b, "dnsmasq")
		s.start(b)
		dir := memoryDir(b)
		wiring, undo := filepath.Join(dir, "wire"), filepath.Join(dir, "undo")
		for path, text := range map[string]string{wiring: strings.Replace(wireByHand, "1200", fmt.Sprint(cmp.Or(s.network.MTU, 1500)), 1) + s.wire, undo: s.undo} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		file := s.domain(b, `<interface type='ethernet'><mac address='0a:58:0a:f4:01:05'/><target dev='tap0' managed='no'/>`+
			`<model type='virtio'/></interface>`)
		s.lease(b, func(b *testing.B) (end func()) {
			run(b, s.pod, "sh", wiring)
			pid := dnsmasqIn(b, s.pod, "br0", "0a:58:0a:f4:01:05", "10.244.1.5", "255.255.255.0", "10.244.1.1", dir, s.more...)
			run(b, s.pod, "virsh", "--quiet", "--connect", s.libvirtd.URI, "create", file)
			return func() {
				run(b, s.pod, "virsh", "--quiet", "--connect", s.libvirtd.URI, "destroy", "vm")
				endAll(b, pid)
				run(b, s.pod, "sh", undo)
			}
		})
	})
}

// wireByHand is what KubeVirt's first bridge binding did (virtwrap/network, version 0.4.1), in commands of ip(8).
const wireByHand = `set -e
ip address flush dev eth0
ip link set eth0 down
ip link set eth0 address 0a:58:0a:f4:01:fe
ip link add br0 type bridge
ip address add 169.254.75.10/32 dev br0
ip address add 10.244.1.254/24 dev br0
ip link set br0 up
ip link set eth0 master br0 up
ip tuntap add tap0 mode tap vnet_hdr
ip link set tap0 mtu 1200 master br0 up
`

const undoByHand = `set -e
ip link delete tap0
ip link delete br0
ip link set eth0 down
ip link set eth0 address 0a:58:0a:f4:01:05
ip address add 10.244.1.5/24 brd + dev eth0
ip link set eth0 up
ip route add default via 10.244.1.1
`

// host is a pod with libvirt in it.
type host struct {
	image   *guest.Image
	network pod.Network
	// wire and undo are what the script does besides wireByHand, and takes back; more are arguments of dnsmasq's.
	wire, undo string
	more       []string
	// says begins the line by which the guest tells that it has its lease.
	says string

	pod      *pod.Pod
	libvirtd *libvirtd.Daemon
	console  string
}

// start makes a pod with libvirtd in it.
func (s *host) start(b *testing.B) {
	s.pod = podtest.Pod(b, podtest.Node(b), pod.Spec{Name: "vm", Network: s.network})
	s.libvirtd = podtest.Libvirtd(b, s.pod)
}

func (s *host) domain(b *testing.B, nic string) string {
	b.Helper()
	dir := b.TempDir()
	s.console = filepath.Join(dir, "console")
	xml, err := guest.Domain{Name: "vm", Image: s.image, KVM: s.libvirtd.KVM, Console: s.console, Interface: nic}.XML()
	file := filepath.Join(dir, "domain.xml")
	if err == nil {
		err = os.WriteFile(file, []byte(xml), 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	return file
}

// lease starts the guest as often as the benchmark wants.
func (s *host) lease(b *testing.B, start func(*testing.B) (end func())) {
	b.Helper()
	var times []time.Duration
	for b.Loop() {
		if err := os.Remove(s.console); err != nil && !os.IsNotExist(err) {
			b.Fatal(err)
		}
		console, err := guest.Follow(s.console)
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		began := time.Now()
		end := start(b)
		line, err := console.Wait(ctx, s.says)
		times = append(times, time.Since(began))
		cancel()
		end()
		console.Close()
		if err != nil {
			b.Fatal(err)
		}
		if fields := guest.Fields(line); fields["address"] != "10.244.1.5" && (fields["address"] != "fd00:10:244:1::5" || fields["router"] == "") {
			b.Fatalf("the guest has another lease: %s", line)
		}
	}
	median(b, times)
}
