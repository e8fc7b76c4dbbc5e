package network

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// nothingNext is the protocol number of an IPv6 packet without content (RFC 8200, 4.7).
const nothingNext = 59

// TestGuestIsHeldToTheRoutesThatBlock asks the kernel of the pod where it would not send, and has the guest try.
func TestGuestIsHeldToTheRoutesThatBlock(t *testing.T) {
	destinations := []string{
		"203.0.113.7", "10.244.1.9", "169.254.169.254", "169.254.169.253", "10.7.7.7", "10.96.0.10", "10.97.0.1", "172.20.1.1",
		"192.168.1.1", "198.51.100.7", "2001:db8::9", "2001:db8:f::9", "fd00:ec2::254", "fd00:ec2::253",
	}
	for name, commands := range map[string][]string{
		"as they are": nil,
		// What blocks is in force where no route of a lower metric leads to the same destination.
		"none leads elsewhere": {"route del default", "-6 route del default"},
		"a default in halves":  {"route del default", "route add 0.0.0.0/1 via 10.244.1.1", "route add 128.0.0.0/1 via 10.244.1.1"},
		"by metric": {
			"route add 172.16.0.0/12 via 10.244.1.1 metric 8", "route add 10.0.0.0/8 via 10.244.1.1 metric 9",
			"route add 192.168.0.0/17 via 10.244.1.1", "route add prohibit 192.168.1.0/24", "route add 192.168.1.0/24 via 10.244.1.1 metric 4",
		},
		"a throw with rules behind it": {"rule add lookup 200 priority 40000", "route add default via 10.244.1.1 table 200"},
	} {
		for by, o := range map[string]plan.Options{
			"bridge": {Binding: plan.BindingBridge}, "redirect": {Binding: plan.BindingRedirect}, "redirect by tc": byTC,
		} {
			t.Run(by+", "+name, func(t *testing.T) {
				t.Parallel()
				p := newTestPod(t, append(slices.Clone(shapes["routes that block"]), commands...)...)
				p.settle()
				leads := make(map[string]bool)
				for _, d := range destinations {
					_, err := p.run(p.pod, "ip", "route", "get", d)
					leads[d] = err == nil
				}
				o.Interface = "eth0"
				p.wire(o)
				guest, node := p.ends()
				for _, d := range destinations {
					to := netip.MustParseAddr(d)
					kind, packet := unix.ETH_P_IP, ipv4(unix.IPPROTO_TCP, podIP, to.Unmap(), 1000, 80)
					if to.Is6() {
						kind, packet = unix.ETH_P_IPV6, ipv6Packet(nothingNext, netip.MustParseAddr("2001:db8::5"), to, nil)
					}
					for _, tags := range [][][2]int{nil, {{unix.ETH_P_8021Q, 0xe000}}, {{unix.ETH_P_8021Q, 0}, {unix.ETH_P_8021AD, 0}}} {
						if got := crosses(t, guest, node, ethernet(nodeMAC, podMAC, kind, packet, tags...)); got != leads[d] {
							t.Errorf("%s, tags %v: the pod has a way: %v; the guest's frame crosses: %v", d, tags, leads[d], got)
						}
					}
					if to.Is4() && !crosses(t, node, guest, ethernet(podMAC, nodeMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_TCP, to, podIP, 80, 1000))) {
						t.Errorf("what %s sends does not reach the guest", d)
					}
				}
				// Whatever the pod's routes say, these need none.
				for _, d := range []string{"224.0.0.251", "255.255.255.255"} {
					if !crosses(t, guest, node, ethernet(broadcast, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, podIP, netip.MustParseAddr(d), 5353, 5353))) {
						t.Errorf("%s does not cross", d)
					}
				}
				discovery := ipv6Packet(nothingNext, netip.MustParseAddr("fe80::5"), netip.MustParseAddr("ff02::1"), nil)
				if !crosses(t, guest, node, ethernet(broadcast, podMAC, unix.ETH_P_IPV6, discovery)) {
					t.Error("neighbour discovery does not cross")
				}
			})
		}
	}
}
