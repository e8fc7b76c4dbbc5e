package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
	"golang.org/x/sys/unix"
)

// ipv6Shape is a way to send a message over IPv6.
type ipv6Shape struct {
	name string
	tags [][2]int
	snap bool
	// packets are one packet, or its fragments.
	packets func(next byte, src, dst netip.Addr, payload []byte) [][]byte
	// hides says that the filter drops the shape whatever is in it, but for other protocols than UDP and ICMPv6 where it shows
	// that.
	hides, shows bool
	// unicast says that receivers take it only if it is sent to them alone.
	unicast bool
}

// extended puts extension headers of 8 bytes in front of a payload, the first one outermost.
func extended(next byte, payload []byte, kinds ...byte) (byte, []byte) {
	for _, kind := range slices.Backward(kinds) {
		header := []byte{next, 0, 1, 4, 0, 0, 0, 0} // PadN
		switch kind {
		case unix.IPPROTO_ROUTING:
			header = []byte{next, 0, 253, 0, 0, 0, 0, 0} // of a type for experiments (RFC 4727), no segment left
		case unix.IPPROTO_FRAGMENT:
			header = []byte{next, 0, 0, 0, 0, 0, 0, 9} // the only one (RFC 6946)
		}
		next, payload = kind, slices.Concat(header, payload)
	}
	return next, payload
}

func inOne(kinds ...byte) func(byte, netip.Addr, netip.Addr, []byte) [][]byte {
	return func(next byte, src, dst netip.Addr, payload []byte) [][]byte {
		next, payload = extended(next, payload, kinds...)
		return [][]byte{ipv6Packet(int(next), src, dst, payload)}
	}
}

// cut fragments behind extension headers, at a number of bytes.
func cut(at int, backward bool, kinds ...byte) func(byte, netip.Addr, netip.Addr, []byte) [][]byte {
	return func(next byte, src, dst netip.Addr, payload []byte) [][]byte {
		next, payload = extended(next, payload, kinds...)
		id := binary.BigEndian.Uint16(payload[len(payload)-2:]) // another for each message
		fragment := func(offset int, part []byte, more byte) []byte {
			header := slices.Concat([]byte{next, 0}, []byte{byte(offset >> 8), byte(offset) | more}, word(0), word(int(id)))
			return ipv6Packet(unix.IPPROTO_FRAGMENT, src, dst, append(header, part...))
		}
		parts := [][]byte{fragment(0, payload[:at], 1), fragment(at, payload[at:], 0)}
		if backward {
			slices.Reverse(parts)
		}
		return parts
	}
}

const (
	hopByHop    = unix.IPPROTO_HOPOPTS
	routing     = unix.IPPROTO_ROUTING
	fragments   = unix.IPPROTO_FRAGMENT
	destination = unix.IPPROTO_DSTOPTS
)

func tags(kind int, ids ...int) (all [][2]int) {
	for _, id := range ids {
		all = append(all, [2]int{kind, id})
	}
	return all
}

var ipv6Shapes = []ipv6Shape{
	{name: "plain", packets: inOne()},
	{name: "priority-tagged", packets: inOne(), tags: tags(unix.ETH_P_8021Q, 0)},
	{name: "tagged", packets: inOne(), tags: tags(unix.ETH_P_8021Q, 5)},
	{name: "service-tagged", packets: inOne(), tags: tags(unix.ETH_P_8021AD, 0)},
	{name: "two priority tags", packets: inOne(), tags: tags(unix.ETH_P_8021Q, 0, 0)},
	{name: "two tags", packets: inOne(), tags: tags(unix.ETH_P_8021Q, 5, 6)},
	{name: "three tags", packets: inOne(), tags: tags(unix.ETH_P_8021Q, 0, 0, 0), hides: true},
	{name: "hop-by-hop", packets: inOne(hopByHop)},
	{name: "destination", packets: inOne(destination)},
	{name: "routing", packets: inOne(routing), unicast: true},
	{name: "stacked", packets: inOne(hopByHop, destination, destination)},
	{name: "an only fragment", packets: inOne(fragments)},
	{name: "an only fragment, destination", packets: inOne(fragments, destination)},
	{name: "an only fragment, priority-tagged", packets: inOne(fragments), tags: tags(unix.ETH_P_8021Q, 0)},
	{name: "hop-by-hop, two priority tags", packets: inOne(hopByHop), tags: tags(unix.ETH_P_8021Q, 0, 0), hides: true},
	{name: "destination, two priority tags", packets: inOne(destination), tags: tags(unix.ETH_P_8021Q, 0, 0), hides: true},
	{name: "an only fragment, two priority tags", packets: inOne(fragments), tags: tags(unix.ETH_P_8021Q, 0, 0), hides: true},
	{name: "two fragments", packets: cut(16, false)},
	{name: "two fragments, last first", packets: cut(16, true)},
	{name: "two fragments, the first of headers", packets: cut(8, false, destination), hides: true, shows: true},
	{name: "two fragments, the first of headers, last first", packets: cut(8, true, destination), hides: true, shows: true},
	{name: "two fragments, a chain of headers cut", packets: cut(8, false, destination, destination), hides: true},
	{name: "SNAP", packets: inOne(), snap: true, hides: true},
}

