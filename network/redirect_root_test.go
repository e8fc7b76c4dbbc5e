package network

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
	"golang.org/x/sys/unix"
)

// arrivals are the frames that come out of an end until one arrives that was sent into the other.
func arrivals(t *testing.T, from, to port, src identity.MAC) (frames [][]byte) {
	t.Helper()
	marker := ethernet(broadcast, src, 0x88b5, bytes.Repeat([]byte{9}, 50))
	if err := errors.Join(to.until(time.Now().Add(podtest.Patience)), sendInOrder(from, marker)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1<<16); ; {
		n, err := to.receive(b)
		if err != nil {
			t.Fatalf("the marker does not come: %v", err)
		}
		if bytes.Equal(b[:n], marker) {
			return frames
		}
		frames = append(frames, bytes.Clone(b[:n]))
	}
}

// ofPod are the frames that a source in the pod made.
func ofPod(frames [][]byte) [][]byte {
	return slices.DeleteFunc(frames, func(f []byte) bool { return identity.MAC(f[6:12]) != podMAC })
}

// podSays has the pod's stack and its packet sockets send whatever they can by eth0, and returns what its calls failed
// with.
func (p *testPod) podSays() map[string]error {
	p.t.Helper()
	failed := make(map[string]error)
	err := p.pod.Do(func(netns) error {
		dial := func(network, address string) {
			conn, err := net.Dial(network, address)
			if err == nil {
				_, err = conn.Write([]byte("hello"))
				conn.Close()
			}
			failed[network] = err
		}
		dial("tcp4", "203.0.113.7:80")
		dial("tcp6", "[2001:db8::9]:80")
		dial("udp4", "10.244.1.9:53") // a neighbour, for ARP
		dial("udp6", "[2001:db8::9]:53")
		conn, err := packetSocket("eth0")
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, f := range [][]byte{
			ethernet(broadcast, podMAC, 0x88b6, make([]byte, 50)),
			ethernet(broadcast, podMAC, unix.ETH_P_ARP, arp(1, podMAC, podIP, gatewayIP)),
			ethernet(broadcast, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, podIP, everybody4, 67, 68)),
		} {
			_, _ = conn.WriteTo(f, &packet.Addr{HardwareAddr: broadcast.HardwareAddr()}) // the hook's drop is an error or none
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return failed
}

// dualStack is a pod of both families, without the link-local traffic of a link that has just come up.
var dualStack = []string{
	"addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0", "addr add 2001:db8::5/64 dev eth0 nodad",
	"link set eth0 up", "node:link set host0 up", "route add default via 10.244.1.1", "-6 route add default via 2001:db8::1",
}

// TestPodsOwnStackIsSilent has a pod that gave its interface away try to reach the pod network: its processes fail at once,
// each with an error that no time-out has, and nothing of it is on the wire.
func TestPodsOwnStackIsSilent(t *testing.T) {
	for _, j := range joins[1:] {
		for name, facts := range map[string]plan.RedirectFacts{"": {Mark: 0x1badcafe}, ", no egress": {}} {
			if j.options.TC && facts.Mark == 0 {
				continue // it needs no egress hook of nftables
			}
			t.Run(j.name+name, func(t *testing.T) {
				t.Parallel()
				p := newTestPodOf(t, j.kind, dualStack...)
				if j.options.TC {
					p.wire(j.options)
				} else {
					p.redirect(j.options, facts)
				}
				guest, node := p.ends()
				failed := p.podSays()
				for network, want := range map[string]error{
					"tcp4": unix.ECONNREFUSED, "tcp6": unix.ECONNREFUSED, "udp4": unix.EPERM, "udp6": unix.EPERM,
				} {
					if !errors.Is(failed[network], want) {
						t.Errorf("%s: %v", network, failed[network])
					}
				}
				said := ofPod(arrivals(t, guest, node, identity.MAC{2, 0, 0, 0, 0, 0xbb}))
				if facts.Mark == 0 { // what packet sockets send is past the hooks that there are
					said = slices.DeleteFunc(said, func(f []byte) bool { return bytes.HasSuffix(f, make([]byte, 8)) || f[13] == 6 })
				}
				for _, f := range said {
					t.Errorf("the pod's stack says %x", f)
				}
			})
		}
	}
}

// zone is eth0's for an IPv6 address, by its index: package net remembers the indices of names for a minute, and they are those
// of whatever namespace it saw last.
func (p *testPod) zone() string {
	p.t.Helper()
	var zone string
	err := p.pod.Do(func(netns) error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			zone = strconv.Itoa(link.Index)
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return zone
}

// TestPodsDHCPClientsGoOn sends as DHCP clients of the pod do, by UDP and by a packet socket, and answers them. The guest
// hears nothing of DHCP, and of DHCPv6 a copy of what is said where nobody serves that to it.
func TestPodsDHCPClientsGoOn(t *testing.T) {
	runs := slices.Clone(joins[1:])
	for i, j := range joins[1:] {
		runs[i].options.IPv6 = plan.IPv6Pass
		j.name, j.options.IPv6 = j.name+", IPv6 served", plan.IPv6Serve
		runs = append(runs, j)
	}
	for _, j := range runs {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			p := newTestPodOf(t, j.kind, dualStack...)
			p.waitFor("-6 addr show dev eth0 scope link", "fe80::", func() {})
			p.settle() // the reply is to an address that has passed duplicate address detection
			p.wire(j.options)
			var want []string
			if j.options.IPv6 == plan.IPv6Pass {
				want = []string{"DHCPv6"}
			}
			guest, node := p.ends()
			var clients []*net.UDPConn
			err := p.pod.Do(func(netns) error {
				for _, c := range []struct{ network, from, to string }{
					{"udp4", "0.0.0.0:68", "255.255.255.255:67"}, {"udp6", "[::]:546", "[ff02::1:2%" + p.zone() + "]:547"},
				} {
					var own *net.UDPConn
					config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
						return errors.Join(raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "eth0") }), err)
					}}
					conn, err := config.ListenPacket(context.Background(), c.network, c.from)
					if err != nil {
						return err
					}
					own = conn.(*net.UDPConn)
					t.Cleanup(func() { own.Close() })
					clients = append(clients, own)
					to, err := net.ResolveUDPAddr(c.network, c.to)
					if err != nil {
						return err
					}
					if _, err := own.WriteTo([]byte("by udp"), to); err != nil {
						return fmt.Errorf("%s: %w", c.network, err)
					}
				}
				conn, err := packetSocket("eth0")
				if err != nil {
					return err
				}
				defer conn.Close()
				request := ethernet(broadcast, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, podIP, everybody4, 68, 67))
				_, err = conn.WriteTo(request, &packet.Addr{HardwareAddr: broadcast.HardwareAddr()})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if said := ofPod(arrivals(t, guest, node, identity.MAC{2, 0, 0, 0, 0, 0xbb})); len(said) != 3 {
				t.Errorf("the pod's clients say, on the wire: %x", said)
			}
			linkLocal := netip.MustParseAddr("fe80::858:aff:fef4:105") // of the pod's MAC
			reply6 := slices.Concat(word(547), word(546), word(13), word(0), []byte("reply"))
			reply6 = summed(senderIP6, linkLocal, unix.IPPROTO_UDP, 6, reply6)
			reply4 := ipv4(unix.IPPROTO_UDP, gatewayIP, podIP, 67, 68)
			for _, f := range [][]byte{
				ethernet(podMAC, nodeMAC, unix.ETH_P_IP, reply4),
				ethernet(podMAC, nodeMAC, unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_UDP, senderIP6, linkLocal, reply6)),
			} {
				if err := node.send(f); err != nil {
					t.Fatal(err)
				}
			}
			var heard []string
			for _, f := range arrivals(t, node, guest, nodeMAC) {
				if bytes.HasSuffix(f, reply4) {
					t.Error("the guest hears a reply that is the pod's")
				}
				if bytes.HasSuffix(f, reply6) {
					heard = append(heard, "DHCPv6")
				}
			}
			if !slices.Equal(heard, want) {
				t.Errorf("the guest hears of DHCPv6: %v", heard)
			}
			for _, c := range clients {
				if err := c.SetReadDeadline(time.Now().Add(podtest.Patience)); err != nil {
					t.Fatal(err)
				}
				if _, _, err := c.ReadFrom(make([]byte, 2000)); err != nil {
					t.Errorf("the pod's client at %s hears no reply: %v", c.LocalAddr(), err)
				}
			}
		})
	}
}

