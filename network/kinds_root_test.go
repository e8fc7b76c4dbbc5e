package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kindsNICs has the names of four network cards of the machine, on one wire, which a test may move into namespaces; the last
// one merges what it receives. A virtual machine that plays the node sets it; no other machine's cards are anybody's to move.
const kindsNICs = "PODNIC_TEST_NICS"

// kindCase is a kind of link that a pod network may make eth0.
type kindCase struct {
	name string
	// make makes eth0 in the pod and host0 in the node's namespace, on one wire. What the kernel cannot make is an error that
	// unmakeable knows.
	make func(*testPod) error
	// bridge and redirect are in the refusal of each binding. Empty: it takes the link.
	bridge, redirect string
	// lro says that the link merges what it receives.
	lro bool
}

// onParent stands on one end of a veth, whose other end is host0.
func onParent(kind string) func(*testPod) error {
	return func(p *testPod) error {
		p.ip("node:link add up0 type veth peer name host0")
		p.ip("node:link set up0 up")
		return p.tryIP("node:link add link up0 name eth0 netns " + p.request().Namespace + " type " + kind)
	}
}

const (
	ownMAC = "only frames of its own MAC"
	byIP   = "shares its parent's MAC"
	noMAC  = "no MAC to give away"
)

var kindCases = []kindCase{
	{name: "veth", make: func(p *testPod) error {
		return p.tryIP("link add eth0 type veth peer name host0 netns " + p.nodePath())
	}},
	{name: "macvlan bridge", make: onParent("macvlan mode bridge"), bridge: ownMAC},
	{name: "macvlan private", make: onParent("macvlan mode private"), bridge: ownMAC},
	{name: "macvlan vepa", make: onParent("macvlan mode vepa"), bridge: ownMAC},
	{name: "macvlan passthru", make: onParent("macvlan mode passthru"), bridge: ownMAC},
	{name: "ipvlan L2", make: onParent("ipvlan mode l2"), bridge: byIP},
	{name: "ipvlan L3", make: onParent("ipvlan mode l3"), bridge: byIP, redirect: noMAC},
	{name: "ipvlan L3S", make: onParent("ipvlan mode l3s"), bridge: byIP, redirect: noMAC},
	{name: "netkit L2", make: netkit(netlink.NETKIT_MODE_L2), bridge: "netkit"},
	{name: "netkit L3", make: netkit(netlink.NETKIT_MODE_L3), bridge: "netkit", redirect: noMAC},
	{name: "vlan", bridge: "vlan", make: func(p *testPod) error {
		p.ip("node:link add up0 type veth peer name out0")
		p.ip("node:link set up0 up")
		p.ip("node:link set out0 up")
		return errors.Join(
			p.tryIP("node:link add link up0 name eth0 netns "+p.request().Namespace+" type vlan id 7"),
			p.tryIP("node:link add link out0 name host0 type vlan id 7"))
	}},
	{name: "a network card", make: cards(0, 1), bridge: ownMAC},
	{name: "a network card that merges", make: cards(3, 2), bridge: ownMAC, lro: true},
}

// netkit makes what iproute2 of Debian 12 does not know.
func netkit(mode netlink.NetkitMode) func(*testPod) error {
	return func(p *testPod) error {
		return p.node.Do(func(netns) error {
			pair := &netlink.Netkit{LinkAttrs: netlink.LinkAttrs{Name: "host0"}, Mode: mode}
			pair.SetPeerAttrs(&netlink.LinkAttrs{Name: "eth0", Namespace: netlink.NsFd(p.pod.Fd())})
			return netlink.LinkAdd(pair)
		})
	}
}

// cards gives the pod and the node one each of the machine's cards, and moves them back, where they are a test's to move.
func cards(pods, nodes int) func(*testPod) error {
	return func(p *testPod) error {
		names := strings.Fields(os.Getenv(kindsNICs))
		if len(names) != 4 {
			return unix.EOPNOTSUPP
		}
		p.moveCard(names[pods], p.pod, "eth0")
		p.moveCard(names[nodes], p.node, "host0")
		return nil
	}
}