func (s ipv6Shape) frames(dstMAC, srcMAC identity.MAC, next byte, src, dst netip.Addr, payload []byte) [][]byte {
	var frames [][]byte
	for _, p := range s.packets(next, src, dst, payload) {
		if s.snap {
			p = slices.Concat([]byte{0xaa, 0xaa, 3, 0, 0, 0}, word(unix.ETH_P_IPV6), p)
			frames = append(frames, ethernet(dstMAC, srcMAC, len(p), p, s.tags...))
			continue
		}
		frames = append(frames, ethernet(dstMAC, srcMAC, unix.ETH_P_IPV6, p, s.tags...))
	}
	return frames
}

// icmp6 is a message with a checksum, of 8 bytes and a body.
func icmp6(src, dst netip.Addr, kind byte, body ...[]byte) []byte {
	return summed(src, dst, unix.IPPROTO_ICMPV6, 2, slices.Concat(append([][]byte{{kind, 0, 0, 0, 0, 0, 0, 0}}, body...)...))
}

var (
	linkLocalPod  = netip.MustParseAddr("fe80::858:aff:fef4:105") // of podMAC
	linkLocalNode = netip.MustParseAddr("fe80::858:aff:fef4:101") // of nodeMAC
	multicast6    = identity.MAC{0x33, 0x33, 0, 0, 0, 1}
)

// servedIPv6 is a pod of both families with a router.
var servedIPv6 = []string{
	"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0",
	"-6 addr add fd00:10:244:1::5/64 dev eth0 nodad",
	"node:-6 addr add fd00:10:244:1::1/64 dev host0 nodad",
	"link set eth0 up", "node:link set host0 up",
	"route add default via 10.244.1.1", "-6 route add default via fd00:10:244:1::1",
}

// message6 is what is sent in a shape.
type message6 struct {
	name    string
	next    byte
	payload func(src, dst netip.Addr) []byte
	// fromGuest and toGuest say whether it crosses.
	fromGuest, toGuest bool
}

