package serve

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// shape6 is a pod network with IPv6, and who the router of its guest is.
type shape6 struct {
	shape
	// router is the guest's next hop; "" is the link-local address of the node's link.
	router string
	// outlives: the guest's IPv6 does not need podnic.
	outlives bool
	// ways are bindings and modes.
	ways [][2]string
}

// ways6 are those of a network that is made by hand.
var ways6 = [][2]string{{"bridge", "packet"}, {"bridge", "udp"}, {"redirect", "udp"}}

// beyond is an address on the other side of the node.
const beyond = "2001:db8:99::1"

const setUp6 = `
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip link add far type bridge
ip link set far up
ip address add ` + beyond + `/64 dev far nodad`

var shapes6 = []shape6{
	{
		shape: shape{name: "ptp", setUp: setUp6, network: byHand6(`
ip address add fd00:10:244:1::1/128 dev $LINK nodad
ip link set $LINK up
ip -6 route add fd00:10:244:1::5 dev $LINK`, `
ip address add fd00:10:244:1::5/128 dev eth0 nodad
ip link set eth0 up
ip -6 route add fd00:10:244:1::1 dev eth0
ip -6 route add fd00:10:244:1::/64 via fd00:10:244:1::1
ip -6 route add default via fd00:10:244:1::1`)},
		outlives: true, ways: ways6,
	},
	{
		// Chained, podnic wires for a server without any capability unless it is told otherwise.
		shape:    shape{name: "the ptp plugin", setUp: setUp6, network: pod.PTP.Dual().WithMTU(mtu)},
		outlives: true, ways: [][2]string{{"bridge", chained}, {"redirect", chained}},
	},
	{
		shape: shape{name: "calico", setUp: setUp6, network: byHand6(`
ip link set $LINK up
ip address add fe80::ecee:eeff:feee:eeee/64 dev $LINK nodad
ip -6 route add fd00:10:244:1::5 dev $LINK`, `
ip address add fd00:10:244:1::5/128 dev eth0 nodad
ip link set eth0 up
ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0`)},
		router: "fe80::ecee:eeff:feee:eeee", outlives: true, ways: ways6[:1],
	},
	{
		// Cilium answers for the gateway's global address alone.
		shape: shape{name: "cilium", setUp: setUp6, network: byHand6(`
ip link set $LINK up
nft add table inet mute
nft 'add chain inet mute in { type filter hook input priority 0; }'
nft add rule inet mute in iifname $LINK icmpv6 type nd-neighbor-solicit @th,64,16 0xfe80 drop
nft add rule inet mute in iifname $LINK ip6 daddr ff02::/16 icmpv6 type echo-request drop
ip address add fd00:10:244:1::1/128 dev $LINK nodad
ip -6 route add fd00:10:244:1::5 dev $LINK`, `
ip address add fd00:10:244:1::5/128 dev eth0 nodad
ip link set eth0 up
ip -6 route add fd00:10:244:1::1 dev eth0
ip -6 route add default via fd00:10:244:1::1`)},
		router: "fe80::706f:646e:6963:1", ways: ways6,
	},
}

// byHand6 is a network of IPv6 alone, made by scripts on the node and in the pod.
func byHand6(node, inside string) pod.Network {
	return pod.Network{MTU: mtu, Scripts: pod.Scripts{Address: netip.MustParseAddr("10.244.1.5"), Node: node, Pod: inside}}
}

