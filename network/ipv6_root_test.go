package network

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
)

var (
	gatewayIP6 = netip.MustParseAddr("fd00:10:244:1::1")
	podIP6     = netip.MustParseAddr("fd00:10:244:1::5")
)

// wireWith prepares with options.
func (p *testPod) wireWith(o plan.Options) *Result {
	p.t.Helper()
	req := p.request()
	req.Options, req.settled = o, false
	r, err := Prepare(context.Background(), req)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// forwarding makes the node a router.
func (p *testPod) forwarding() {
	p.t.Helper()
	if _, err := p.run(p.node, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"); err != nil {
		p.t.Fatal(err)
	}
}

// settleNode is settle for both ends.
func (p *testPod) settleNode() {
	p.t.Helper()
	p.settle()
	for strings.Contains(p.ip("node:-6 addr"), "tentative") {
		time.Sleep(20 * time.Millisecond) // no notification tells the end
	}
}

// TestRouterIsFound has gateways as pod networks have them, on links that were set up just now.
func TestRouterIsFound(t *testing.T) {
	const anew = "node:link set host0 addrgenmode none"
	for name, test := range map[string]struct {
		commands []string
		want     identity.Router
	}{
		"its link-local address is of its MAC": {
			[]string{"node:-6 addr add fd00:10:244:1::1/64 dev host0 nodad"},
			identity.Router{Gateway: gatewayIP6, Address: linkLocalNode, MAC: nodeMAC},
		},
		"it is another": {
			[]string{anew, "node:link set host0 down", "node:link set host0 up", "node:addr add fe80::abc/64 dev host0", "node:-6 addr add fd00:10:244:1::1/64 dev host0"},
			identity.Router{Gateway: gatewayIP6, Address: netip.MustParseAddr("fe80::abc"), MAC: nodeMAC},
		},
		"it has none": {
			[]string{anew, "node:link set host0 down", "node:link set host0 up", "node:-6 addr add fd00:10:244:1::1/64 dev host0 nodad"},
			identity.Router{Gateway: gatewayIP6, Address: identity.VirtualRouter, MAC: nodeMAC},
		},
		"it is not there": {nil, identity.Router{Gateway: gatewayIP6}},
		"it is there by a permanent entry alone": {
			[]string{anew, "node:link set host0 down", "node:link set host0 up", "neigh add fd00:10:244:1::1 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent"},
			identity.Router{Gateway: gatewayIP6, Address: identity.VirtualRouter, MAC: identity.MAC{0x0e, 0x11, 0x22, 0x33, 0x44, 0x55}},
		},
		"it is link-local": {
			[]string{"-6 route replace default via fe80::858:aff:fef4:101 dev eth0"},
			identity.Router{Gateway: linkLocalNode, Address: linkLocalNode, MAC: nodeMAC},
		},
		"it is link-local, by a permanent entry": { // AWS
			[]string{"-6 route replace default via fe80::1 dev eth0", "neigh add fe80::1 lladdr 0a:58:0a:f4:01:01 dev eth0 nud permanent"},
			identity.Router{Gateway: netip.MustParseAddr("fe80::1"), Address: linkLocalNode, MAC: nodeMAC},
		},
		"it is link-local, by a permanent entry alone": {
			[]string{anew, "node:link set host0 down", "node:link set host0 up", "-6 route replace default via fe80::1 dev eth0", "neigh add fe80::1 lladdr 0a:58:0a:f4:01:01 dev eth0 nud permanent"},
			identity.Router{Gateway: netip.MustParseAddr("fe80::1"), Address: netip.MustParseAddr("fe80::1"), MAC: nodeMAC},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, append([]string{
				"node:link set host0 up", "link set eth0 up", "-6 addr add fd00:10:244:1::5/64 dev eth0 nodad", "-6 route add default via fd00:10:244:1::1",
			}, test.commands...)...)
			p.forwarding()
			if diff := cmp.Diff([]identity.Router{test.want}, p.wireWith(plan.Options{IPv6: plan.IPv6Serve}).Record.Original.Routers, cmpAddrs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRouterIsFoundLater has one that comes when the interface is wired already: a second prepare asks for it.
func TestRouterIsFoundLater(t *testing.T) {
	t.Parallel()
	for _, binding := range plan.Automatic {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, "node:link set host0 up", "link set eth0 up", "-6 addr add fd00:10:244:1::5/64 dev eth0 nodad",
				"-6 route add default via fd00:10:244:1::1")
			p.forwarding()
			options := plan.Options{Binding: binding, IPv6: plan.IPv6Serve}
			for _, want := range []identity.Router{{Gateway: gatewayIP6}, {Gateway: gatewayIP6, Address: linkLocalNode, MAC: nodeMAC}} {
				if diff := cmp.Diff([]identity.Router{want}, p.wireWith(options).Record.Original.Routers, cmpAddrs); diff != "" {
					t.Error(diff)
				}
				p.ip("node:-6 addr replace fd00:10:244:1::1/64 dev host0 nodad")
			}
		})
	}
}

// identity6 is what the guest gets of IPv6, a line for each thing.
func identity6(id identity.Identity) []string {
	var lines []string
	for _, a := range id.V6.Addresses {
		lines = append(lines, fmt.Sprintf("address %s of %s", a.Prefix, a.Pod))
	}
	for _, r := range id.V6.Routes {
		if r.Gateway.IsValid() {
			lines = append(lines, fmt.Sprintf("route %s via %s", r.Destination, r.Gateway))
		} else {
			lines = append(lines, fmt.Sprintf("route %s on the link", r.Destination))
		}
	}
	for _, r := range id.Routers {
		line := fmt.Sprintf("router %s at %s, %s", r.Gateway, r.Address, r.MAC)
		if r.Answered {
			line += ", answered for"
		}
		lines = append(lines, line)
	}
	for _, n := range id.V6.Neighbours {
		lines = append(lines, fmt.Sprintf("neighbour %s %s", n.Address, n.MAC))
	}
	return lines
}

// TestGuestIsThePodInIPv6 has pod networks of every kind. The first address is the one that the pod itself sends from.
func TestGuestIsThePodInIPv6(t *testing.T) {
	up := []string{"node:link set host0 up", "link set eth0 up"}
	gateway := "node:-6 addr add fd00:10:244:1::1/64 dev host0 nodad"
	for name, test := range map[string]struct {
		commands []string
		mtu      int
		want     []string
		warnings []string
	}{
		"bridge": {[]string{gateway, "-6 addr add fd00:10:244:1::5/64 dev eth0 nodad", "-6 route add default via fd00:10:244:1::1"}, 1500, []string{
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/64",
			"route fd00:10:244:1::/64 on the link",
			"route ::/0 via fd00:10:244:1::1",
			"router fd00:10:244:1::1 at fe80::858:aff:fef4:101, 0a:58:0a:f4:01:01",
		}, nil},
		"ptp": {[]string{
			gateway, "-6 addr add fd00:10:244:1::5/64 dev eth0 nodad", "-6 route del fd00:10:244:1::/64 dev eth0",
			"-6 route add fd00:10:244:1::1 dev eth0", "-6 route add fd00:10:244:1::/64 via fd00:10:244:1::1", "-6 route add default via fd00:10:244:1::1",
		}, 1500, []string{
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/64",
			"route fd00:10:244:1::/64 via fd00:10:244:1::1",
			"route ::/0 via fd00:10:244:1::1",
			"router fd00:10:244:1::1 at fe80::858:aff:fef4:101, 0a:58:0a:f4:01:01",
		}, nil},
		"calico": {[]string{
			"-6 addr add 2001:db8:42::5/128 dev eth0 nodad", "-6 route add default via fe80::858:aff:fef4:101 dev eth0",
		}, 1500, []string{
			"address 2001:db8:42::5/128 of 2001:db8:42::5/128",
			"route ::/0 via fe80::858:aff:fef4:101",
			"router fe80::858:aff:fef4:101 at fe80::858:aff:fef4:101, 0a:58:0a:f4:01:01",
		}, nil},
		"cilium": {[]string{
			gateway, "node:-6 addr flush dev host0 scope link", "-6 addr add fd00:10:244:1::5/128 dev eth0 nodad",
			"-6 route add fd00:10:244:1::1 dev eth0", "-6 route add default via fd00:10:244:1::1 mtu 1450",
		}, 1450, []string{
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/128",
			"route ::/0 via fd00:10:244:1::1",
			"router fd00:10:244:1::1 at fe80::706f:646e:6963:1, 0a:58:0a:f4:01:01, answered for",
		}, nil},
		"two that podnic stands in for": {[]string{
			gateway, "node:-6 addr flush dev host0 scope link", "-6 addr add fd00:10:244:1::5/64 dev eth0 nodad",
			"neigh add fd00:10:244:1::2 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent",
			"-6 route add default via fd00:10:244:1::1", "-6 route add 2001:db8:2::/48 via fd00:10:244:1::2",
		}, 1500, []string{
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/64",
			"route fd00:10:244:1::/64 on the link",
			"route 2001:db8:2::/48 via fd00:10:244:1::2",
			"route ::/0 via fd00:10:244:1::1",
			"router fd00:10:244:1::1 at fe80::706f:646e:6963:1, 0a:58:0a:f4:01:01, answered for",
			"router fd00:10:244:1::2 at fe80::706f:646e:6963:101, 0e:11:22:33:44:55, answered for",
			"neighbour fd00:10:244:1::2 0e:11:22:33:44:55",
		}, nil},
		"aws": {[]string{
			"node:-6 addr flush dev host0 scope link", "-6 addr add 2001:db8:42::5/128 dev eth0 nodad",
			"-6 route add fe80::1 dev eth0", "-6 route add default via fe80::1 dev eth0", "neigh add fe80::1 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent",
		}, 1500, []string{
			"address 2001:db8:42::5/128 of 2001:db8:42::5/128",
			"route ::/0 via fe80::1",
			"router fe80::1 at fe80::1, 0e:11:22:33:44:55, answered for",
			"neighbour fe80::1 0e:11:22:33:44:55",
		}, nil},
		"ovn": {[]string{
			"link set eth0 mtu 1400", gateway, "-6 addr add fd00:10:244:1::5/64 dev eth0 nodad", "-6 route add fd00:10:244::/48 via fd00:10:244:1::1",
			"-6 route add fd98::/64 via fd00:10:244:1::1", "-6 route add default via fd00:10:244:1::1",
		}, 1400, []string{
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/64",
			"route fd00:10:244:1::/64 on the link",
			"route fd00:10:244::/48 via fd00:10:244:1::1",
			"route fd98::/64 via fd00:10:244:1::1",
			"route ::/0 via fd00:10:244:1::1",
			"router fd00:10:244:1::1 at fe80::858:aff:fef4:101, 0a:58:0a:f4:01:01",
		}, nil},
		"by decree": {[]string{
			"node:-6 addr add 2001:db8:99::1/64 dev host0 nodad", "-6 addr add fd00:10:244:1::5/128 dev eth0 nodad", "-6 route add default via 2001:db8:99::1 dev eth0 onlink",
		}, 1500, []string{
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/128",
			"route ::/0 via 2001:db8:99::1",
			"router 2001:db8:99::1 at fe80::858:aff:fef4:101, 0a:58:0a:f4:01:01",
		}, nil},
		"no default route": {[]string{"-6 addr add fd00:10:244:1::5/64 dev eth0 nodad"}, 1500, []string{
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/64",
			"route fd00:10:244:1::/64 on the link",
		}, nil},
		"several addresses": {[]string{
			gateway, "-6 addr add 2001:db8:42::5/64 dev eth0 nodad", "-6 addr add 2001:db8:42::6/64 dev eth0 nodad",
			"-6 addr add fd00:10:244:1::5/64 dev eth0 nodad", "-6 addr add 2001:db8:43::5/64 dev eth0 nodad preferred_lft 0", "-6 route add default via fd00:10:244:1::1",
		}, 1500, []string{
			"address 2001:db8:42::6/128 of 2001:db8:42::6/64",
			"address 2001:db8:42::5/128 of 2001:db8:42::5/64",
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/64",
			"route 2001:db8:42::/64 on the link",
			"route 2001:db8:43::/64 on the link",
			"route fd00:10:244:1::/64 on the link",
			"route ::/0 via fd00:10:244:1::1",
			"router fd00:10:244:1::1 at fe80::858:aff:fef4:101, 0a:58:0a:f4:01:01",
		}, nil},
		"a default route with a source": {[]string{
			gateway, "-6 addr add fd00:10:244:1::5/64 dev eth0 nodad", "-6 addr add 2001:db8:42::5/64 dev eth0 nodad",
			"-6 route add default via fd00:10:244:1::1 src fd00:10:244:1::5",
		}, 1500, []string{
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/64",
			"address 2001:db8:42::5/128 of 2001:db8:42::5/64",
			"route 2001:db8:42::/64 on the link",
			"route fd00:10:244:1::/64 on the link",
			"route ::/0 via fd00:10:244:1::1",
			"router fd00:10:244:1::1 at fe80::858:aff:fef4:101, 0a:58:0a:f4:01:01",
		}, nil},
		"what a router advertisement cannot say": {[]string{
			gateway, "node:-6 addr add fd00:10:244:1::2/64 dev host0 nodad", "-6 addr add fd00:10:244:1::5/64 dev eth0 nodad",
			"-6 route add default via fd00:10:244:1::1 metric 10 mtu 1000", "-6 route add default via fd00:10:244:1::2 metric 20", "-6 route add 2001:db8:1::/48 from fd00:10:244:1::/64 via fd00:10:244:1::1",
			"-6 route add 2001:db8:2::/48 nexthop via fd00:10:244:1::1 nexthop via fd00:10:244:1::2", "-6 route add 2001:db8:3::/48 via fd00:10:244:1::1 table 100",
			"-6 route add 2001:db8:4::/48 via fd00:10:244:1::77",
		}, 1280, []string{
			"address fd00:10:244:1::5/128 of fd00:10:244:1::5/64",
			"route fd00:10:244:1::/64 on the link",
			"route 2001:db8:2::/48 via fd00:10:244:1::1",
			"route ::/0 via fd00:10:244:1::1",
			"router fd00:10:244:1::1 at fe80::858:aff:fef4:101, 0a:58:0a:f4:01:01",
		}, []string{
			"IPv6 routes of other tables or types, or for some sources (2), are not handed over: a router advertisement knows one table",
			"the guest gets no route by fd00:10:244:1::77: nobody answered for it when the interface was wired; run `podnic prepare` once somebody does",
			"the route 2001:db8:2::/48 nexthop via fd00:10:244:1::1 nexthop via fd00:10:244:1::2 metric 1024 has several next hops: the guest is told the first",
			"the route default via fd00:10:244:1::1 metric 10 has settings of its own (mtu 1000), which a router advertisement cannot express",
			"the route default via fd00:10:244:1::2 metric 20 is not handed over: another to the same destination has a lower metric",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, up...)
			p.forwarding()
			p.settleNode()
			for _, c := range test.commands {
				p.ip(c)
			}
			source, _, _ := strings.Cut(test.want[0], "/")
			if strings.Contains(p.ip("-6 route"), "default") {
				if got := p.ip("-6 route get 2001:db8:ffff::1"); !strings.Contains(got, "src "+strings.TrimPrefix(source, "address ")+" ") {
					t.Errorf("the pod sends from another address: %s", got)
				}
			}
			before := p.text()
			for by, joint := range joints {
				p.joint = joint
				p.isThePodInIPv6(t, by, test.mtu, test.want, test.warnings)
				p.restore()
				p.same(before)
			}
		})
	}
}