var messages6 = []message6{
	{"router solicitation", unix.IPPROTO_ICMPV6, func(src, dst netip.Addr) []byte { return icmp6(src, dst, 133, make([]byte, 24)) }, false, false},
	{"router advertisement", unix.IPPROTO_ICMPV6, func(src, dst netip.Addr) []byte { return routerAdvertisement(src, dst, routedPrefix) }, false, false},
	{"redirect", unix.IPPROTO_ICMPV6, func(src, dst netip.Addr) []byte { return icmp6(src, dst, 137, make([]byte, 32)) }, false, true},
	{"neighbour advertisement", unix.IPPROTO_ICMPV6, func(src, dst netip.Addr) []byte { return icmp6(src, dst, 136, make([]byte, 24)) }, true, true},
	{"neighbour solicitation", unix.IPPROTO_ICMPV6, func(src, dst netip.Addr) []byte { return icmp6(src, dst, 135, podIP6.AsSlice()) }, true, true},
	{"echo request", unix.IPPROTO_ICMPV6, func(src, dst netip.Addr) []byte { return icmp6(src, dst, 128, make([]byte, 24)) }, true, true},
	{"multicast listener report", unix.IPPROTO_ICMPV6, func(src, dst netip.Addr) []byte { return icmp6(src, dst, 143, make([]byte, 24)) }, true, true},
	{"DHCPv6 to a server", unix.IPPROTO_UDP, func(src, dst netip.Addr) []byte { return udp6(src, dst, 547, make([]byte, 32)) }, false, false},
	{"DHCPv6 to a client", unix.IPPROTO_UDP, func(src, dst netip.Addr) []byte { return udp6(src, dst, 546, make([]byte, 32)) }, false, false},
	{"other UDP", unix.IPPROTO_UDP, func(src, dst netip.Addr) []byte { return udp6(src, dst, 53, make([]byte, 32)) }, true, true},
	{"TCP to port 547", unix.IPPROTO_TCP, func(src, dst netip.Addr) []byte {
		return summed(src, dst, unix.IPPROTO_TCP, 16, slices.Concat(word(1000), word(547), make([]byte, 8), []byte{0x50, 2}, word(0xffff), word(0), word(0), make([]byte, 16)))
	}, true, true},
}

// TestRouterDiscoveryAndDHCPv6DoNotCrossInAnyShape sends messages through the wiring in both directions, in every shape of
// VLAN tags, extension headers and fragments. Whatever is none of these crosses, unless its shape hides what it holds; and
// of those that do not cross, so much is missing that no receiver can put them together.
func TestRouterDiscoveryAndDHCPv6DoNotCrossInAnyShape(t *testing.T) {
	forServedPod(t, bothSockets, nothingOfRoutersCrosses)
}

// With a UDP socket the filter makes messages into others, besides.
var packetAlone, bothSockets = []string{plan.SocketPacket}, []string{plan.SocketPacket, plan.SocketUDP}

// forServedPod has a pod of both families for each way to join guest and pod network, and each kind of socket that serves IPv6
// there.
func forServedPod(t *testing.T, sockets []string, test func(t *testing.T, p *testPod, o plan.Options)) {
	forEachJoint(t, func(t *testing.T, joint joint) {
		for _, socket := range sockets {
			if socket == plan.SocketUDP && len(joint.without) > 0 {
				continue
			}
			t.Run(socket, func(t *testing.T) {
				t.Parallel()
				p := newTestPod(t, servedIPv6...)
				p.joint = joint
				p.settle()
				test(t, p, plan.Options{Binding: joint.binding, Socket: socket, IPv6: plan.IPv6Serve})
			})
		}
	})
}

func nothingOfRoutersCrosses(t *testing.T, p *testPod, o plan.Options) {
	p.wireWith(o)
	nothingOfRoutersCrossesWired(t, p, o)
}

// TestRouterDiscoveryAndDHCPv6DoNotCrossKubeVirtsBridge is the same behind a wiring of KubeVirt's, which comes after the filter.
func TestRouterDiscoveryAndDHCPv6DoNotCrossKubeVirtsBridge(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, servedIPv6...)
	p.settle()
	p.provide(managedTap())
	p.wireAsKubeVirt()
	nothingOfRoutersCrossesWired(t, p, plan.Options{Binding: plan.BindingManagedTap, Socket: plan.SocketUDP})
}

func nothingOfRoutersCrossesWired(t *testing.T, p *testPod, o plan.Options) {
	guest, node := p.ends()
	for _, way := range []struct {
		name     string
		from, to port
		mac      identity.MAC
		src      netip.Addr
		crosses  func(message6) bool
	}{
		{"from the guest", guest, node, podMAC, linkLocalPod, func(m message6) bool { return m.fromGuest }},
		{"to the guest", node, guest, nodeMAC, linkLocalNode, func(m message6) bool { return m.toGuest }},
	} {
		for _, m := range messages6 {
			for _, s := range ipv6Shapes {
				sent, came := 0, 0
				for _, frame := range s.frames(multicast6, way.mac, m.next, way.src, everybody6, m.payload(way.src, everybody6)) {
					sent++
					if crosses(t, way.from, way.to, frame) {
						came++
					}
				}
				// Where the kernel finds another protocol than UDP and ICMPv6, no port or type need be in sight.
				want := way.crosses(m) && (!s.hides || s.shows && m.next == unix.IPPROTO_TCP)
				if o.Binding == plan.BindingShared { // by which a port tells whose it is, and of a guest no tag may hide one
					want = want && !s.shows && !(way.from == port(guest) && s.name == "two priority tags")
				}
				if (came == sent) != want {
					t.Errorf("%s, %s, %s: %d of %d frames cross", way.name, m.name, s.name, came, sent)
				}
			}
		}
	}
}