// lease6 has dhclient take a lease of IPv6 in the guest, and configure it. The kernel takes the routes.
func (s *site) lease6(guest *pod.Namespace) {
	s.T.Helper()
	s.In(guest, "ip link set eth0 up\n"+usable("scope link"))
	dir := s.T.TempDir()
	script := filepath.Join(dir, "script")
	const text = "#!/bin/sh\n[ $reason != BOUND6 ] || ip -6 address replace $new_ip6_address/128 dev eth0\n"
	podtest.Executable(s.T, script, []byte(text))
	client := podtest.Start(s.T, "dhclient", exec.Command("nsenter", "--net="+guest.Path, "--", "dhclient", "-6", "-d", "-cf", "/dev/null",
		"-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), "-sf", script, "eth0"))
	s.In(guest, usable("scope global"))
	client.End(syscall.SIGTERM)
}

// usable waits until eth0 has an address of a kind, and duplicate address detection is over. The kernel gives no notice to a
// shell.
func usable(kind string) string {
	return "timeout 90 sh -c 'until ip -6 -o address show dev eth0 -tentative " + kind + " | grep -q inet6; do sleep 0.05; done'"
}

// TestGuestHasThePodsIPv6 takes a real client through a lease of the built program, reaches the other side of the node from
// its address and back, and kills podnic: where the pod network has a router with a link-local address, the guest does not
// notice.
func TestGuestHasThePodsIPv6(t *testing.T) {
	for _, shape := range shapes6 {
		for _, way := range shape.ways {
			t.Run(shape.name+", "+way[0]+", "+way[1], func(t *testing.T) {
				t.Parallel()
				s := newBoundSite(t, way[0], way[1], shape.shape)
				s.hasThePodsIPv6(shape)
			})
		}
	}
}

// TestGatewayThatMovesIsNoticed has the node's end of the pod's link get another MAC, or another link-local address, while
// the guest runs: what the guest sends arrives again, by a router that is there.
func TestGatewayThatMovesIsNoticed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		shape  shape6
		moves  string
		router string // the guest's then
	}{
		{"another link-local address", shapes6[0], "ip address flush dev $LINK scope link; ip address add fe80::77/64 dev $LINK nodad", "fe80::77"},
		{"another MAC, and podnic stands in for it", shapes6[3], "ip link set $LINK address 0e:11:22:33:44:77", "fe80::706f:646e:6963:1"},
	} {
		for _, way := range [][2]string{{"bridge", "packet"}, {"redirect", "packet"}, {"bridge", "udp"}, {"redirect", "udp"}} {
			t.Run(tt.name+", "+way[0]+", "+way[1], func(t *testing.T) {
				t.Parallel()
				s := newBoundSite(t, way[0], way[1], tt.shape.shape)
				s.serve()
				guest := s.Guest()
				s.Plug(guest)
				s.lease6(guest)
				// The guest finds out within seconds what takes it a minute otherwise.
				s.In(guest, "echo 500 >/proc/sys/net/ipv6/neigh/eth0/base_reachable_time_ms; echo 1 >/proc/sys/net/ipv6/neigh/eth0/delay_first_probe_time")
				s.In(guest, "ping -6 -c 1 -W 90 "+beyond)
				before := s.Ready().Interfaces[0].Offer6.Router
				podtest.In(t, s.Node.Namespace, strings.ReplaceAll(tt.moves, "$LINK", s.Pod.HostLink))
				// Until it sends, it misses nothing.
				s.In(guest, "timeout 90 sh -c 'until ping -6 -c 1 -W 1 "+beyond+" && ip -6 route show default | grep -q \"via "+tt.router+" \"; do sleep 0.1; done'")
				routes := s.In(guest, "ip -6 route show default")
				if !strings.Contains(routes, "via "+tt.router+" dev eth0") {
					t.Errorf("the default route is %s, not by %s", routes, tt.router)
				}
				if after := s.Ready().Interfaces[0].Offer6.Router; after != tt.router || before != tt.router && strings.Contains(routes, before) {
					t.Errorf("the router was %s and is %s: %s", before, after, routes)
				}
			})
		}
	}
}

func (s *site) hasThePodsIPv6(shape shape6) {
	t := s.T
	server := s.serve()
	guest := s.Guest()
	s.Plug(guest)
	s.lease6(guest)
	want := shape.router
	if want == "" {
		want = strings.TrimSpace(podtest.In(t, s.Node.Namespace, "ip -6 -o address show dev "+s.Pod.HostLink+" scope link | sed 's/.* inet6 //; s/\\/.*//'"))
	}
	if routes := s.In(guest, "ip -6 route show default"); !strings.Contains(routes, "via "+want+" dev eth0") {
		t.Errorf("the default route is %s, not by %s", routes, want)
	}
	r := s.Ready().Interfaces[0]
	if r.Lease6.State != "bound" || len(r.Offer6.Addresses) != 1 || r.Offer6.Router != want {
		t.Errorf("lease %+v, offer %+v", r.Lease6, r.Offer6)
	}
	if depends := strings.Contains(strings.Join(r.Warnings, "\n"), "podnic answers for it"); depends == shape.outlives {
		t.Errorf("warnings %q", r.Warnings)
	}
	address := r.Offer6.Addresses[0].Addr().String()
	s.In(guest, "ping -6 -c 1 -W 90 -I "+address+" "+beyond)
	podtest.In(t, s.Node.Namespace, "ping -6 -c 1 -W 90 "+address)

	// So that the guest asks for its router all the time, as it would within minutes.
	s.In(guest, "echo 500 >/proc/sys/net/ipv6/neigh/eth0/base_reachable_time_ms; echo 1 >/proc/sys/net/ipv6/neigh/eth0/delay_first_probe_time")
	server.End(syscall.SIGKILL)
	if !shape.outlives { // else the rest would pass whoever answers
		s.In(guest, "timeout 90 sh -c 'while ping -6 -c 1 -W 1 "+beyond+"; do sleep 0.2; done'")
		return
	}
	// 600 datagrams at 40 a second.
	if out := s.In(guest, "ping -6 -q -c 600 -i 0.025 -W 90 "+beyond); !strings.Contains(out, "600 received") {
		t.Errorf("with podnic gone:\n%s", out)
	}
}
