package network

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/plan"
)

// TestWhatDHCPCannotSayIsSaid compares all warnings of a pod: before it is wired, and while it is.
func TestWhatDHCPCannotSayIsSaid(t *testing.T) {
	for name, test := range map[string]struct {
		shape    string // "bridge", unless it says otherwise
		options  plan.Options
		commands []string
		warnings []string
	}{
		"nothing": {},
		"a route that blocks": {commands: []string{"route add blackhole 169.254.169.254"}, warnings: []string{
			"routes of the pod that block (blackhole 169.254.169.254/32) are nothing that DHCP can say: the filter drops what the guest sends there",
		}},
		"routes that block, of several kinds": {commands: []string{
			"route add prohibit 198.51.100.0/24", "route add unreachable 203.0.113.0/24", "route add throw 192.168.0.0/16",
			"route add blackhole 172.16.0.0/12 table 100", "route add unreachable default metric 4278198272", "-6 route add blackhole fd00:ec2::254",
			"route add blackhole 203.0.113.7 tos 0x10",
		}, warnings: []string{
			"routes of the pod that block (throw 192.168.0.0/16, prohibit 198.51.100.0/24, unreachable 203.0.113.0/24, blackhole fd00:ec2::254/128 metric 1024) " +
				"are nothing that DHCP can say: the filter drops what the guest sends there",
			"routes of the pod that block (blackhole 172.16.0.0/12 table 100, blackhole 203.0.113.7/32) are nothing that DHCP can say: the guest is not held to them",
		}},
		"one that blocks, without IPv4": {shape: "ipv6 only", commands: []string{"-6 route add blackhole fd00:ec2::254"}, warnings: []string{
			"routes of the pod that block (blackhole fd00:ec2::254/128 metric 1024) are nothing that DHCP can say: the filter drops what the guest sends there",
		}},
		"one that blocks, without a server": {shape: "ipv6 only", options: plan.Options{IPv6: plan.IPv6Pass}, commands: []string{"-6 route add blackhole fd00:ec2::254"}, warnings: []string{
			"IPv6 is not served (fd00:10:244:1::5): IPv6 frames pass, and the guest may configure it itself",
			"eth0 has no IPv4 address: the guest gets layer 2 only, and no DHCP server",
			"routes of the pod that block (blackhole fd00:ec2::254/128 metric 1024) are nothing that DHCP can say: the guest is not held to them",
		}},
		"rules that block": {commands: []string{"rule add to 169.254.169.254 prohibit", "rule add from 10.244.1.6 lookup 100"}, warnings: []string{
			"policy routing rules of the pod (2) are not handed over: DHCP cannot express them",
			"some of these rules (1) block what they match: the guest is not held to them",
		}},
		"sizes of routes": {commands: []string{
			"route add 198.51.100.0/24 via 10.244.1.1 mtu 1300", "route add 203.0.113.0/24 via 10.244.1.1 mtu 1500 advmss 1200",
			"route change default via 10.244.1.1 mtu 1400 advmss 1000", "route add 192.168.0.0/16 via 10.244.1.1 mtu 1400",
		}, warnings: []string{
			"the route default via 10.244.1.1 has settings of its own (advmss 1000), which DHCP cannot express",
			"the route 198.51.100.0/24 via 10.244.1.1 has settings of its own (mtu 1300), which DHCP cannot express",
			"the route 203.0.113.0/24 via 10.244.1.1 has settings of its own (advmss 1200), which DHCP cannot express",
		}},
		"neighbours": {commands: []string{
			"neigh add 10.244.1.7 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent", // which the server answers for
			"neigh add fe80::1 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent",
			"neigh add proxy 10.244.1.78 dev eth0", "neigh add proxy 10.244.1.77 dev eth0", "-6 neigh add proxy 2001:db8::7 dev eth0",
		}, warnings: []string{
			"the pod answered for further addresses (proxy neighbours 10.244.1.77, 10.244.1.78, 2001:db8::7): the guest does not, unless it is configured to",
			"permanent IPv6 neighbours are not handed over (fe80::1 lladdr 0e:11:22:33:44:55): configure in the guest what it needs of them",
		}},
		"narrow scope": {shape: "addresses of narrow scope", warnings: []string{
			"169.254.7.5/16 is a further address of eth0: DHCP hands out 10.244.1.5 alone, which the pod sends from; configure it in the guest",
			"10.244.9.5/32 is a further address of eth0: DHCP hands out 10.244.1.5 alone, which the pod sends from; configure it in the guest",
			"the route 169.254.0.0/16 src 169.254.7.5 has a source address of its own, which DHCP cannot express",
		}},
		"halves": {shape: "default in two halves", warnings: []string{
			"the route default via 10.244.1.254 is not handed over: 0.0.0.0/1 and 128.0.0.0/1 go before it",
		}},
		"a large MTU": {shape: "mtu of 65535", warnings: []string{"eth0 has the MTU 65535, and a tap carries 65521 at most: the guest is told 65521"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shape := test.shape
			if shape == "" {
				shape = "bridge"
			}
			p := newTestPod(t, append(slices.Clone(shapes[shape]), test.commands...)...)
			p.settle()
			told := func(state *Inspection) []string {
				_, warnings := state.Identity()
				return slices.Sorted(slices.Values(warnings))
			}
			req := p.request()
			req.Options = test.options
			seen, err := Inspect(req)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(test.warnings)
			p.wire(test.options)
			wired, err := Inspect(p.request())
			if err != nil {
				t.Fatal(err)
			}
			for when, got := range map[string][]string{"before": told(seen), "wired": told(wired)} {
				if diff := cmp.Diff(test.warnings, got); diff != "" {
					t.Errorf("%s it is wired (-want +got):\n%s", when, diff)
				}
			}
		})
	}
}

// TestLinkThatIsDownIsSaid has no default route to find the interface by.
func TestLinkThatIsDownIsSaid(t *testing.T) {
	p := newTestPod(t, "addr add 10.244.1.5/24 dev eth0")
	_, warnings := p.prepare().Seen.Identity()
	want := []string{"eth0 was found down, and so without the routes that it may have when it is up: set it up before it is wired (ip link set eth0 up)"}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Error(diff)
	}
}

// TestDefaultInHalvesIsOne is what the guest is told of it.
func TestDefaultInHalvesIsOne(t *testing.T) {
	p := newTestPod(t, shapes["default in two halves"]...)
	id, _ := p.prepare().Seen.Identity()
	if id.V4.Gateway != gatewayIP || id.MTU != 1380 || len(id.V4.Routes) != 1 || id.V4.Routes[0].Destination.Bits() != 0 || id.V4.Routes[0].Gateway != gatewayIP {
		t.Errorf("gateway %s, MTU %d, routes %v", id.V4.Gateway, id.MTU, id.V4.Routes)
	}
}