// TestNeighboursThatPodnicAnswersForAreNotAskedOutside has a router that nobody answers for.
func TestNeighboursThatPodnicAnswersForAreNotAskedOutside(t *testing.T) {
	forServedPod(t, bothSockets, noAnsweredNeighbourIsAskedOutside)
}

func noAnsweredNeighbourIsAskedOutside(t *testing.T, p *testPod, o plan.Options) {
	p.ip("node:-6 addr flush dev host0 scope link")
	p.ip("neigh add fd00:10:244:1::99 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent")
	p.wireWith(o)
	guest, node := p.ends()
	for target, answered := range map[netip.Addr]bool{
		identity.VirtualRouter:                        true,
		identity.ServerLinkLocal6:                     true,
		netip.MustParseAddr("fd00:10:244:1::99"):      true,
		netip.MustParseAddr("fe80::706f:646e:6963:9"): false,
		gatewayIP6: false,
	} {
		body := icmp6(linkLocalPod, target, 135, target.AsSlice())
		for _, s := range ipv6Shapes[:3] {
			for _, dst := range []identity.MAC{multicast6, nodeMAC} { // a probe of a neighbour that is known goes to it alone
				for _, frame := range s.frames(dst, podMAC, unix.IPPROTO_ICMPV6, linkLocalPod, target, body) {
					if got := crosses(t, guest, node, frame); got == answered {
						t.Errorf("the guest asks %s for %s, %s: crosses %v", dst, target, s.name, got)
					}
				}
			}
		}
		frame := ethernet(multicast6, nodeMAC, unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_ICMPV6, linkLocalNode, target, icmp6(linkLocalNode, target, 135, target.AsSlice())))
		if !crosses(t, node, guest, frame) {
			t.Errorf("the node asks for %s, and it does not cross", target)
		}
	}
}

// TestNoIPv6CrossesWhereItIsOff lets IPv4 through.
func TestNoIPv6CrossesWhereItIsOff(t *testing.T) {
	forServedPod(t, packetAlone, func(t *testing.T, p *testPod, o plan.Options) {
		o.Interface, o.IPv6 = "eth0", plan.IPv6Off
		noIPv6Crosses(t, p, o)
		if o.Binding == plan.BindingShared {
			return // what has no address is not shared
		}
		p.restore()
		p.ip("-4 addr flush dev eth0") // and then it is served nothing
		noIPv6Crosses(t, p, o)
	})
}

func noIPv6Crosses(t *testing.T, p *testPod, o plan.Options) {
	p.wireWith(o)
	guest, node := p.ends()
	for _, m := range messages6 {
		for _, s := range ipv6Shapes {
			for from, to := range map[port]port{guest: node, node: guest} {
				for _, frame := range s.frames(multicast6, podMAC, m.next, linkLocalPod, everybody6, m.payload(linkLocalPod, everybody6)) {
					if crosses(t, from, to, frame) {
						t.Errorf("%s, %s: crosses", m.name, s.name)
					}
				}
			}
		}
	}
	if !crosses(t, guest, node, ethernet(broadcast, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_TCP, podIP, gatewayIP, 1000, 80))) {
		t.Error("IPv4 does not cross")
	}
	guest.Close()
	node.Close()
}