func (p *testPod) moveCard(name string, to netns, as string) {
	p.t.Helper()
	if out, err := exec.Command("ip", "link", "set", name, "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), to.Fd()), "name", as).CombinedOutput(); err != nil {
		p.t.Fatalf("move %s: %v: %s", name, err, out)
	}
	p.t.Cleanup(func() {
		if _, err := p.run(to, "ip", "link", "set", as, "down", "netns", "1", "name", name); err != nil {
			p.t.Errorf("move %s back: %v", name, err)
		}
	})
}

// merges reports whether the pod's link merges what it receives.
func (p *testPod) merges() bool {
	p.t.Helper()
	conn, err := rtnl.Open(p.namespace())
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	on, err := conn.LRO("eth0")
	if err != nil {
		p.t.Fatal(err)
	}
	return on
}

// unmakeable reports whether the kernel does not have a kind of link.
func unmakeable(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || strings.Contains(err.Error(), "Unknown device type") ||
		strings.Contains(err.Error(), "Operation not supported")
}

func (p *testPod) nodePath() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.node.Fd()) }

// tryIP runs an ip(8) command that the kernel may not be able to obey.
func (p *testPod) tryIP(command string) error {
	in := p.pod
	if rest, ok := strings.CutPrefix(command, "node:"); ok {
		in, command = p.node, rest
	}
	_, err := p.run(in, "ip", strings.Fields(command)...)
	return err
}

// TestGuestHasALinkOfEachKind gives a guest a link of each kind that the kernel has, and takes it back. test/kernels runs it
// on kernels that have the others.
func TestGuestHasALinkOfEachKind(t *testing.T) {
	for _, kind := range kindCases {
		p := newTestPod(t, "link delete eth0")
		if err := kind.make(p); err != nil {
			if !unmakeable(err) {
				t.Errorf("%s: %v", kind.name, err)
			}
			continue
		}
		for _, command := range []string{
			"node:addr add 10.244.1.1/24 dev host0", "node:addr add 2001:db8::1/64 dev host0 nodad", "node:link set host0 up",
			"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0", "addr add 2001:db8::5/64 dev eth0 nodad", "link set eth0 up",
			"route add default via 10.244.1.1",
		} {
			p.ip(command)
		}
		p.operational()
		t.Run(kind.name, func(t *testing.T) {
			p.t = t
			before := p.text()
			if p.merges() != kind.lro {
				t.Errorf("the link merges what it receives: %v", !kind.lro)
			}
			for _, binding := range []struct {
				name string
				joint
				refusal string
			}{
				{"bridge", joints["bridge"], kind.bridge}, {"redirect", joints["redirect"], kind.redirect},
				{"shared", joints["shared"], kind.redirect},
				{"redirect by tc", joints["redirect by tc"], kind.redirect}, {"auto", joint{binding: plan.BindingAuto}, kind.either()},
			} {
				p.joint = binding.joint
				_, err := Prepare(context.Background(), p.request())
				switch {
				case binding.refusal != "":
					if !IsRefusal(err) || !strings.Contains(err.Error(), binding.refusal) {
						t.Errorf("%s: %v, want a refusal that says %q", binding.name, err, binding.refusal)
					}
					continue
				case err != nil:
					t.Fatalf("%s: %v", binding.name, err)
				}
				if again := p.prepare(); len(again.Steps) > 0 {
					t.Errorf("%s: a second prepare found something to do: %v", binding.name, again.Steps)
				}
				if p.merges() {
					t.Errorf("%s: the link merges what it receives", binding.name)
				}
				p.reaches(t, binding.name)
				if binding.binding == plan.BindingShared && !kind.lro { // QEMU's vmxnet3 carries no TCP of IPv6, podnic or not
					t.Run(binding.name, p.shares)
					p.t = t
				}
				if binding.binding == plan.BindingAuto { // the namespace itself remembers
					if err := os.Remove(p.recordPath()); err != nil {
						t.Error(err)
					}
				}
				p.restore()
				if p.merges() != kind.lro {
					t.Errorf("%s: restored, the link merges what it receives: %v", binding.name, !kind.lro)
				}
			}
			p.same(before)
		})
	}
}

// either is in the refusal where the choice is podnic's, and empty where it has one.
func (k kindCase) either() string {
	if k.bridge == "" || k.redirect == "" {
		return ""
	}
	return k.redirect
}

