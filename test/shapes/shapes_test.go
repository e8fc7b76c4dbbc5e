package shapes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// plugin is a network that a CNI plugin makes, whatever the pod's number.
func plugin(n pod.Network) func(int) pod.Network { return func(int) pod.Network { return n } }

// byHand is a network that is made by the commands that its plugin's netlink calls amount to. Pods have the addresses
// 10.244.1.5 and so on.
func byHand(mtu int, node, inPod string) func(int) pod.Network {
	return func(number int) pod.Network {
		return pod.Network{MTU: mtu, Scripts: pod.Scripts{
			Node: node, Pod: inPod, Address: netip.AddrFrom4([4]byte{10, 244, 1, byte(number)}),
		}}
	}
}

// What the node has before it has pods.
const (
	// routed is a node that has the address 198.51.100.1 and routes everything else to an uplink, which nobody is on.
	routed = `
ip link add uplink type bridge
ip address add 198.51.100.1/24 dev uplink
ip link set uplink up
ip route add default via 198.51.100.254`
	// switched is a node on whose bridge all pods are, and where the gateway is.
	switched = `
ip link add br0 type bridge
ip link set br0 up
ip address add 10.244.1.1/24 dev br0`
)

// switched6 is such a node with IPv6, which it routes.
const switched6 = switched + `
ip address add fd00:10:244:1::1/64 dev br0 nodad
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding`

// What a pod's attachment takes on the node.
const (
	toRouter = `
ip link set $LINK up
ip route add $ADDRESS dev $LINK
ip neigh add $ADDRESS lladdr $MAC dev $LINK nud permanent`
	toSwitch = `ip link set $LINK master br0 up`
	// proxyARP answers for all addresses elsewhere, at once.
	proxyARP = `
echo 1 >/proc/sys/net/ipv4/conf/$LINK/proxy_arp
echo 0 >/proc/sys/net/ipv4/neigh/$LINK/proxy_delay`
)

// resolved ends the view of each guest: what the pod's /etc/resolv.conf and hostname say.
const resolved = `hostname vm-0
search default.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
`

// shape is a pod network, and what becomes of it.
type shape struct {
	name string
	// setUp is the node; network attaches the pods to it.
	setUp   string
	network func(int) pod.Network
	// prepare and serve are flags of these commands.
	prepare []string
	serve   []string
	// byTC is a network that is redirected by tc as well, for its first client: to tc most of them are alike.
	byTC bool
	// clients configure the guest, each in a pod of its own; "and" joins two. The script static runs in it before, or alone.
	clients []string
	static  string
	// outside has a DHCP server of the pod network serve the guest.
	outside bool
	// guest is what the guest then has.
	guest    string
	warnings []string
	// near is what the guest reaches with packets as large as the MTU says; the first is its gateway, or stands behind it.
	near []string
	mtu  int
	// alone is a guest that no other pod talks to: it has no address that the pod had.
	alone bool
	// silent has the MAC that ARP for an address must be answered with, once, and without a word of it on the wire. Empty,
	// it is that of the node's end of the pod's link.
	silent map[string]string
}