// kernelBehind puts a kernel behind the tap, as a guest that takes every advertisement: it has the guest's MAC.
func (p *testPod) kernelBehind(guest tapPort) netns {
	p.t.Helper()
	host, err := ns.TempNetNS()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { host.Close() })
	inside := openTap(p.t, host, "g0")
	for _, command := range [][]string{
		{"sysctl", "-qw", "net.ipv6.conf.g0.accept_ra=2", "net.ipv6.conf.g0.accept_dad=0", "net.ipv6.conf.g0.suppress_frag_ndisc=0", "net.ipv6.conf.g0.max_addresses=0"},
		{"ip", "link", "set", "g0", "address", podMAC.String(), "up"},
	} {
		if _, err := p.run(host, command[0], command[1:]...); err != nil {
			p.t.Fatalf("%s: %v", command, err)
		}
	}
	if err := guest.until(time.Time{}); err != nil {
		p.t.Fatal(err)
	}
	for from, to := range map[tapPort]tapPort{guest: inside, inside: guest} {
		go func() { // until the tap of either side is closed
			b := make([]byte, 1<<16)
			for {
				n, err := from.Read(b)
				if err != nil {
					return
				}
				if _, err := to.Write(b[:n]); err != nil && !errors.Is(err, unix.EIO) {
					return
				}
			}
		}()
	}
	return host
}

// TestNoAdvertisementOfThePodNetworkReachesTheGuestsKernel sends advertisements of every shape to a kernel behind the tap,
// each with a prefix of its own, and looks for the addresses that it makes of them. Without the filter it takes most.
func TestNoAdvertisementOfThePodNetworkReachesTheGuestsKernel(t *testing.T) {
	forServedPod(t, packetAlone, noAdvertisementReachesTheKernel)
}

func noAdvertisementReachesTheKernel(t *testing.T, p *testPod, o plan.Options) {
	p.wireWith(o)
	guest, node := p.ends()
	host := p.kernelBehind(guest)
	flush := func(from byte) {
		t.Helper()
		for n, s := range ipv6Shapes {
			dstMAC, dst := multicast6, everybody6
			if s.unicast {
				dstMAC, dst = podMAC, linkLocalPod
			}
			prefix := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0xba, from, 0, byte(n)}), 64)
			payload := routerAdvertisement(linkLocalNode, dst, prefix)
			payload = summed(linkLocalNode, dst, unix.IPPROTO_ICMPV6, 2, append(payload[:2], append([]byte{0, 0}, append(payload[4:], 14, 1, 1, 2, 3, 4, from, byte(n))...)...)) // a nonce (RFC 3971)
			for _, frame := range s.frames(dstMAC, nodeMAC, unix.IPPROTO_ICMPV6, linkLocalNode, dst, payload) {
				if err := node.send(frame); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	taken := func(from byte) []string {
		t.Helper()
		out, err := p.run(host, "ip", "-6", "-o", "addr", "show", "dev", "g0")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for n, s := range ipv6Shapes {
			if strings.Contains(out, fmt.Sprintf("2001:db8:ba%02x:%x:", from, n)) {
				names = append(names, s.name)
			}
		}
		return names
	}
	// What the kernel answers an echo request after, it has handled.
	last := func(from byte) {
		t.Helper()
		for deadline := time.Now().Add(podtest.Patience); ; {
			echo := icmp6(linkLocalNode, linkLocalPod, 128, []byte{from})
			if err := node.send(ethernet(podMAC, nodeMAC, unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_ICMPV6, linkLocalNode, linkLocalPod, echo))); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 2000)
			if err := node.until(time.Now().Add(100 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			for {
				n, err := node.receive(b)
				if err != nil {
					break
				}
				if n > 62 && b[54] == 129 && bytes.Equal(b[6:12], podMAC[:]) && b[62] == from {
					return
				}
			}
			if time.Now().After(deadline) {
				t.Fatal("the kernel behind the tap does not answer")
			}
		}
	}
	flush(1)
	last(1)
	if names := taken(1); len(names) > 0 {
		t.Errorf("the guest's kernel takes: %s", strings.Join(names, "; "))
	}
	if o.Binding != plan.BindingBridge {
		return // without its filter nothing crosses
	}
	if _, err := p.run(p.pod, "nft", "delete", "table", "bridge", "podnic-eth0"); err != nil {
		t.Fatal(err)
	}
	flush(2)
	last(2)
	names := taken(2)
	t.Logf("without the filter it takes: %s", strings.Join(names, "; "))
	if len(names) < 12 {
		t.Errorf("without the filter it takes %d", len(names))
	}
}
