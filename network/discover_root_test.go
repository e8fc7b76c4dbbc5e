package network

import (
	"os"
	"strings"
	"testing"

	"github.com/podnic/podnic/network/plan"
)

// TestInterfaceIsThatOfTheDefaultRoutes has a second link, net1, beside eth0. Where default routes leave by both, nobody
// can tell which is the guest's.
func TestInterfaceIsThatOfTheDefaultRoutes(t *testing.T) {
	const eth0v4, net1v4 = "route add default via 10.244.1.1", "route add default via 10.245.0.1"
	const eth0v6, net1v6 = "-6 route add default via fe80::1 dev eth0", "-6 route add default via fe80::1 dev net1"
	for name, test := range map[string]struct {
		routes []string
		want   string   // an interface
		words  []string // or a refusal
	}{
		"IPv4":                         {routes: []string{net1v4}, want: "net1"},
		"IPv6":                         {routes: []string{net1v6}, want: "net1"},
		"both on one":                  {routes: []string{net1v4, net1v6}, want: "net1"},
		"by metric":                    {routes: []string{eth0v4 + " metric 7", net1v4 + " metric 5", net1v6, eth0v6 + " metric 2000"}, want: "net1"},
		"a type of service has no say": {routes: []string{eth0v4, net1v4 + " tos 0x10"}, want: "eth0"},
		// EKS in IPv6 mode.
		"IPv6 on eth0, IPv4 on net1": {routes: []string{eth0v6, net1v4}, words: []string{"IPv4 by net1", "IPv6 by eth0", "--interface net1 or --interface eth0"}},
		"IPv4 on eth0, IPv6 on net1": {routes: []string{eth0v4, net1v6}, words: []string{"IPv4 by eth0", "IPv6 by net1", "--interface eth0 or --interface net1"}},
		// A VPN client.
		"IPv4 on eth0, its halves on net1": {routes: []string{eth0v4, "route add 0.0.0.0/1 via 10.245.0.1", "route add 128.0.0.0/1 via 10.245.0.1"},
			words: []string{"IPv4 by eth0", "IPv4 in two halves by net1"}},
		"both on eth0":      {routes: []string{eth0v4, "route add 0.0.0.0/1 via 10.244.1.2", "route add 128.0.0.0/1 via 10.244.1.2"}, want: "eth0"},
		"halves alone":      {routes: []string{"route add 0.0.0.0/1 via 10.245.0.1", "route add 128.0.0.0/1 via 10.245.0.1"}, want: "net1"},
		"one half is none":  {routes: []string{eth0v4, "route add 0.0.0.0/1 via 10.245.0.1"}, want: "eth0"},
		"halves on two":     {routes: []string{"route add 0.0.0.0/1 via 10.245.0.1", "route add 128.0.0.0/1 via 10.244.1.1", net1v6}, want: "net1"},
		"none, of two veth": {words: []string{"no interface has a default route", "--interface", "eth0", "net1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, append([]string{
				"addr add 10.244.1.5/24 dev eth0", "link set eth0 up", "node:link set host0 up",
				"link add net1 type veth peer name net1p", "addr add 10.245.0.5/24 dev net1", "link set net1 up", "link set net1p up",
			}, test.routes...)...)
			if test.words != nil {
				p.refused(p.tryPrepare, test.words...)
				if _, err := Inspect(p.request()); !IsRefusal(err) {
					t.Errorf("a look at it: %v", err)
				}
				req := p.request()
				req.Options.Interface = "eth0"
				if _, err := Prepare(t.Context(), req); err != nil {
					t.Errorf("with --interface: %v", err)
				}
				return
			}
			if got := p.prepare().Names.Interface; got != test.want {
				t.Errorf("wired %s, not %s", got, test.want)
			}
		})
	}
}

// TestWhatCannotBeWiredIsRefused is of a pod that is as it should be, but for one thing. The refusal says how to mend it.
func TestWhatCannotBeWiredIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		commands []string
		options  plan.Options
		words    []string
	}{
		"the tap is called as the interface":    {options: plan.Options{Tap: "eth0"}, words: []string{"eth0", "--tap", "<target dev=…>"}},
		"the tap is called as the bridge":       {options: plan.Options{Tap: "eth0-br"}, words: []string{"eth0-br", "--tap"}},
		"the tap is called as the NIC":          {options: plan.Options{Tap: "eth0-nic"}, words: []string{"eth0-nic", "--tap"}},
		"the tap is called as the aside":        {options: plan.Options{Tap: "eth0-id"}, words: []string{"eth0-id", "--tap"}},
		"and the interface is named":            {options: plan.Options{Tap: "eth0-br", Interface: "eth0"}, words: []string{"eth0-br", "--tap"}},
		"the tap is called as the altname":      {[]string{"link property add dev eth0 altname pod"}, plan.Options{Tap: "pod"}, []string{"pod", "--tap", "ip link property del dev eth0 altname pod"}},
		"an altname is the NIC's new name":      {[]string{"link property add dev eth0 altname eth0-nic"}, plan.Options{}, []string{"eth0-nic", "ip link property del dev eth0 altname eth0-nic"}},
		"the interface is called as the tap":    {[]string{"link set eth0 down", "link set eth0 name tap0", "link set tap0 up", "route add default via 10.244.1.1"}, plan.Options{}, []string{"tap0", "--tap"}},
		"an MTU that no DHCP message fits into": {[]string{"link set eth0 mtu 575"}, plan.Options{}, []string{"eth0", "575", "576", "ip link set eth0 mtu 576"}},
		"an MTU that hardly anything fits into": {[]string{"link set eth0 mtu 68"}, plan.Options{}, []string{"68", "576"}},
		"a name that libvirt takes for its own": {options: plan.Options{Tap: "vnet7"}, words: []string{"vnet7", "--tap"}},
		"the interface's name is an altname's":  {[]string{"link property add dev eth0 altname eth0-br"}, plan.Options{}, []string{"eth0-br"}},
		"a name that no link can have":          {options: plan.Options{Tap: "a/b"}, words: []string{"a/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, append(shapes["bridge"], test.commands...)...)
			req := p.request()
			req.Options = test.options
			req.beforeRequest = func() { t.Error("something was asked of the kernel") }
			_, err := Prepare(t.Context(), req)
			if !IsRefusal(err) {
				t.Fatalf("not a refusal: %v", err)
			}
			for _, w := range test.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the refusal does not say %q: %v", w, err)
				}
			}
			if _, err := os.Stat(p.recordPath()); !os.IsNotExist(err) {
				t.Errorf("a record is left: %v", err)
			}
		})
	}
}

// TestMTUBelowDHCPsIsTakenAtLayer2 has nobody to serve.
func TestMTUBelowDHCPsIsTakenAtLayer2(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, append(shapes["no address"], "link set eth0 mtu 300")...)
	before := p.text()
	p.prepare()
	p.restore()
	p.same(before)
}