var table = []shape{
	{
		name:    "bridge",
		network: plugin(pod.Bridge),
		clients: []string{"udhcpc", "dhclient"},
		guest: `mtu 1500
address 10.244.2.2/24
default via 10.244.2.1
10.244.2.0/24 scope link
` + resolved,
		near: []string{"10.244.2.1"}, mtu: 1500,
	},
	{
		// Neighbours do not answer ARP: all goes to the node.
		name:    "ptp",
		byTC:    true,
		network: plugin(pod.PTP),
		clients: []string{"udhcpc", "dhclient"},
		guest: `mtu 1500
address 10.244.1.2/32
default via 10.244.1.1
10.244.1.0/24 via 10.244.1.1
10.244.1.1 scope link
` + resolved,
		near: []string{"10.244.1.1"}, mtu: 1500,
	},
	{
		// A client that knows nothing of classless routes believes in the mask, and must get by with it.
		name:    "ptp, the pod's mask",
		network: plugin(pod.PTP),
		serve:   []string{"--subnet-mask", "pod"},
		clients: []string{"udhcpc, mask only"},
		guest: `mtu 1500
address 10.244.1.2/24
default via 10.244.1.1
10.244.1.0/24 scope link
` + resolved,
		near: []string{"10.244.1.1"}, mtu: 1500,
		silent: map[string]string{"10.244.1.3": ""},
	},
	{
		name:  "Calico",
		setUp: routed,
		network: byHand(1450, toRouter+proxyARP, `
ip address add $ADDRESS/32 dev eth0
ip link set eth0 up
ip route add 169.254.1.1 dev eth0 scope link
ip route add default via 169.254.1.1`),
		clients: []string{"udhcpc", "dhclient"},
		guest: `mtu 1450
address 10.244.1.5/32
default via 169.254.1.1
169.254.1.1 scope link
` + resolved,
		near: []string{"198.51.100.1"}, mtu: 1450,
	},
	{
		// A server without capabilities; the settings are the CNI plugin's to make.
		name:  "Calico, UDP socket",
		byTC:  true,
		setUp: routed,
		network: byHand(1450, toRouter+proxyARP, `
echo 1 >/proc/sys/net/ipv4/conf/all/accept_local
ip address add $ADDRESS/32 dev eth0
ip link set eth0 up
ip route add 169.254.1.1 dev eth0 scope link
ip route add default via 169.254.1.1`),
		prepare: []string{"--socket", "udp"},
		clients: []string{"udhcpc"},
		guest: `mtu 1450
address 10.244.1.5/32
default via 169.254.1.1
169.254.1.1 scope link
169.254.75.10 scope link
` + resolved,
		near: []string{"198.51.100.1"}, mtu: 1450,
	},
	{
		// The node drops what another MAC sends; sniffed below for every shape.
		name:  "Cilium",
		setUp: routed + "\nip address add 10.244.1.200/32 dev uplink",
		network: byHand(1500, toRouter, `
ip address add $ADDRESS/32 dev eth0
ip link set eth0 up
ip route add 10.244.1.200 dev eth0 scope link
ip route add default via 10.244.1.200 mtu 1450`),
		clients: []string{"udhcpc"},
		guest: `mtu 1450
address 10.244.1.5/32
default via 10.244.1.200
10.244.1.200 scope link
` + resolved,
		near: []string{"10.244.1.200", "198.51.100.1"}, mtu: 1450,
	},
	{
		name:  "gateway by decree",
		setUp: routed,
		network: byHand(1500, toRouter+proxyARP, `
ip address add $ADDRESS/32 dev eth0
ip link set eth0 up
ip route add default via 10.244.1.254 dev eth0 onlink`),
		clients: []string{"udhcpc"},
		guest: `mtu 1500
address 10.244.1.5/32
default via 10.244.1.254
10.244.1.254 scope link
` + resolved,
		near: []string{"198.51.100.1"}, mtu: 1500,
	},
	{
		// The node would answer for the gateway as well, so that a request that gets out is answered twice.
		name:  "AWS VPC",
		byTC:  true,
		setUp: routed,
		network: byHand(9001, toRouter+proxyARP+"\nip link set $LINK address 0e:11:22:33:44:55", `
ip address add $ADDRESS/32 dev eth0
ip link set eth0 up
ip route add 169.254.1.1 dev eth0 scope link
ip route add default via 169.254.1.1
ip neigh add 169.254.1.1 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent`),
		clients: []string{"udhcpc", "dhclient"},
		guest: `mtu 9001
address 10.244.1.5/32
default via 169.254.1.1
169.254.1.1 scope link
` + resolved,
		near: []string{"198.51.100.1"}, mtu: 9001,
		silent: map[string]string{"169.254.1.1": "0e:11:22:33:44:55"},
	},
	{
		name:  "OVN-Kubernetes",
		setUp: switched + "\nip address add 10.96.0.10/32 dev lo\nip address add 100.64.0.2/32 dev lo",
		network: byHand(1400, toSwitch, `
ip address add $ADDRESS/24 brd + dev eth0
ip link set eth0 up
ip route add 10.244.0.0/16 via 10.244.1.1
ip route add 10.96.0.0/16 via 10.244.1.1
ip route add 100.64.0.0/16 via 10.244.1.1
ip route add default via 10.244.1.1`),
		clients: []string{"udhcpc", "dhclient"},
		guest: `mtu 1400
address 10.244.1.5/24
default via 10.244.1.1
10.96.0.0/16 via 10.244.1.1
10.244.0.0/16 via 10.244.1.1
10.244.1.0/24 scope link
100.64.0.0/16 via 10.244.1.1
` + resolved,
		near: []string{"10.244.1.1", "10.96.0.10", "100.64.0.2"}, mtu: 1400,
	},
	{
		// No word of podnic's is between the guest and the network: its address is the outside server's to give.
		name:    "secondary network without an address",
		byTC:    true,
		setUp:   switched + "\nip address add 203.0.113.1/24 dev br0",
		network: byHand(1500, toSwitch, "ip link set eth0 up"),
		outside: true,
		clients: []string{"udhcpc"},
		guest: `mtu 1500
address 203.0.113.10/24
203.0.113.0/24 scope link
hostname from-outside
search outside.example
nameserver 203.0.113.1
`,
		warnings: []string{"eth0 has no IPv4 address: the guest gets layer 2 only, and no DHCP server"},
		near:     []string{"203.0.113.1"}, mtu: 1500, alone: true,
	},
	{
		name:    "secondary network without a default route",
		setUp:   switched,
		network: byHand(1500, toSwitch, "ip address add $ADDRESS/24 brd + dev eth0\nip link set eth0 up"),
		clients: []string{"udhcpc"},
		guest: `mtu 1500
address 10.244.1.5/24
10.244.1.0/24 scope link
169.254.75.10 scope link
` + resolved,
		near: []string{"10.244.1.1"}, mtu: 1500,
	},
	{
		name: "several of everything",
		setUp: switched + `
ip address add 10.244.1.2/24 dev br0
ip address add 10.244.2.1/24 dev br0
ip address add 203.0.113.1/32 dev lo
ip address add 198.51.100.1/32 dev lo`,
		network: byHand(1500, toSwitch, `
ip address add $ADDRESS/24 brd + dev eth0
ip address add 10.244.1.6$NUMBER/24 dev eth0
ip address add 10.244.2.$NUMBER/24 dev eth0
ip link set eth0 up
ip route add default via 10.244.1.1 metric 100
ip route add default via 10.244.1.2 metric 50
ip route add 203.0.113.0/24 nexthop via 10.244.1.1 weight 3 nexthop via 10.244.1.2 weight 5
ip route add 198.51.100.0/24 via 10.244.2.1 src 10.244.2.$NUMBER
ip route add default via 10.244.1.1 table 100
ip route add 10.244.1.0/24 dev eth0 table 100
ip rule add from 10.244.1.6$NUMBER lookup 100 priority 1000`),
		clients: []string{"udhcpc"},
		guest: `mtu 1500
address 10.244.1.5/24
default via 10.244.1.2
10.244.1.0/24 scope link
10.244.2.0/24 scope link
198.51.100.0/24 via 10.244.2.1
203.0.113.0/24 via 10.244.1.1
` + resolved,
		warnings: []string{
			"10.244.2.5/24 is a further address of eth0: DHCP hands out 10.244.1.5 alone, which the pod sends from; configure it in the guest",
			"10.244.1.65/24 is a further address of eth0: DHCP hands out 10.244.1.5 alone, which the pod sends from; configure it in the guest",
			"routes of other tables or types (2) are not handed over: DHCP knows one table",
			"the route 10.244.2.0/24 src 10.244.2.5 has a source address of its own, which DHCP cannot express",
			"the route 198.51.100.0/24 via 10.244.2.1 src 10.244.2.5 has a source address of its own, which DHCP cannot express",
			"the route 203.0.113.0/24 nexthop via 10.244.1.1 nexthop via 10.244.1.2 has several next hops: " +
				"the guest is told the first",
			"the route default via 10.244.1.1 metric 100 is not handed over: another to the same destination has a lower metric",
			"policy routing rules of the pod (1) are not handed over: DHCP cannot express them",
		},
		near: []string{"10.244.1.2", "10.244.1.1", "203.0.113.1", "198.51.100.1"}, mtu: 1500,
	},
	{
		// The kernel lists addresses of a narrow scope first. The guest gets the one that the pod sends from.
		name:  "an address of narrow scope",
		setUp: switched,
		network: byHand(1500, toSwitch, `
ip address add $ADDRESS/24 brd + dev eth0
ip link set eth0 up
ip address add 169.254.7.$NUMBER/16 dev eth0 scope link
ip route add default via 10.244.1.1`),
		clients: []string{"udhcpc"},
		guest: `mtu 1500
address 10.244.1.5/24
default via 10.244.1.1
10.244.1.0/24 scope link
169.254.0.0/16 scope link
` + resolved,
		warnings: []string{
			"169.254.7.5/16 is a further address of eth0: DHCP hands out 10.244.1.5 alone, which the pod sends from; configure it in the guest",
			"the route 169.254.0.0/16 src 169.254.7.5 has a source address of its own, which DHCP cannot express",
		},
		near: []string{"10.244.1.1"}, mtu: 1500,
	},
	{
		// As VPN clients do it, beside the default route of before.
		name:  "default in two halves",
		setUp: switched + "\nip address add 10.244.1.2/24 dev br0\nip address add 198.51.100.1/32 dev lo",
		network: byHand(1500, toSwitch, `
ip address add $ADDRESS/24 brd + dev eth0
ip link set eth0 up
ip route add default via 10.244.1.1
ip route add 0.0.0.0/1 via 10.244.1.2 mtu 1400
ip route add 128.0.0.0/1 via 10.244.1.2 mtu 1400`),
		clients: []string{"udhcpc", "dhclient"},
		guest: `mtu 1400
address 10.244.1.5/24
default via 10.244.1.2
10.244.1.0/24 scope link
` + resolved,
		warnings: []string{"the route default via 10.244.1.1 is not handed over: 0.0.0.0/1 and 128.0.0.0/1 go before it"},
		near:     []string{"10.244.1.2", "198.51.100.1"}, mtu: 1400,
	},
	{
		// Docker Desktop, colima: no wire bounds it, and a tap does.
		name:  "MTU of 65535",
		setUp: switched + "\nip link set br0 mtu 65535",
		network: byHand(65535, toSwitch, `
ip address add $ADDRESS/24 brd + dev eth0
ip link set eth0 up
ip route add default via 10.244.1.1`),
		clients: []string{"udhcpc"},
		guest: `mtu 65521
address 10.244.1.5/24
default via 10.244.1.1
10.244.1.0/24 scope link
` + resolved,
		warnings: []string{"eth0 has the MTU 65535, and a tap carries 65521 at most: the guest is told 65521"},
		near:     []string{"10.244.1.1"}, mtu: 65521,
	},
	{
		name:  "MTU below IPv6's",
		setUp: switched,
		network: byHand(1200, toSwitch, `
ip address add $ADDRESS/24 brd + dev eth0
ip link set eth0 up
ip route add default via 10.244.1.1`),
		clients: []string{"udhcpc"},
		guest: `mtu 1200
address 10.244.1.5/24
default via 10.244.1.1
10.244.1.0/24 scope link
` + resolved,
		near: []string{"10.244.1.1"}, mtu: 1200,
	},
	{
		name:  "dual stack",
		byTC:  true,
		setUp: switched6,
		network: byHand(1500, toSwitch, `
ip address add $ADDRESS/24 brd + dev eth0
ip address add fd00:10:244:1::$NUMBER/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 10.244.1.1
ip -6 route add default via fd00:10:244:1::1`),
		clients: []string{"dhclient, IPv6 and udhcpc"},
		guest: `mtu 1500
address 10.244.1.5/24
default via 10.244.1.1
10.244.1.0/24 scope link
` + guest6 + resolved,
		near: []string{"10.244.1.1", "fd00:10:244:1::1", "fd00:10:244:1::6"}, mtu: 1500,
	},
	{
		name:  "dual stack, IPv6 passes",
		setUp: switched6,
		network: byHand(1500, toSwitch, `
ip address add $ADDRESS/24 brd + dev eth0
ip address add fd00:10:244:1::$NUMBER/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 10.244.1.1
ip -6 route add default via fd00:10:244:1::1`),
		prepare: []string{"--ipv6", "pass"},
		clients: []string{"udhcpc"},
		static:  "ip address add fd00:10:244:1::5/64 dev eth0 nodad noprefixroute; ip -6 route add fd00:10:244:1::/64 dev eth0",
		guest: `mtu 1500
address 10.244.1.5/24
default via 10.244.1.1
10.244.1.0/24 scope link
address fd00:10:244:1::5/64
fd00:10:244:1::/64 metric 1024 pref medium
` + resolved,
		warnings: []string{"IPv6 is not served (fd00:10:244:1::5): IPv6 frames pass, and the guest may configure it itself"},
		near:     []string{"10.244.1.1", "fd00:10:244:1::1", "fd00:10:244:1::6"}, mtu: 1500,
	},
	{
		name:  "IPv6 only",
		setUp: switched6,
		network: byHand(1500, toSwitch, `
ip address add fd00:10:244:1::$NUMBER/64 dev eth0 nodad
ip link set eth0 up
ip -6 route add default via fd00:10:244:1::1`),
		clients: []string{"dhclient, IPv6"},
		guest: "mtu 1500\n" + guest6 + `hostname localhost
search default.svc.cluster.local svc.cluster.local cluster.local
`,
		warnings: []string{"resolver 10.96.0.10 is not handed out: only IPv6 is served"},
		near:     []string{"fd00:10:244:1::1", "fd00:10:244:1::6"}, mtu: 1500, alone: true,
	},
}