// TestRouterAdvertisementsReachWhoNeedsThem says how a pod's addresses of advertisements live on.
func TestRouterAdvertisementsReachWhoNeedsThem(t *testing.T) {
	first, second := netip.MustParsePrefix("2001:db8:aa::/64"), netip.MustParsePrefix("2001:db8:bb::/64")
	advertise := func(node port, prefix netip.Prefix) []byte {
		f := ethernet(identity.MAC{0x33, 0x33, 0, 0, 0, 1}, nodeMAC, unix.ETH_P_IPV6,
			ipv6Packet(unix.IPPROTO_ICMPV6, senderIP6, everybody6, routerAdvertisementOf(prefix)))
		if err := node.send(f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, run := range []struct {
		heard bool
		ipv6  string
		want  int
	}{{true, plan.IPv6Pass, 1}, {false, plan.IPv6Pass, 1}, {true, plan.IPv6Serve, 0}, {false, plan.IPv6Serve, 0}, {true, plan.IPv6Off, 0}} {
		heard := run.heard
		all := joins[1:]
		if run.ipv6 != plan.IPv6Pass {
			all = fewJoins[1:]
		}
		for _, j := range append(slices.Clone(all), sharedJoin) {
			t.Run(fmt.Sprintf("%s, heard %v, %s", j.name, heard, run.ipv6), func(t *testing.T) {
				t.Parallel()
				p := newTestPodOf(t, j.kind, dualStack...)
				p.settle()
				if heard {
					node := p.nodePort()
					p.waitFor("-6 addr show dev eth0", "2001:db8:aa:", func() { advertise(node, first) })
				}
				o := j.options
				o.IPv6 = run.ipv6
				p.wire(o)
				guest, node := p.ends()
				f := advertise(node, second)
				copies := 0
				for _, a := range arrivals(t, node, guest, nodeMAC) {
					if bytes.Equal(a, f) {
						copies++
					}
				}
				if copies != run.want {
					t.Errorf("the guest hears %d", copies)
				}
				const made = "2001:db8:bb:"
				if heard {
					p.waitFor("-6 addr show dev eth0", made, func() {})
				} else if out := p.ip("-6 addr show dev eth0"); strings.Contains(out, made) {
					t.Errorf("the pod heard it: %s", out)
				}
			})
		}
	}
}

// routerAdvertisementOf is a plain one, to everybody.
func routerAdvertisementOf(prefix netip.Prefix) []byte {
	return routerAdvertisement(senderIP6, everybody6, prefix)
}

// waitFor waits until ip(8) says something, for which something is done meanwhile: the carrier of a link that was just set
// up takes its time.
func (p *testPod) waitFor(command, words string, meanwhile func()) {
	p.t.Helper()
	for deadline := time.Now().Add(podtest.Patience); ; {
		meanwhile()
		out := p.ip(command)
		if strings.Contains(out, words) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("ip %s does not say %s: %s", command, words, out)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestMarkDoesNotReachTheNode counts, on the node's side of a macvlan, which is not another namespace for the frame, what
// still has a mark.
func TestMarkDoesNotReachTheNode(t *testing.T) {
	for _, j := range joins[2:] {
		if j.kind == "veth" {
			continue
		}
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			p := newTestPodOf(t, j.kind, shapes["bridge"]...)
			const rules = "table netdev seen { chain out { type filter hook egress device low0 priority 0; " +
				"ether type 0x88b5 meta mark 0 counter comment \"without\"; ether type 0x88b5 meta mark != 0 counter comment \"with\"; }; }"
			if _, err := p.run(p.node, "nft", rules); err != nil {
				t.Fatal(err)
			}
			p.wire(j.options)
			p.ends()
			out, err := p.run(p.node, "nft", "list", "table", "netdev", "seen")
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(out) {
				none := strings.Contains(line, "packets 0 ")
				if strings.Contains(line, `"without"`) && none || strings.Contains(line, `"with"`) && !none {
					t.Errorf("of frames %s", strings.TrimSpace(line))
				}
			}
		})
	}
}

// TestHairpinPortIsHarmless has the pod network send back to the pod what it sends. The guest hears itself, as the pod did,
// and each frame once.
func TestHairpinPortIsHarmless(t *testing.T) {
	for _, j := range append(slices.Clone(joins[:2]), joins[6]) {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			p := newTestPodOf(t, j.kind, append(slices.Clone(shapes["bridge"]),
				"node:link add br0 type bridge mcast_snooping 0", "node:link set br0 up",
				"node:link set host0 master br0", "node:link set host0 type bridge_slave hairpin on")...)
			p.wire(j.options)
			guest, node := p.ends()
			frame := ethernet(broadcast, podMAC, 0x88b6, bytes.Repeat([]byte{3}, 50))
			if err := guest.send(frame); err != nil {
				t.Fatal(err)
			}
			arrivals(t, guest, node, podMAC)
			again := 0
			for _, f := range arrivals(t, node, guest, nodeMAC) {
				if bytes.Equal(f, frame) {
					again++
				}
			}
			if again != 1 {
				t.Errorf("the guest's frame comes back to it %d times", again)
			}
		})
	}
}

