package network

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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
		"link set eth0 up", "node:link set host0 up",
		"addr add fd00:10:244:1::5/64 dev eth0",
		"-6 route add default via fd00:10:244:1::1 dev eth0",
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

// forEachShape runs a test in a pod of each shape.
func forEachShape(t *testing.T, test func(*testing.T, *testPod)) {
	for name, commands := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, commands...)
			test(t, p)
		})
	}
}

func TestRestoreIsTheInverseOfPrepare(t *testing.T) {
	forEachShape(t, func(t *testing.T, p *testPod) {
		before := p.text()
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
		if diff := cmp.Diff(before, p.text()); diff != "" {
			t.Error(diff)
		}
		if again := p.restore(); len(again.Steps) > 0 {
			t.Errorf("a second restore found something to do: %v", again.Steps)
		}
	})
}