// guest6 is what a guest has that is served fd00:10:244:1::5.
const guest6 = `address fd00:10:244:1::5/128
fd00:10:244:1::5
fd00:10:244:1::/64
default via its router
`

// TestGuestIsThePodInEveryNetwork gives the pod of each network to a guest whose DHCP client is a real one, and takes
// it back.
func TestGuestIsThePodInEveryNetwork(t *testing.T) {
	for _, binding := range []string{"bridge", "redirect", podtest.ByTC} {
		for _, shape := range table {
			clients := shape.clients
			if len(clients) == 0 {
				clients = []string{""}
			}
			if binding == podtest.ByTC {
				if clients = clients[:1]; !shape.byTC {
					continue
				}
			}
			for _, client := range clients {
				t.Run(strings.TrimSuffix(binding+"/"+shape.name+"/"+client, "/"), func(t *testing.T) {
					t.Parallel()
					shape.test(t, binding, client)
				})
			}
		}
	}
}

func (shape *shape) test(t *testing.T, binding, client string) {
	s := newSite(t, shape.setUp, shape.network)
	s.podReaches(shape) // or the network is not what it should be
	prepared := podtest.ReadReport(s.T, s.Must(append([]string{"prepare", s.Bind(binding), "-o", "json"}, shape.prepare...)...))
	server := s.Serve(shape.serve...)
	if shape.outside {
		s.outsideServer(s.Node.Namespace, "br0", "203.0.113.10", "203.0.113.10", "255.255.255.0")
	}
	s.plug()
	if shape.static != "" {
		s.In(s.guest, shape.static)
	}
	if client != "" {
		one, two, both := strings.Cut(client, " and ")
		lease := s.lease(one)
		if both {
			defer s.lease(two).End(syscall.SIGTERM)
		}
		if diff := cmp.Diff(shape.guest, s.view()); diff != "" {
			t.Errorf("the guest's view (-want +got):\n%s", diff)
		}
		defer lease.End(syscall.SIGTERM)
	}
	ready := s.Ready()
	if !shape.alone { // of two leases, the first makes it ready; and a reply is sent before it is noted
		podtest.Until(t, "the guest's lease is noted", func() bool { ready = s.Status(); return ready.Interfaces[0].Lease.State == "bound" })
	}
	s.reported(shape, prepared, ready)
	if out := s.In(s.Pod.Namespace, "tc filter show dev eth0 ingress"); strings.Contains(out, "mirred") != (binding == podtest.ByTC) {
		t.Errorf("by %s, tc has: %s", binding, out)
	}
	for _, address := range shape.near {
		s.ping(s.guest, address, shape.mtu)
	}
	if !shape.alone {
		s.ping(s.guest, s.other.Address.Addr().String(), shape.mtu)
		s.exchange(s.guest, s.other.Namespace, s.other.Address.Addr())
		s.exchange(s.other.Namespace, s.guest, s.Pod.Address.Addr())
	}
	s.answeredOnce(shape)
	s.onTheWire(shape)
	if status := server.End(syscall.SIGTERM); status != 0 {
		t.Errorf("podnic serve: exit status %d", status)
	}
	s.restored()
	s.podReaches(shape)
}

