package network

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
	"golang.org/x/sys/unix"
)

// podStack is the pod's own IP stack: sockets that whoever reaches it is heard by.
type podStack struct {
	p       *testPod
	sockets []*net.UDPConn
}

const stackPort = 5000

func (p *testPod) listen() *podStack {
	p.t.Helper()
	s := &podStack{p: p}
	err := p.pod.Do(func(netns) error {
		for _, network := range []string{"udp4", "udp6"} {
			socket, err := net.ListenUDP(network, &net.UDPAddr{Port: stackPort})
			if err != nil {
				return err
			}
			p.t.Cleanup(func() { socket.Close() })
			s.sockets = append(s.sockets, socket)
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

var routedPrefix = netip.MustParsePrefix("2001:db8:bad::/64")

// attacks are frames to a MAC that make the pod's stack say or do something.
func attacks(dst identity.MAC) map[string][]byte {
	at := func(etherType int, payload []byte, tags ...[2]int) []byte {
		return ethernet(dst, identity.MAC{2, 0, 0, 0, 0, 0xaa}, etherType, payload, tags...)
	}
	question := udp6(senderIP6, everybody6, stackPort, []byte("question"))
	frames := map[string][]byte{
		"UDP over IPv6":              at(unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_UDP, senderIP6, everybody6, question)),
		"UDP over IPv6, two tags":    at(unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_UDP, senderIP6, everybody6, question), [2]int{unix.ETH_P_8021Q}, [2]int{unix.ETH_P_8021Q}),
		"router advertisement":       at(unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_ICMPV6, senderIP6, everybody6, routerAdvertisement(senderIP6, everybody6, routedPrefix))),
		"ARP for the pod's address":  at(unix.ETH_P_ARP, arp(1, identity.MAC{2, 0, 0, 0, 0, 0xaa}, senderIP, podIP)),
		"ARP for an address of ours": at(unix.ETH_P_ARP, arp(1, identity.MAC{2, 0, 0, 0, 0, 0xaa}, senderIP, netip.MustParseAddr("10.245.0.5"))),
	}
	for _, to := range []netip.Addr{podIP, identity.ServerLinkLocal, everybody4} {
		frames["UDP to "+to.String()] = at(unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, senderIP, to, 1000, stackPort))
	}
	return frames
}

