package network

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/network/plan"
)

// shapes are pod networks as their plugins leave a pod's interface.
var shapes = map[string][]string{
	"bridge": {
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"route add default via 10.244.1.1",
	},
	"ptp": {
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"route del 10.244.1.0/24",
		"route add 10.244.1.1 dev eth0 scope link src 10.244.1.5",
		"route add 10.244.1.0/24 via 10.244.1.1 src 10.244.1.5",
		"route add default via 10.244.1.1",
	},
	"calico": {
		"addr add 10.244.1.5/32 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"route add 169.254.1.1 dev eth0 scope link",
		"route add default via 169.254.1.1",
	},
	"aws": {
		"addr add 10.244.1.5/32 dev eth0",
		"link set eth0 up mtu 9001", "node:link set host0 up",
		"route add 169.254.1.1 dev eth0 scope link",
		"route add default via 169.254.1.1",
		"neigh add 169.254.1.1 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent",
	},
	"cilium": {
		"addr add 10.244.1.5/32 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"route add 10.244.1.200 dev eth0 scope link",
		"route add default via 10.244.1.200 mtu 1450",
	},
	"ovn": {
		"link set eth0 mtu 1400", "node:link set host0 mtu 1400",
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"route add 10.244.0.0/16 via 10.244.1.1",
		"route add 10.96.0.0/16 via 10.244.1.1",
		"route add 100.64.0.0/16 via 10.244.1.1",
		"route add default via 10.244.1.1",
	},
	"dual stack": {
		"node:-6 addr add fd00:10:244:1::1/64 dev host0 nodad", "node:-6 addr add fe80::1/64 dev host0 nodad", "node:-6 addr add fe80::2/64 dev host0 nodad",
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"addr add fd00:10:244:1::5/64 dev eth0 nodad",
		"addr add 2001:db8::5/128 dev eth0 nodad noprefixroute",
		"link set eth0 up", "node:link set host0 up",
		"addr add fd00:10:244:2::7/64 dev eth0",
		"addr add fd00:10:244:2::6/64 dev eth0 metric 77",
		"route add default via 10.244.1.1",
		"-6 route add default via fd00:10:244:1::1 dev eth0 metric 1024",
		"-6 route add 2001:db8:1::/48 via fe80::1 dev eth0 pref high",
		"-6 route add 2001:db8:2::/48 src fd00:10:244:1::5 via fe80::1 dev eth0",
		"-6 route add 2001:db8:3::/48 nexthop via fe80::1 dev eth0 weight 2 nexthop via fe80::2 dev eth0",
	},
	"ipv6 only": {
		"link set eth0 up", "node:link set host0 up", "node:-6 addr add fd00:10:244:1::1/64 dev host0 nodad",
		"addr add fd00:10:244:1::5/64 dev eth0",
		"-6 route add default via fd00:10:244:1::1 dev eth0",
	},
	// A static address, and what router advertisements or DHCP have added to its prefix.
	"ipv6, a prefix of several addresses": {
		"node:-6 addr add 2001:db8::1/64 dev host0 nodad",
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"addr add 2001:db8::5/64 dev eth0 nodad",
		"link set eth0 up", "node:link set host0 up",
		"addr add 2001:db8::77/64 dev eth0 nodad valid_lft 86400 preferred_lft 14400",
		"addr add 2001:db8:1::77/64 dev eth0 nodad valid_lft 86400 preferred_lft 14400",
		"addr add 2001:db8:1::5/64 dev eth0 nodad",
		"addr add 2001:db8:2::77/64 dev eth0 nodad valid_lft 7200 preferred_lft 3600",
		"addr add 2001:db8:2::78/64 dev eth0 nodad valid_lft 86400 preferred_lft 14400",
		"-6 route add default via 2001:db8::1",
		"-6 route add 2001:db8:a::/48 via 2001:db8:1::1",
		"-6 route add 2001:db8:b::/48 via 2001:db8:2::1",
		"node:-6 addr add 2001:db8:1::1/64 dev host0 nodad", "node:-6 addr add 2001:db8:2::1/64 dev host0 nodad",
	},
	"no address": {
		"link set eth0 up", "node:link set host0 up",
	},
	"no default route": {
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"link set eth0 up", "node:link set host0 up",
	},
	"mtu below IPv6's": {
		"link set eth0 mtu 1200", "node:link set host0 mtu 1200",
		"addr add 10.244.1.5/24 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"route add default via 10.244.1.1",
	},
	"a route of two links": {
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"link add net1 mtu 1200 type veth peer name net1p mtu 1200", // and so without IPv6
		"addr add 10.245.0.5/24 dev net1", "link set net1 up", "link set net1p up",
		"route add default via 10.244.1.1",
		"route add 198.51.100.0/24 nexthop via 10.244.1.1 dev eth0 weight 2 nexthop via 10.245.0.1 dev net1",
	},
	// A sidecar's or zeroconf's address, which the kernel lists before the pod's own.
	"addresses of narrow scope": {
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"addr add 169.254.7.5/16 dev eth0 scope link",
		"addr add 10.244.9.5/32 dev eth0 scope host",
		"route add default via 10.244.1.1",
	},
	// As VPN clients do.
	"default in two halves": {
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"route add default via 10.244.1.254",
		"route add 0.0.0.0/1 via 10.244.1.1 mtu 1400", "route add 128.0.0.0/1 via 10.244.1.1 mtu 1380",
	},
	// Docker Desktop, colima.
	"mtu of 65535": {
		"link set eth0 mtu 65535", "node:link set host0 mtu 65535",
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"route add default via 10.244.1.1",
	},
	"routes that block": {
		"node:-6 addr add 2001:db8::1/64 dev host0 nodad",
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"addr add 2001:db8::5/64 dev eth0 nodad",
		"link set eth0 up", "node:link set host0 up",
		"route add default via 10.244.1.1",
		"route add blackhole 169.254.169.254",
		"route add prohibit 10.0.0.0/8", "route add 10.96.0.0/16 via 10.244.1.1",
		"route add unreachable 172.16.0.0/12 metric 7", "route add throw 192.168.0.0/16",
		"route add unreachable default metric 4278198272",
		"route add blackhole 198.51.100.0/24 table 100",
		"-6 route add default via 2001:db8::1",
		"-6 route add blackhole fd00:ec2::254",
		"-6 route add unreachable default metric 4278198272",
	},
	"addresses of every kind": {
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"addr add 10.244.2.5/24 dev eth0 noprefixroute nodad",
		"addr add 10.244.3.5/24 brd + dev eth0 metric 300",
		"addr add 10.244.4.4/31 dev eth0",
		"link set eth0 up", "node:link set host0 up",
		"addr add 10.244.6.5/24 dev eth0 valid_lft forever preferred_lft 0",
		"addr add 2001:db8:1::5/64 dev eth0 nodad home",
		"addr add 2001:db8:2::5/64 dev eth0 nodad mngtmpaddr",
		"addr add 2001:db8:3::5/64 dev eth0 nodad noprefixroute",
		"addr add 2001:db8:4::5/64 dev eth0 nodad metric 300",
		"addr add 2001:db8:6::5/64 dev eth0 nodad valid_lft forever preferred_lft 0",
		"addr add 239.1.1.1/32 dev eth0 autojoin", "addr add ff05::99/128 dev eth0 autojoin",
		"addr add fe80::1234/64 dev eth0 nodad",
		"route add default via 10.244.1.1",
	},
	"routes of every kind": {
		"node:-6 addr add 2001:db8::1/64 dev host0 nodad",
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"addr add 2001:db8::5/64 dev eth0 nodad",
		"link set eth0 up", "node:link set host0 up",
		"route add default via 10.244.1.1 realms 3/7 proto 77",
		"route add 198.51.100.0/24 nexthop via 10.244.1.1 realms 5 weight 3 nexthop via 10.244.1.2 dev eth0 onlink",
		"route add 203.0.113.0/26 via 10.244.1.1 congctl cubic quickack 1 initcwnd 20 initrwnd 30 window 4096",
		"route add 203.0.113.64/26 via 10.244.1.1 hoplimit 9 rto_min 250 features ecn reordering 5 fastopen_no_cookie 1",
		"route add 203.0.113.128/26 dev eth0 scope 200 mtu lock 1300 rtt 100 rttvar 50 ssthresh 8 cwnd lock 5",
		"route add 203.0.113.192/26 via 10.244.1.1 congctl lock cubic",
		"route add broadcast 203.0.113.255 dev eth0", "route add anycast 203.0.113.200 dev eth0",
		"-6 route add default via 2001:db8::1 pref low mtu 1400 hoplimit 9 congctl cubic proto ra",
		"-6 route add 2001:db8:1::/48 via 2001:db8:ffff::1 dev eth0 onlink initcwnd 20 advmss 1200",
		"-6 route add 2001:db8:2::/48 via 2001:db8::1 expires 3000 metric 77 mtu lock 1300",
		"-6 route add 2001:db8:3::/48 from 2001:db8:4::/48 via 2001:db8::1",
		"-6 route add anycast 2001:db8::99 dev eth0",
		"-6 route add multicast ff05::/16 dev eth0 table 100",
	},
	"neighbours of every kind": {
		"node:-6 addr add 2001:db8::1/64 dev host0 nodad",
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"addr add 2001:db8::5/64 dev eth0 nodad",
		"link set eth0 up", "node:link set host0 up",
		"route add default via 10.244.1.1",
		"neigh add 10.244.1.1 lladdr 0e:11:22:33:44:01 dev eth0 nud permanent extern_learn",
		"neigh add 10.244.1.2 lladdr 0e:11:22:33:44:02 dev eth0 nud stale extern_learn",
		"neigh add 10.244.1.3 dev eth0 managed",
		"neigh add 10.244.1.4 dev eth0 managed extern_learn",
		"neigh add 10.244.1.6 lladdr 0e:11:22:33:44:06 dev eth0 nud noarp extern_learn",
		"neigh add 10.244.1.7 lladdr 0e:11:22:33:44:07 dev eth0 nud noarp protocol bird",
		"neigh add 10.244.1.8 lladdr 0e:11:22:33:44:08 dev eth0 nud permanent protocol bgp router",
		"neigh add proxy 10.244.1.9 dev eth0 extern_learn router protocol bird",
		"neigh add 2001:db8::1 lladdr 0e:11:22:33:44:01 dev eth0 nud permanent extern_learn router",
		"neigh add 2001:db8::2 lladdr 0e:11:22:33:44:02 dev eth0 nud stale extern_learn",
		"neigh add 2001:db8::3 dev eth0 managed extern_learn router",
		"-6 neigh add proxy 2001:db8::9 dev eth0 extern_learn router protocol bird",
	},
	"much of everything": {
		"link set eth0 alias the-pods-own", "link property add dev eth0 altname pod-link altname another",
		"link set eth0 group 42", "link set eth0 txqueuelen 77", "link set eth0 multicast on",
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0 label eth0:first",
		"addr add 10.244.1.6/24 dev eth0 label eth0:2nd",
		"addr add 10.244.2.5/24 dev eth0 noprefixroute",
		"addr add 10.244.3.5 peer 10.244.3.9/32 dev eth0",
		"addr add 10.244.4.5/24 dev eth0 metric 55 scope link",
		"link set eth0 up", "node:link set host0 up",
		"addr add 10.244.5.5/24 dev eth0 valid_lft 3600 preferred_lft 1800",
		"addr add fd00:10:244:5::5/64 dev eth0 valid_lft 3600 preferred_lft 0",
		"route add default via 10.244.1.1 metric 100",
		"route add default via 10.244.1.2 metric 200 proto static",
		"route add default via 10.244.1.3 metric 50 src 10.244.1.6 mtu lock 1300 advmss 1200 initcwnd 20",
		"route add 198.51.100.0/24 nexthop via 10.244.1.1 weight 3 nexthop via 10.244.1.2 weight 5",
		"route add 203.0.113.0/24 via 172.31.0.1 dev eth0 onlink",
		"route add 203.0.113.7 via inet6 fe80::1 dev eth0",
		"route add default via 10.244.1.1 table 100",
		"route add 10.244.1.0/24 dev eth0 table 100",
		"route add 10.9.0.0/16 tos 0x10 via 10.244.1.1",
		"route add multicast 239.1.0.0/16 dev eth0",
		"-6 route add 2001:db8:9::/48 via fe80::1 dev eth0 expires 3000",
		"-6 route add 2001:db8:a::/48 via fe80::1 dev eth0 table 100 metric 5",
		"rule add from 10.244.1.6 lookup 100 priority 1000",
		"-6 rule add from fd00::/8 lookup 100 priority 1001",
		"neigh add 10.244.1.1 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent",
		"neigh add fe80::1 lladdr 0e:11:22:33:44:66 dev eth0 nud permanent router",
		"neigh add proxy 10.244.1.77 dev eth0",
		"-6 neigh add proxy fd00:10:244:5::77 dev eth0",
		"link set eth0 promisc on",
	},
}