// podReaches has the pod itself reach what its guest is to reach.
func (s *site) podReaches(shape *shape) {
	s.T.Helper()
	if shape.outside {
		return // it has no address
	}
	for _, address := range shape.near {
		s.ping(s.Pod.Namespace, address, shape.mtu)
	}
}

// reported checks what podnic says of it all: before there is a server, and when the guest is ready.
func (s *site) reported(shape *shape, prepared, ready podtest.Report) {
	s.T.Helper()
	type told struct {
		Phase, MAC, Address, Lease string
		Warnings                   []string
	}
	read := func(r podtest.Report) told {
		i := r.Interfaces[0]
		t := told{Phase: r.Phase, MAC: i.MAC, Lease: i.Lease.State, Warnings: i.Warnings}
		if i.Lease.Address.IsValid() {
			t.Address = i.Lease.Address.String()
		}
		return t
	}
	warnings := append([]string{}, shape.warnings...)
	want := told{Phase: "wired", MAC: s.MAC.String(), Lease: "none", Warnings: warnings}
	if diff := cmp.Diff(want, read(prepared)); diff != "" {
		s.T.Errorf("prepare reported (-want +got):\n%s", diff)
	}
	want.Phase = "ready"
	if !shape.alone {
		want.Lease, want.Address = "bound", s.Pod.Address.Addr().String()
	}
	if diff := cmp.Diff(want, read(ready)); diff != "" {
		s.T.Errorf("status reported (-want +got):\n%s", diff)
	}
}