func (p *testPod) isThePodInIPv6(t *testing.T, by string, mtu int, want, warned []string) {
	t.Helper()
	p.wireWith(plan.Options{Binding: p.binding, IPv6: plan.IPv6Serve})
	seen, err := Inspect(p.request())
	if err != nil {
		t.Fatal(err)
	}
	id, warnings := seen.Identity()
	if diff := cmp.Diff(want, identity6(id)); diff != "" || id.MTU != mtu {
		t.Errorf("%s: MTU %d, and (-want +got):\n%s", by, id.MTU, diff)
	}
	slices.Sort(warnings)
	if diff := cmp.Diff(warned, warnings); diff != "" {
		t.Errorf("%s: warnings (-want +got):\n%s", by, diff)
	}
	if err := os.Remove(p.recordPath()); err != nil {
		t.Fatal(err)
	}
	if seen, err = Inspect(p.request()); err != nil {
		t.Fatal(err)
	}
	lost, _ := seen.Identity()
	if diff := cmp.Diff(want, identity6(lost)); diff != "" {
		t.Errorf("%s: without the record (-want +got):\n%s", by, diff)
	}
	if len(seen.Deviations) > 0 {
		t.Errorf("%s: without the record: %v", by, seen.Deviations)
	}
}

// TestAddressesOfAdvertisementsAreNotServed lets a kernel make addresses of an advertisement, and what else makes auto pass.
func TestAddressesOfAdvertisementsAreNotServed(t *testing.T) {
	for name, test := range map[string]struct {
		commands  []string
		advertise bool
		want      string
	}{
		"made by the kernel":                   {nil, true, plan.IPv6Pass},
		"made by the kernel, and one that was": {[]string{"-6 addr add fd00:10:244:1::5/64 dev eth0 nodad"}, true, plan.IPv6Serve},
		"made by a program of an advertisement": {
			[]string{"-6 addr add 2001:db8:bad::77/64 dev eth0 nodad valid_lft 3600 preferred_lft 1800", "-6 route add default via fe80::1 dev eth0 proto ra"}, false, plan.IPv6Pass,
		},
		"with a lifetime":  {[]string{"-6 addr add 2001:db8:bad::77/64 dev eth0 nodad valid_lft 3600 preferred_lft 1800"}, false, plan.IPv6Serve},
		"link-local alone": {nil, false, plan.IPv6Pass},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, append([]string{"node:link set host0 up", "link set eth0 up"}, test.commands...)...)
			p.settle()
			if test.advertise {
				node := p.nodePort()
				frame := ethernet(multicast6, nodeMAC, 0x86dd, ipv6Packet(58, linkLocalNode, everybody6, routerAdvertisement(linkLocalNode, everybody6, routedPrefix)))
				for !strings.Contains(p.ip("-6 addr"), "2001:db8:bad:") {
					if err := node.send(frame); err != nil {
						t.Fatal(err)
					}
				}
				p.settle()
			}
			req := p.request()
			req.Options.Interface = "eth0"
			seen, err := Inspect(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := seen.Options.IPv6For(seen.Original); got != test.want {
				t.Errorf("auto is %s", got)
			}
		})
	}
}