// forEachJoint runs a test with each way to join link and tap.
func forEachJoint(t *testing.T, test func(t *testing.T, joint joint)) {
	t.Parallel()
	for name, joint := range joints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, joint)
		})
	}
}

// fewShapes are those that are tried with some joints, by which it is all one what the pod's link holds, but for what the guest is
// kept from, and for the addresses: the soak takes all.
func (j joint) fewShapes() []string {
	switch {
	case len(j.without) > 0:
		return []string{"ptp", "dual stack", "aws", "routes that block", "much of everything"}
	case j.binding == plan.BindingShared:
		return []string{"dual stack", "much of everything"}
	}
	return nil
}

// forEachShape runs a test in a pod of each shape, joined in each way. The commands come before those of the shape.
func forEachShape(t *testing.T, test func(*testing.T, *testPod), first ...string) {
	t.Parallel()
	for by, joint := range joints {
		for name, commands := range shapes {
			if few := joint.fewShapes(); few != nil && !slices.Contains(few, name) && (os.Getenv("PODNIC_SOAK") == "" || name == "no address" && joint.binding == plan.BindingShared) {
				continue
			}
			t.Run(by+"/"+name, func(t *testing.T) {
				t.Parallel()
				p := newTestPod(t, slices.Concat(first, commands)...)
				p.joint = joint
				test(t, p)
			})
		}
		if len(joint.without) > 0 {
			continue
		}
		// A UDP socket takes addresses and a filter more; of both families, all of them.
		t.Run(by+"/dual stack, UDP socket", func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, slices.Concat(first, shapes["dual stack"])...)
			p.joint = joint
			p.socket = plan.SocketUDP
			test(t, p)
		})
	}
}