// reached says what the stack has noticed of the frames that were sent until now.
func (s *podStack) reached() string {
	s.p.t.Helper()
	var found []string
	b := make([]byte, 2000)
	for _, socket := range s.sockets {
		if err := socket.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			s.p.t.Fatal(err)
		}
		for {
			_, from, err := socket.ReadFrom(b)
			if err != nil {
				break
			}
			found = append(found, fmt.Sprintf("a socket of the pod hears %s", from))
		}
	}
	for _, what := range []string{"-6 -o addr", "-6 route"} {
		for line := range strings.Lines(s.p.ip(what)) {
			if strings.Contains(line, "2001:db8:bad:") || strings.Contains(line, "fe80::66") {
				found = append(found, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(found, "\n")
}

// wirings are all ways in which guest and pod network are joined, each as a function that does it.
var wirings = map[string]func(p *testPod){
	"packet": func(p *testPod) { p.wire(plan.Options{Socket: plan.SocketPacket}) },
	"udp":    func(p *testPod) { p.wire(plan.Options{Socket: plan.SocketUDP}) },
	"IPv6 served": func(p *testPod) {
		p.ip("-6 addr add fd00:10:244:1::5/64 dev eth0 nodad")
		p.wire(plan.Options{IPv6: plan.IPv6Serve})
	},
	"IPv6 off": func(p *testPod) { p.wire(plan.Options{IPv6: plan.IPv6Off}) },
	"layer 2": func(p *testPod) {
		p.ip("addr flush dev eth0")
		p.wire(plan.Options{Interface: "eth0"})
	},
	"managedTap": func(p *testPod) {
		p.provide(managedTap())
		p.wireAsKubeVirt()
	},
	"redirect":      func(p *testPod) { p.wire(plan.Options{Binding: plan.BindingRedirect}) },
	"redirect, udp": func(p *testPod) { p.wire(plan.Options{Binding: plan.BindingRedirect, Socket: plan.SocketUDP}) },
	"redirect, layer 2": func(p *testPod) {
		p.ip("addr flush dev eth0")
		p.wire(plan.Options{Interface: "eth0", Binding: plan.BindingRedirect})
	},
	"redirect by tc": func(p *testPod) { p.wire(byTC) },
	"redirect by tc, udp": func(p *testPod) {
		p.wire(plan.Options{Binding: plan.BindingRedirect, TC: true, Socket: plan.SocketUDP})
	},
	"shared, udp": func(p *testPod) { p.wire(plan.Options{Binding: plan.BindingShared, Socket: plan.SocketUDP}) },
	"redirect by tc, layer 2": func(p *testPod) {
		p.ip("addr flush dev eth0")
		p.wire(plan.Options{Interface: "eth0", Binding: plan.BindingRedirect, TC: true})
	},
}

// byTC is a redirect as on a kernel whose nftables cannot.
var byTC = plan.Options{Binding: plan.BindingRedirect, TC: true}

// joinCase is how a link of a kind and a tap are joined.
type joinCase struct {
	name, kind string
	options    plan.Options
}

// joins are ways to join guest and pod network, for tests of what passes between the two.
var joins = []joinCase{
	{"bridge", "veth", plan.Options{}},
	{"redirect", "veth", plan.Options{Binding: plan.BindingRedirect}},
	{"redirect of macvlan bridge", "bridge", plan.Options{Binding: plan.BindingRedirect}},
	{"redirect of macvlan private", "private", plan.Options{Binding: plan.BindingRedirect}},
	{"redirect of macvlan vepa", "vepa", plan.Options{Binding: plan.BindingRedirect}},
	{"redirect of macvlan passthru", "passthru", plan.Options{Binding: plan.BindingRedirect}},
	{"redirect by tc", "veth", byTC},
	{"redirect by tc of macvlan bridge", "bridge", byTC},
}

// sharedJoin is for what a shared address changes nothing of.
var sharedJoin = joinCase{"shared", "veth", plan.Options{Binding: plan.BindingShared}}

// fewJoins have one of a kind, where it is of no matter how a macvlan deals with others.
var fewJoins = slices.Concat(joins[:3], joins[6:])

func (p *testPod) wire(o plan.Options) {
	p.t.Helper()
	req := p.request()
	req.Options = sharing(o)
	if _, err := Prepare(context.Background(), req); err != nil {
		p.t.Fatal(err)
	}
}

// TestReservedAddressesDoNotReachThePod sends frames to the sixteen group addresses that bridges treat apart (IEEE 802.1Q,
// 8.6.3), and to everybody, from either side.
func TestReservedAddressesDoNotReachThePod(t *testing.T) {
	for name, wire := range wirings {
		t.Run(name, func(t *testing.T) {
			p := newTestPod(t, append(shapes["bridge"], "link add net1 type veth peer name net1p", "addr add 10.245.0.5/24 dev net1",
				"link set net1 up", "link set net1p up")...)
			wire(p)
			stack := p.listen()
			guest, node := p.ends()
			destinations := []identity.MAC{broadcast}
			for last := range byte(16) {
				destinations = append(destinations, identity.MAC{1, 0x80, 0xc2, 0, 0, last})
			}
			for _, side := range []struct {
				name     string
				from, to port
				src      identity.MAC
			}{{"guest", guest, node, podMAC}, {"pod network", node, guest, nodeMAC}} {
				for _, dst := range destinations {
					frames := attacks(dst)
					if strings.HasPrefix(name, "shared") {
						delete(frames, "ARP for the pod's address") // which the pod's stack answers as well as the guest
					}
					for what, frame := range frames {
						if err := side.from.send(frame); err != nil {
							t.Fatal(err)
						}
						// The stack's answer would come back before what is sent later crosses and returns.
						if back := answered(t, side.from, side.to, side.src); len(back) > 0 {
							t.Errorf("%s, %s to %s is answered: %x", side.name, what, dst, back)
						}
					}
					if got := stack.reached(); got != "" {
						t.Fatalf("from the %s, to %s:\n%s", side.name, dst, got)
					}
				}
			}
		})
	}
}

// answered waits until what was sent into an end has been handled, and returns a frame that came back out of it.
func answered(t *testing.T, from, to port, src identity.MAC) (answer []byte) {
	t.Helper()
	there := ethernet(broadcast, src, 0x88b5, bytes.Repeat([]byte{7}, 50))
	back := ethernet(broadcast, identity.MAC{2, 0, 0, 0, 0, 0xbb}, 0x88b5, bytes.Repeat([]byte{8}, 50))
	for _, hop := range []struct {
		from, to port
		frame    []byte
	}{{from, to, there}, {to, from, back}} {
		deadline := time.Now().Add(podtest.Patience)
		if err := hop.to.until(deadline); err != nil {
			t.Fatal(err)
		}
		if err := hop.from.send(hop.frame); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2000)
		for {
			n, err := hop.to.receive(b)
			if err != nil {
				t.Fatalf("the marker does not come: %v", err)
			}
			if bytes.Equal(b[:n], hop.frame) {
				break
			}
			if hop.to == from && n >= 12 && bytes.Equal(b[:6], []byte{2, 0, 0, 0, 0, 0xaa}) {
				answer = bytes.Clone(b[:n])
			}
		}
	}
	return answer
}

// TestWhatCrossesToReservedAddresses is what ADR 20 decides: LLDP crosses, and DHCP to its address does not. A
// redirect passes all of them.
func TestWhatCrossesToReservedAddresses(t *testing.T) {
	for _, o := range []plan.Options{
		{Socket: plan.SocketPacket}, {Socket: plan.SocketUDP},
		{Binding: plan.BindingRedirect}, {Binding: plan.BindingRedirect, Socket: plan.SocketUDP}, byTC,
	} {
		t.Run(fmt.Sprint(o.Binding, o.TC, o.Socket), func(t *testing.T) {
			p := newTestPod(t, shapes["bridge"]...)
			p.wire(o)
			guest, node := p.ends()
			for last := range byte(16) {
				dst := identity.MAC{1, 0x80, 0xc2, 0, 0, last}
				lldp := func(src identity.MAC) []byte { return ethernet(dst, src, unix.ETH_P_LLDP, make([]byte, 50)) }
				want := last == 0 || last == 0xe || o.Binding == plan.BindingRedirect // there is no bridge that takes them
				if got := crosses(t, guest, node, lldp(podMAC)); got != want {
					t.Errorf("from the guest, to %s: crosses %v", dst, got)
				}
				if got := crosses(t, node, guest, lldp(nodeMAC)); got != want {
					t.Errorf("to the guest, to %s: crosses %v", dst, got)
				}
				if crosses(t, guest, node, ethernet(dst, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, senderIP, everybody4, 67, 68))) {
					t.Errorf("the guest's DHCP to %s crosses", dst)
				}
			}
		})
	}
}