// operational waits until the kernel has noticed the carrier of eth0, upon which it makes its IPv6 address. It announces that
// to sockets, which ip(8) has none of.
func (p *testPod) operational() {
	p.t.Helper()
	for deadline := time.Now().Add(podtest.Patience); ; time.Sleep(20 * time.Millisecond) {
		state := p.ip("-o link show eth0")
		if strings.Contains(state, " state UP ") || strings.Contains(state, " state UNKNOWN ") {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatal("eth0 does not become operational: ", state)
		}
	}
}

// reaches sends what a guest and its neighbours need of a link both ways: unicast, broadcast and multicast, of both families.
func (p *testPod) reaches(t *testing.T, binding string) {
	p.t.Helper()
	pod, node := p.macOf(p.pod, "eth0"), p.macOf(p.node, "host0")
	guest, host := p.endsOf(pod, node)
	datagram := slices.Concat(word(1000), word(1000), word(30), word(0), make([]byte, 22))
	gateway6, pod6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::5")
	for _, f := range []struct {
		what     string
		from, to port
		src, dst identity.MAC
		kind     int
		payload  []byte
	}{
		{"ARP for the guest", host, guest, node, broadcast, unix.ETH_P_ARP, arp(1, node, gatewayIP, podIP)},
		{"IPv4 to the guest", host, guest, node, pod, unix.ETH_P_IP, ipv4Packet(unix.IPPROTO_UDP, gatewayIP, podIP, datagram)},
		{"a neighbour's solicitation", host, guest, node, solicitedMAC(pod6), unix.ETH_P_IPV6, solicitation(gateway6, pod6)},
		{"IPv6 to the guest", host, guest, node, pod, unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_UDP, gateway6, pod6, udp6(gateway6, pod6, 1000, nil))},
		{"ARP of the guest", guest, host, pod, broadcast, unix.ETH_P_ARP, arp(1, pod, podIP, netip.MustParseAddr("10.244.1.77"))},
		{"IPv4 of the guest", guest, host, pod, node, unix.ETH_P_IP, ipv4Packet(unix.IPPROTO_UDP, podIP, gatewayIP, datagram)},
		{"the guest's solicitation", guest, host, pod, solicitedMAC(gateway6), unix.ETH_P_IPV6, solicitation(pod6, gateway6)},
		{"IPv6 of the guest", guest, host, pod, node, unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_UDP, pod6, gateway6, udp6(pod6, gateway6, 1000, nil))},
	} {
		if f.kind == unix.ETH_P_ARP {
			f.payload = append(f.payload, make([]byte, 18)...) // to 46 bytes, as hardware does
		}
		if !crosses(t, f.from, f.to, ethernet(f.dst, f.src, f.kind, f.payload)) {
			t.Errorf("%s: %s does not arrive", binding, f.what)
		}
	}
	guest.Close()
}

// shares has a guest and containers of the pod reach the node, be reached by it, and reach each other.
func (p *testPod) shares(t *testing.T) {
	p.t = t
	s := &sharedPod{testPod: p}
	s.serve(p.pod, "pod", 8080)
	s.serve(p.node, "node", 80)
	s.boot()
	s.serve(s.guest, "guest", 22, 80)
	s.meet()
}

// solicitation asks for a neighbour (RFC 4861, 4.3), whose solicited-node address (RFC 4291, 2.7.1) it is sent to.
func solicitation(src, target netip.Addr) []byte {
	to := netip.MustParseAddr("ff02::1:ff00:0").As16()
	of := target.As16()
	copy(to[13:], of[13:])
	group := netip.AddrFrom16(to)
	message := slices.Concat([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice())
	return ipv6Packet(unix.IPPROTO_ICMPV6, src, group, summed(src, group, unix.IPPROTO_ICMPV6, 2, message))
}

// solicitedMAC is the MAC of that group (RFC 2464, 7).
func solicitedMAC(target netip.Addr) identity.MAC {
	of := target.As16()
	return identity.MAC{0x33, 0x33, 0xff, of[13], of[14], of[15]}
}

func (p *testPod) macOf(in netns, name string) (mac identity.MAC) {
	p.t.Helper()
	err := in.Do(func(netns) error {
		link, err := net.InterfaceByName(name)
		if err == nil {
			copy(mac[:], link.HardwareAddr)
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return mac
}
