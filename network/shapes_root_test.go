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
	"dual stack": {
		"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
		"addr add fd00:10:244:1::5/64 dev eth0 nodad",
		"addr add 2001:db8::5/128 dev eth0 nodad noprefixroute",
		"link set eth0 up", "node:link set host0 up",
		"route add default via 10.244.1.1",
		"-6 route add default via fd00:10:244:1::1 dev eth0 metric 1024",
		"-6 route add 2001:db8:1::/48 via fe80::1 dev eth0",
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