// ping has a namespace reach an address with a packet as large as the MTU says, which may not be broken up.
func (s *site) ping(from *pod.Namespace, address string, mtu int) {
	s.T.Helper()
	const icmp = 8
	header := 20
	if strings.Contains(address, ":") {
		header = 40
	}
	size := fmt.Sprint(mtu - header - icmp)
	if _, err := from.Output(s.T.Context(), "ping", "-c1", "-W90", "-Mdo", "-s"+size, address); err != nil {
		s.T.Error(err)
	}
}

// exchange sends more over TCP than fits a window, and has it sent back.
func (s *site) exchange(client, server *pod.Namespace, address netip.Addr) {
	s.T.Helper()
	const port = 7
	listener := podtest.Listen(s.T, server, netip.AddrPortFrom(address, port))
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return // the dialer's failure says more
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}()
	defer listener.Close()
	if err := echo(s.T.Context(), client, netip.AddrPortFrom(address, port).String()); err != nil {
		s.T.Errorf("TCP from %s to %s: %v", client.Name, address, err)
	}
}

func echo(ctx context.Context, from *pod.Namespace, address string) error {
	ctx, cancel := context.WithTimeout(ctx, podtest.Patience)
	defer cancel()
	conn, err := from.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(podtest.Patience)); err != nil {
		return err
	}
	const size = 256 << 10
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(make([]byte, size))
		sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	n, err := io.Copy(io.Discard, conn)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("%d bytes came back of %d", n, size)
	}
	return nil
}