func TestRestoreIsTheInverseOfPrepare(t *testing.T) {
	forEachShape(t, func(t *testing.T, p *testPod) {
		before := p.text()
		held := p.wiredText() // says more than ip(8) does, such as who set an address
		r := p.prepare()
		for _, s := range r.Steps {
			t.Log(s)
		}
		if again := p.prepare(); len(again.Steps) > 0 {
			t.Errorf("a second prepare found something to do: %v", again.Steps)
		}
		for _, s := range p.restore().Steps {
			t.Log(s)
		}
		p.same(before)
		if diff := cmp.Diff(held, p.wiredText()); diff != "" {
			t.Error(diff)
		}
		if again := p.restore(); len(again.Steps) > 0 {
			t.Errorf("a second restore found something to do: %v", again.Steps)
		}
	}, withDAD)
}

// TestKernelsSettingsDoNotMatter rewires where the kernel takes other things along than it does by default: IPv6 addresses
// stay when a link is set down, and the second IPv4 address of a prefix outlives the first.
func TestKernelsSettingsDoNotMatter(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"ipv6/conf/all/keep_addr_on_down", "ipv4/conf/all/promote_secondaries"} {
		for _, shape := range []string{"dual stack", "much of everything"} {
			t.Run(setting+", "+shape, func(t *testing.T) {
				t.Parallel()
				p := newTestPod(t)
				if err := p.pod.Do(func(netns) error { return os.WriteFile("/proc/sys/net/"+setting, []byte("1"), 0) }); err != nil {
					t.Fatal(err)
				}
				for _, c := range shapes[shape] {
					p.ip(c)
				}
				before := p.text()
				planned, err := Plan(context.Background(), p.request())
				if err != nil {
					t.Fatal(err)
				}
				if r := p.prepare(); len(r.Steps) != len(planned[0].Steps) {
					t.Errorf("%d steps were planned, and it took %d", len(planned[0].Steps), len(r.Steps))
				}
				if again := p.prepare(); len(again.Steps) > 0 {
					t.Errorf("a second prepare found something to do: %v", again.Steps)
				}
				if out := p.ip("addr show dev eth0-nic"); strings.Contains(out, "inet") {
					t.Errorf("the pod's link has kept addresses: %s", out)
				}
				p.restore()
				p.same(before)
			})
		}
	}
}