// TestIPv6ThatCannotBeServedIsRefused names the remedy.
func TestIPv6ThatCannotBeServedIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		commands []string
		options  plan.Options
		want     string
		without  []string
	}{
		"no address": {nil, plan.Options{IPv6: plan.IPv6Serve}, "eth0 has no global IPv6 address that could be served: give it one, or pass --ipv6 auto", nil},
		"a small MTU": {
			[]string{"link set eth0 mtu 1200"}, plan.Options{IPv6: plan.IPv6Serve},
			"eth0 has no IPv6, which requires an MTU of 1280; that of eth0 is 1200: raise it, or pass --ipv6 auto", nil,
		},
		"no IPv6 on new links": {
			[]string{"-6 addr add fd00:10:244:1::5/64 dev eth0 nodad", "sysctl net.ipv6.conf.default.disable_ipv6=1"}, plan.Options{Binding: plan.BindingRedirect, IPv6: plan.IPv6Serve},
			"IPv6 cannot be served, since new links have none (net.ipv6.conf.default.disable_ipv6 is 1): set it to 0 in the pod's namespace, or pass --ipv6 auto", nil,
		},
		"a UDP socket, by tc": {
			[]string{"-6 addr add fd00:10:244:1::5/64 dev eth0 nodad"}, plan.Options{Binding: plan.BindingRedirect, Socket: plan.SocketUDP, IPv6: plan.IPv6Serve},
			"IPv6 is served through a packet socket alone where frames are redirected by tc, since this kernel's nftables cannot: leave out --socket udp, or pass --ipv6 auto (everything was put back)",
			joints["redirect by tc"].without,
		},
		"a word": {nil, plan.Options{IPv6: "on"}, `IPv6 cannot be "on": --ipv6 takes auto, serve, pass, off`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, shapes["bridge"]...)
			p.without = test.without
			for _, c := range test.commands {
				if setting, ok := strings.CutPrefix(c, "sysctl "); !ok {
					p.ip(c)
				} else if _, err := p.run(p.pod, "sysctl", "-qw", setting); err != nil {
					t.Fatal(err)
				}
			}
			req := p.request()
			req.Options = test.options
			_, err := Prepare(context.Background(), req)
			if err == nil || !IsRefusal(err) || err.Error() != test.want {
				t.Errorf("got %v", err)
			}
			if test.options.IPv6 = plan.IPv6Auto; test.without == nil {
				test.options.Binding = plan.BindingAuto
			}
			if r := p.wireWith(test.options); r.Record.Options.IPv6For(r.Record.Original) != plan.IPv6Pass { // the remedy
				t.Errorf("with auto it is %s", r.Record.Options.IPv6)
			}
			p.restore()
		})
	}
}