// answeredOnce asks for the addresses that are podnic's to answer, and then for one that is the node's: an answer that
// took the way of the second would have come before it.
func (s *site) answeredOnce(shape *shape) {
	s.T.Helper()
	me := s.Pod.Address.Addr()
	for text, mac := range shape.silent {
		if mac == "" {
			mac = podtest.Link(s.T, s.Node.Namespace, s.Pod.HostLink).HardwareAddr.String()
		}
		target, node := netip.MustParseAddr(text), netip.MustParseAddr(shape.near[0])
		s.card.Look(func(seen *podtest.Seen) { clear(seen.Answers) })
		s.card.Ask(s.MAC, me, target)
		s.card.Until("the answer", func(seen *podtest.Seen) bool { return len(seen.Answers[target]) > 0 })
		s.card.Ask(s.MAC, me, node)
		s.card.Until("the node's answer", func(seen *podtest.Seen) bool { return len(seen.Answers[node]) > 0 })
		s.leftThePod()
		var got []string
		s.card.Look(func(seen *podtest.Seen) { got = seen.Answers[target] })
		if diff := cmp.Diff([]string{mac}, got); diff != "" {
			s.T.Errorf("answers for %s (-want +got):\n%s", target, diff)
		}
	}
}

// onTheWire checks what the pod network saw of all that the guest did.
func (s *site) onTheWire(shape *shape) {
	s.T.Helper()
	s.leftThePod()
	s.wire.Look(func(seen *podtest.Seen) {
		if diff := cmp.Diff([]string{s.MAC.String()}, slices.Sorted(maps.Keys(seen.Sources))); diff != "" {
			s.T.Errorf("MACs that left the pod (-want +got):\n%s", diff)
		}
		if seen.DHCP > 0 != shape.outside {
			s.T.Errorf("%d DHCP frames left the pod", seen.DHCP)
		}
		for address := range shape.silent {
			if n := seen.Asked[netip.MustParseAddr(address)]; n > 0 {
				s.T.Errorf("%d ARP requests for %s left the pod", n, address)
			}
		}
	})
}