// TestWhatThePlanDoesNotKnowComesBack takes what is no shape that the model is held against. What the plan does not know,
// a second look mends.
func TestWhatThePlanDoesNotKnowComesBack(t *testing.T) {
	t.Parallel()
	for name, commands := range map[string][]string{
		// It outlives the link's going down.
		"a route to the pod itself": append(shapes["ptp"], "route add local 10.77.0.0/16 dev eth0 table 100"),
		// The kernel makes the route to the peer some time after the address.
		"an IPv6 address with a peer": append(shapes["ptp"], "addr add 2001:db8:5::5 peer 2001:db8:5::9/128 dev eth0 nodad"),
		"a link that is down":         {"addr add 10.244.1.5/24 brd + dev eth0", "addr add 10.244.2.5/24 dev eth0 scope link"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, commands...)
			before := p.text()
			p.prepare()
			if again := p.prepare(); len(again.Steps) > 0 {
				t.Errorf("a second prepare found something to do: %v", again.Steps)
			}
			p.restore()
			p.same(before)
		})
	}
}

// TestIPv6RouteOfTwoLinksComesBack compares this route alone: with a second IPv6 link, those that the kernel has of each
// link (fe80::/64, ff00::/8) are in another order after one of them was down.
func TestIPv6RouteOfTwoLinksComesBack(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, append(shapes["dual stack"],
		"link add net1 type veth peer name net1p", "link set net1 up", "link set net1p up",
		"-6 route add 2001:db8:5::/48 nexthop via fe80::1 dev eth0 weight 2 nexthop via fe80::2 dev net1")...)
	p.settle()
	route := func() string { return volatile.ReplaceAllString(p.ip("-6 route show 2001:db8:5::/48"), "") }
	before := route()
	p.prepare()
	if !strings.Contains(route(), "fe80::2 dev net1") {
		t.Errorf("while wired, somebody's hop is gone: %s", route())
	}
	p.restore()
	p.settle()
	if diff := cmp.Diff(before, route()); diff != "" || !strings.Contains(before, "fe80::1 dev eth0") {
		t.Error(diff)
	}
}