// hostBehind is a host behind the tap, with the pod's addresses, as a guest. dad is how it adds that of IPv6.
func (p *testPod) hostBehind(guest tapPort, offloads int, dad string) (host netns, largest func() int) {
	p.t.Helper()
	t := p.t.(*testing.T)
	host, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	inside := openTap(t, host, "g0")
	for _, tap := range []tapPort{guest, inside} {
		if err := errors.Join(tap.offload(offloads), tap.until(time.Time{})); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []string{
		"link set lo up", "link set g0 address " + p.macOf(p.pod, "eth0").String(), "link set g0 up",
		"addr add 10.244.1.5/24 dev g0", "addr add 2001:db8::5/64 dev g0 " + dad,
	} {
		if _, err := p.run(host, "ip", strings.Fields(c)...); err != nil {
			t.Fatal(err)
		}
	}
	var size atomic.Int64
	for from, to := range map[tapPort]tapPort{guest: inside, inside: guest} {
		go func() { // until the tap of either side is closed
			for b := make([]byte, 1<<17); ; {
				n, err := from.Read(b)
				if err != nil {
					return
				}
				size.Store(max(size.Load(), int64(n)))
				if _, err := to.Write(b[:n]); err != nil && !errors.Is(err, unix.EIO) {
					return
				}
			}
		}()
	}
	return host, func() int { return int(size.Load()) }
}

// TestGuestHasTheOnlyAnswer asks for the pod's addresses from outside while the pod's stack has them too, and has the guest
// go through duplicate address detection.
func TestGuestHasTheOnlyAnswer(t *testing.T) {
	for _, j := range joins[1:] {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			p := newTestPodOf(t, j.kind, dualStack...)
			p.wire(j.options)
			guest, _ := p.ends()
			host, _ := p.hostBehind(guest, 0, "")
			for deadline := time.Now().Add(podtest.Patience); ; time.Sleep(20 * time.Millisecond) {
				out, err := p.run(host, "ip", "-6", "addr", "show", "dev", "g0", "scope", "global")
				if err != nil || strings.Contains(out, "dadfailed") || time.Now().After(deadline) {
					t.Fatalf("the guest's address: %v: %s", err, out)
				}
				if !strings.Contains(out, "tentative") {
					break
				}
			}
			node := p.nodePort()
			own := netip.MustParseAddr("2001:db8::5")
			group := netip.MustParseAddr("ff02::1:ff00:5")
			asker := netip.MustParseAddr("2001:db8::1")
			solicitation := slices.Concat([]byte{135, 0, 0, 0, 0, 0, 0, 0}, own.AsSlice(), []byte{1, 1}, nodeMAC[:]) // RFC 4861, 4.3
			solicitation = summed(asker, group, unix.IPPROTO_ICMPV6, 2, solicitation)
			for _, f := range [][]byte{
				ethernet(broadcast, nodeMAC, unix.ETH_P_ARP, arp(1, nodeMAC, gatewayIP, podIP)),
				ethernet(identity.MAC{0x33, 0x33, 0xff, 0, 0, 5}, nodeMAC, unix.ETH_P_IPV6,
					ipv6Packet(unix.IPPROTO_ICMPV6, asker, group, solicitation)),
			} {
				if err := node.send(f); err != nil {
					t.Fatal(err)
				}
			}
			// What would be a second answer comes before the answer to what is asked once all is answered.
			answers := make(map[string]int)
			if err := node.until(time.Now().Add(podtest.Patience)); err != nil {
				t.Fatal(err)
			}
			last := ethernet(broadcast, nodeMAC, unix.ETH_P_ARP, arp(1, nodeMAC, netip.MustParseAddr("10.244.1.2"), podIP))
			for b := make([]byte, 2000); answers["last"] == 0; {
				n, err := node.receive(b)
				if err != nil {
					t.Fatalf("%v: %v", answers, err)
				}
				if n < 42 || identity.MAC(b[6:12]) != podMAC {
					continue
				}
				switch kind := binary.BigEndian.Uint16(b[12:]); {
				case kind == unix.ETH_P_ARP && b[21] == 2 && netip.AddrFrom4([4]byte(b[38:42])) != gatewayIP:
					answers["last"]++
				case kind == unix.ETH_P_ARP && b[21] == 2:
					answers["ARP"]++
				case kind == unix.ETH_P_IPV6 && b[20] == unix.IPPROTO_ICMPV6 && b[54] == 136 &&
					netip.AddrFrom16([16]byte(b[38:54])) == asker:
					answers["neighbour advertisement"]++
				default:
					continue
				}
				if answers["last"] == 0 && answers["ARP"] > 0 && answers["neighbour advertisement"] > 0 {
					if err := node.send(last); err != nil {
						t.Fatal(err)
					}
				}
			}
			if diff := cmp.Diff(map[string]int{"ARP": 1, "neighbour advertisement": 1, "last": 1}, answers); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLargeFramesCross sends a stream in both directions between the pod network and a host behind the tap, which takes
// and gives frames larger than the MTU, or none. What arrives is what was sent.
func TestLargeFramesCross(t *testing.T) {
	for _, j := range fewJoins {
		for name, offloads := range map[string]int{"segments": 0, "large": unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6} {
			t.Run(j.name+", "+name, func(t *testing.T) {
				t.Parallel()
				p := newTestPodOf(t, j.kind, append(slices.Clone(dualStack),
					"node:addr add 10.244.1.1/24 dev host0", "node:addr add 2001:db8::1/64 dev host0 nodad")...)
				p.wire(j.options)
				guest, _ := p.ends()
				host, largest := p.hostBehind(guest, offloads, "nodad")
				for _, address := range []string{"10.244.1.1:7000", "[2001:db8::1]:7000"} {
					p.stream(host, address)
				}
				if got := largest() > 3000; got != (offloads != 0) {
					t.Errorf("the largest frame at the tap has %d bytes", largest())
				}
			})
		}
	}
}

// stream has the host and the node send each other a few megabytes.
func (p *testPod) stream(host netns, address string) {
	p.t.Helper()
	data := bytes.Repeat([]byte("podnic 0123456789"), 200_000)
	exchanged := func(conn net.Conn) error {
		sent := make(chan error, 1)
		go func() {
			_, err := conn.Write(data)
			sent <- err
		}()
		sum := sha256.New()
		if _, err := io.CopyN(sum, conn, int64(len(data))); err != nil {
			return err
		}
		if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
			return errors.New("what arrives is not what was sent")
		}
		return <-sent
	}
	var listener net.Listener
	err := p.node.Do(func(netns) (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			err = errors.Join(conn.SetDeadline(time.Now().Add(podtest.Patience)), exchanged(conn))
		}
		served <- err
	}()
	err = host.Do(func(netns) error {
		conn, err := net.DialTimeout("tcp", address, podtest.Patience)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(podtest.Patience)); err != nil {
			return err
		}
		return errors.Join(exchanged(conn), <-served)
	})
	if err != nil {
		p.t.Fatalf("%s: %v", address, err)
	}
}

// TestTapMadeAnewNeedsTheFilterAnew deletes the tap: what comes for the guest goes nowhere, and the filter says that it is
// not as it was. Put in place again, it leads to the new tap.
func TestTapMadeAnewNeedsTheFilterAnew(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...).redirect(plan.Options{}, plan.RedirectFacts{Mark: 1})
	stack := p.listen()
	p.ends()
	for _, made := range []bool{false, true} {
		if !made {
			p.ip("link del tap0")
		} else {
			p.addTap()
		}
		read, err := p.nft.Read(plan.RedirectFamily, p.filter.Table)
		nowhere := func(rule string) bool { return strings.Contains(rule, "fwd to link ") }
		if err != nil || read.Same(p.filter) || !slices.ContainsFunc(read.Rules, nowhere) {
			t.Errorf("made again %v: %v: %v", made, err, read)
		}
		node := p.nodePort()
		for what, f := range attacks(podMAC) {
			if err := node.send(f); err != nil {
				t.Fatal(err)
			}
			if got := stack.reached(); got != "" {
				t.Fatalf("%s: %s", what, got)
			}
		}
	}
	if err := p.nft.Put(p.filter, true); err != nil {
		t.Fatal(err)
	}
	if read, err := p.nft.Read(plan.RedirectFamily, p.filter.Table); err != nil || !read.Same(p.filter) {
		t.Errorf("%v: %v", err, read)
	}
	p.ends()
}