// TestAddressesAreUsableAtOnce looks right after restore: an IPv6 address that had passed duplicate address detection does
// not go through it again, in which it could not be used for a second.
func TestAddressesAreUsableAtOnce(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, shapes["dual stack"]...)
	p.settle()
	p.prepare()
	p.restore()
	if out := p.ip("-6 addr show dev eth0"); strings.Contains(out, "tentative") || !strings.Contains(out, "fd00:10:244:2::7") {
		t.Errorf("right after restore: %s", out)
	}
}

// TestLongNamesAreShortened takes an interface with the longest name that there can be.
func TestLongNamesAreShortened(t *testing.T) {
	p := newTestPod(t, "link set eth0 name a-long-name-123")
	for _, c := range shapes["bridge"] {
		p.ip(strings.ReplaceAll(c, "eth0", "a-long-name-123"))
	}
	before := p.ip("-4 -o addr")
	names := p.prepare().Names
	for _, name := range []string{names.NIC, names.Bridge} {
		if len(name) > plan.MaxName || name == names.Interface || !strings.Contains(p.ip("-o link"), name) {
			t.Errorf("a link is called %q", name)
		}
	}
	p.restore()
	if diff := cmp.Diff(before, p.ip("-4 -o addr")); diff != "" {
		t.Error(diff)
	}
}

// TestPlanIsInWords is what a dry run prints.
func TestPlanIsInWords(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, shapes["bridge"]...)
	p.settle()
	before := p.text()
	planned, err := Plan(context.Background(), p.request())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range planned[0].Steps {
		fmt.Fprintln(&b, s)
	}
	const want = `add link           eth0-br         type bridge address a2:0d:31:40:f8:13 mtu 1500 arp off group 0x70000002
set addrgenmode    eth0-br         none
add link           tap0            type tap address 66:72:51:3f:ae:ef mtu 1500 group 0x70000002
set addrgenmode    tap0            none
add link           eth0-id         type bridge address 0a:58:0a:f4:01:05 mtu 1500 group 0x70000002
set link           eth0-br         up
add address        eth0-id         fe80::858:aff:fef4:105/64
add route          eth0-br         10.244.1.0/24 src 10.244.1.5 table 1886257406
add route          eth0-br         fe80::/64 metric 256 table 1886257406
add route          eth0-br         default via 10.244.1.1 table 1886257406
set filter         podnic-eth0     17 rules
set link           eth0            down
rename             eth0            to eth0-nic
rename             eth0-id         to eth0
set address        eth0-nic        b2:ce:31:45:48:a1
set addrgenmode    eth0-nic        none
set master         eth0-nic        eth0-br
set port learning  eth0-nic        off
set master         tap0            eth0-br
set port learning  tap0            off
add address        eth0            10.244.1.5/24
delete address     eth0-nic        fe80::858:aff:fef4:105/64
delete address     eth0-nic        10.244.1.5/24
set link           tap0            up
set link           eth0-nic        up
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	p.same(before)
	if _, err := os.Stat(p.recordPath()); !os.IsNotExist(err) {
		t.Errorf("a dry run has left a record: %v", err)
	}
}
