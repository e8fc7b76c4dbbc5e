package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/network/gateways"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// port is an end of the wiring: frames can be sent into it and are received from it.
type port interface {
	send(frame []byte) error
	receive(b []byte) (int, error) // os.ErrDeadlineExceeded after the deadline
	until(time.Time) error
}

// tapPort is the guest's end: the tap as an emulator holds it.
type tapPort struct {
	*os.File
	in netns
}

const vnetHeader = 10 // struct virtio_net_hdr, all zero: nothing offloaded

func (t tapPort) send(frame []byte) error {
	_, err := t.Write(append(make([]byte, vnetHeader), frame...))
	return err
}

func (t tapPort) receive(b []byte) (int, error) {
	buffer := make([]byte, vnetHeader+len(b))
	n, err := t.Read(buffer)
	if err != nil {
		return 0, err
	}
	return copy(b, buffer[vnetHeader:n]), nil
}

// Close takes the guest away: when it returns, nobody has the tap any more.
func (t tapPort) Close() error { return letGo(t.File, t.in) }

// letGo closes an end of a tap: when it returns, nobody has the tap any more.
func letGo(end *os.File, in netns) error {
	return tap.LetGo(end, func(f func() error) error { return in.Do(func(netns) error { return f() }) })
}

func (t tapPort) until(at time.Time) error { return t.SetReadDeadline(at) }

// nodePort is the pod network's end.
type nodePort struct{ *packet.Conn }

func (n nodePort) send(frame []byte) error {
	_, err := n.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	return err
}

func (n nodePort) receive(b []byte) (int, error) {
	length, _, err := n.ReadFrom(b)
	return length, err
}

func (n nodePort) until(at time.Time) error { return n.SetReadDeadline(at) }

func (p *testPod) guestPort() tapPort {
	p.t.Helper()
	return openTap(p.t, p.pod, "tap0")
}

// openTap attaches to a tap, which is made if it is not there.
func openTap(t testing.TB, in netns, name string) tapPort {
	t.Helper()
	var fd int
	err := in.Do(func(netns) (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	})
	if err != nil {
		t.Fatal(err)
	}
	port := tapPort{os.NewFile(uintptr(fd), name), in}
	t.Cleanup(func() { port.Close() })
	return port
}

func (p *testPod) nodePort() nodePort {
	p.t.Helper()
	var conn *packet.Conn
	err := p.node.Do(func(netns) (err error) {
		conn, err = packetSocket("host0")
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return nodePort{conn}
}

// packetSocket sends whole frames by a link of the calling thread's namespace, and hears all that there are on it.
func packetSocket(name string) (*packet.Conn, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	return packet.Listen(link, packet.Raw, unix.ETH_P_ALL, nil)
}

// ends are the guest's and the node's end of the wiring, once frames pass between them: the carrier of a link that was
// just set up takes its time.
func (p *testPod) ends() (guest tapPort, node nodePort) {
	p.t.Helper()
	return p.endsOf(podMAC, nodeMAC)
}

// endsOf is ends where the MACs are not the usual ones.
func (p *testPod) endsOf(podMAC, nodeMAC identity.MAC) (guest tapPort, node nodePort) {
	p.t.Helper()
	guest, node = p.guestPort(), p.nodePort()
	for _, way := range []struct {
		from, to port
		src      identity.MAC
	}{{guest, node, podMAC}, {node, guest, nodeMAC}} {
		from, to := way.from, way.to
		probe := ethernet(broadcast, way.src, 0x88b5, bytes.Repeat([]byte{1}, 50))
		for deadline := time.Now().Add(podtest.Patience); ; {
			if err := errors.Join(from.send(probe), to.until(time.Now().Add(20*time.Millisecond))); err != nil {
				p.t.Fatal(err)
			}
			if n, err := to.receive(make([]byte, 2000)); err == nil && n == len(probe) {
				break
			}
			if time.Now().After(deadline) {
				p.t.Fatal("no frame passes the wiring")
			}
		}
		// The probes that were late have all come when one that is sent now has.
		last := ethernet(broadcast, way.src, 0x88b5, bytes.Repeat([]byte{2}, 50))
		if err := errors.Join(sendInOrder(from, last), to.until(time.Now().Add(podtest.Patience))); err != nil {
			p.t.Fatal(err)
		}
		for b := make([]byte, 2000); ; {
			n, err := to.receive(b)
			if err != nil {
				p.t.Fatalf("the last probe does not come: %v", err)
			}
			if bytes.Equal(b[:n], last) {
				break
			}
		}
	}
	return guest, node
}

// crosses sends a frame into one end and then a marker, and reports whether the frame came before the marker at the other
// end. There is no waiting for what must not come.
func crosses(t *testing.T, from, to port, frame []byte) bool {
	t.Helper()
	return crossesBefore(t, from, to, frame, identity.MAC(frame[6:12]))
}

// crossesBefore is crosses with a marker of that source, where the frame's would not pass.
func crossesBefore(t *testing.T, from, to port, frame []byte, src identity.MAC) bool {
	t.Helper()
	// 0x88b5 is for local experiments (IEEE 802, 9.2.4).
	marker := ethernet(broadcast, src, 0x88b5, bytes.Repeat([]byte{7}, 50))
	if err := to.until(time.Now().Add(podtest.Patience)); err != nil {
		t.Fatal(err)
	}
	if err := sendInOrder(from, frame, marker); err != nil {
		t.Fatal(err)
	}
	came := false
	b := make([]byte, 2000)
	for {
		n, err := to.receive(b)
		if err != nil {
			t.Fatalf("the marker does not come: %v", err)
		}
		switch {
		case bytes.Equal(b[:n], marker):
			return came
		// A VLAN tag is out of the frame when a packet socket sees it, so only what is behind it is compared.
		case n >= 40 && bytes.Equal(b[:12], frame[:12]) && bytes.HasSuffix(frame, b[min(n, 16):n]):
			came = true
		}
	}
}

// sendInOrder sends frames by one processor: what goes through a veth waits in a queue of the processor that sent it
// (enqueue_to_backlog, net/core/dev.c), and could be overtaken by what another one sends.
func sendInOrder(from port, frames ...[]byte) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	var here uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&here)), 0, 0); errno != 0 {
		return errno
	}
	one.Set(int(here))
	if err := errors.Join(unix.SchedGetaffinity(0, &all), unix.SchedSetaffinity(0, &one)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.SchedSetaffinity(0, &all)) }()
	for _, f := range frames {
		if err := from.send(f); err != nil {
			return err
		}
	}
	return nil
}

func TestDHCPDoesNotCross(t *testing.T) {
	for _, j := range joins {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			p := newTestPodOf(t, j.kind, shapes["aws"]...)
			p.wire(j.options)
			guest, node := p.ends()
			dhcpDoesNotCross(t, guest, node)
		})
	}
}

// dhcpDoesNotCross takes a pod whose neighbour 169.254.1.1 has a permanent entry.
func dhcpDoesNotCross(t *testing.T, guest, node port) {
	t.Helper()
	zero, all := netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255")
	request := ipv4(unix.IPPROTO_UDP, zero, all, 68, 67)
	reply := ipv4(unix.IPPROTO_UDP, gatewayIP, all, 67, 68)
	tag := func(kind, id int) [2]int { return [2]int{kind, id} }
	const q, ad = unix.ETH_P_8021Q, unix.ETH_P_8021AD
	neighbour := netip.MustParseAddr("169.254.1.1") // has a permanent entry
	for _, test := range []struct {
		name    string
		crosses bool
		payload []byte
		kind    int
		tags    [][2]int
	}{
		{"request", false, request, unix.ETH_P_IP, nil},
		{"reply", false, reply, unix.ETH_P_IP, nil},
		{"request, tagged", false, request, unix.ETH_P_IP, [][2]int{tag(q, 5)}},
		{"reply, tagged", false, reply, unix.ETH_P_IP, [][2]int{tag(q, 5)}},
		{"request, priority-tagged", false, request, unix.ETH_P_IP, [][2]int{tag(q, 0xe000)}},
		{"request, service-tagged", false, request, unix.ETH_P_IP, [][2]int{tag(ad, 5)}},
		{"request, two tags", false, request, unix.ETH_P_IP, [][2]int{tag(q, 5), tag(q, 6)}},
		{"reply, two tags", false, reply, unix.ETH_P_IP, [][2]int{tag(ad, 5), tag(q, 6)}},
		{"request, three tags", false, request, unix.ETH_P_IP, [][2]int{tag(ad, 5), tag(ad, 6), tag(q, 7)}},
		{"other UDP", true, ipv4(unix.IPPROTO_UDP, podIP, gatewayIP, 1000, 53), unix.ETH_P_IP, nil},
		{"other UDP, two tags", true, ipv4(unix.IPPROTO_UDP, podIP, gatewayIP, 1000, 53), unix.ETH_P_IP, [][2]int{tag(q, 5), tag(q, 6)}},
		{"TCP to port 67", true, ipv4(unix.IPPROTO_TCP, podIP, gatewayIP, 1000, 67), unix.ETH_P_IP, nil},
		{"IPv6", true, ipv6UDP(547), unix.ETH_P_IPV6, nil},
		{"ARP", true, arp(1, podMAC, podIP, gatewayIP), unix.ETH_P_ARP, nil},
		{"ARP reply", true, arp(2, podMAC, podIP, neighbour), unix.ETH_P_ARP, nil},
	} {
		frame := ethernet(broadcast, podMAC, test.kind, test.payload, test.tags...)
		if got := crosses(t, guest, node, frame); got != test.crosses {
			t.Errorf("%s, from the guest: crosses %v", test.name, got)
		}
		frame = ethernet(broadcast, nodeMAC, test.kind, test.payload, test.tags...)
		if got := crosses(t, node, guest, frame); got != test.crosses {
			t.Errorf("%s, to the guest: crosses %v", test.name, got)
		}
	}
	// What the server answers is asked on the guest's side alone.
	for _, target := range []netip.Addr{neighbour, identity.ServerLinkLocal} {
		frame := ethernet(broadcast, podMAC, unix.ETH_P_ARP, arp(1, podMAC, podIP, target))
		if crosses(t, guest, node, frame) {
			t.Errorf("the guest's ARP request for %s crosses", target)
		}
		frame = ethernet(broadcast, nodeMAC, unix.ETH_P_ARP, arp(1, nodeMAC, gatewayIP, target))
		if !crosses(t, node, guest, frame) {
			t.Errorf("the node's ARP request for %s does not cross", target)
		}
	}
}

// TestGuestCannotReachThePodsSockets listens in the pod on every address, and asks from the guest by every way there is.
// Nothing that the pod's stack makes of it comes out at either end.
func TestGuestCannotReachThePodsSockets(t *testing.T) {
	for _, j := range joins {
		for _, socket := range []string{plan.SocketPacket, plan.SocketUDP} {
			t.Run(j.name+", "+socket, func(t *testing.T) {
				t.Parallel()
				p := newTestPodOf(t, j.kind, shapes["bridge"]...)
				j.options.Socket = socket
				p.wire(j.options)
				var udp *net.UDPConn
				err := p.pod.Do(func(netns) (err error) {
					if udp, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 5000}); err != nil {
						return err
					}
					tcp, err := net.Listen("tcp4", ":5000")
					if err == nil {
						t.Cleanup(func() { tcp.Close() })
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				defer udp.Close()
				guest, node := p.ends()
				sent := make(map[string]bool)
				for _, dst := range append(p.linkMACs(), broadcast) {
					for _, to := range []netip.Addr{podIP, identity.ServerLinkLocal, netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("10.244.1.255")} {
						for _, protocol := range []int{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
							for src, from := range map[identity.MAC]port{podMAC: guest, nodeMAC: node} {
								frame := ethernet(dst, src, unix.ETH_P_IP, ipv4(protocol, netip.MustParseAddr("10.244.1.7"), to, 4000, 5000))
								sent[string(frame)] = true
								if err := from.send(frame); err != nil {
									t.Fatal(err)
								}
							}
						}
					}
				}
				// An answer, or an ARP request for where to send one, would come back before what is sent later crosses.
				for _, way := range []struct{ from, to port }{{node, guest}, {guest, node}} {
					last := ethernet(broadcast, identity.MAC{2, 0, 0, 0, 0, 0xbb}, 0x88b5, bytes.Repeat([]byte{7}, 50))
					if err := errors.Join(way.to.until(time.Now().Add(podtest.Patience)), way.from.send(last)); err != nil {
						t.Fatal(err)
					}
					for b := make([]byte, 2000); ; {
						n, err := way.to.receive(b)
						if err != nil {
							t.Fatal(err)
						}
						if bytes.Equal(b[:n], last) {
							break
						}
						kind := binary.BigEndian.Uint16(b[12:])
						if (kind == unix.ETH_P_IP || kind == unix.ETH_P_ARP) && !sent[string(b[:n])] {
							t.Fatalf("the pod's stack answers: %x", b[:n])
						}
						// A tap without a bridge: what is for the server's MAC would be forwarded as all else is.
						forServer := kind == unix.ETH_P_IP && bytes.Equal(b[30:34], identity.ServerLinkLocal.AsSlice())
						if forServer && bytes.Equal(b[6:12], podMAC[:]) && socket == plan.SocketUDP && j.options.Binding == plan.BindingRedirect {
							t.Fatalf("what the guest says to the server leaves the pod: %x", b[:n])
						}
					}
				}
				if err := udp.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 2000)
				if n, from, err := udp.ReadFrom(b); err == nil {
					t.Errorf("a socket of the pod was reached from %s: %x", from, b[:n])
				}
			})
		}
	}
}

// linkMACs are those of all links in the pod.
func (p *testPod) linkMACs() (macs []identity.MAC) {
	p.t.Helper()
	err := p.pod.Do(func(netns) error {
		links, err := net.Interfaces()
		for _, l := range links {
			if len(l.HardwareAddr) == 6 {
				macs = append(macs, identity.MAC(l.HardwareAddr))
			}
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return macs
}

// TestOnlyThePodsMACLeaves listens on the pod network from before prepare until after restore.
func TestOnlyThePodsMACLeaves(t *testing.T) {
	forEachJoint(t, func(t *testing.T, joint joint) {
		p := newTestPod(t, shapes["dual stack"]...)
		p.joint = joint
		onlyThePodsMACLeaves(t, p)
	})
}

func onlyThePodsMACLeaves(t *testing.T, p *testPod) {
	t.Helper()
	p.settle()
	node := p.nodePort()
	var mu sync.Mutex
	seen := make(map[identity.MAC]int)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 2000)
		for {
			n, err := node.receive(b)
			if err != nil {
				return
			}
			if n >= 12 {
				mu.Lock()
				seen[identity.MAC(b[6:12])]++
				mu.Unlock()
			}
		}
	})
	p.prepare()
	guest, _ := p.ends()
	frame := ethernet(broadcast, podMAC, unix.ETH_P_ARP, arp(1, podMAC, podIP, gatewayIP))
	for range 10 {
		if err := guest.send(frame); err != nil {
			t.Fatal(err)
		}
		p.ip("route flush cache")
	}
	guest.Close()
	p.restore()
	p.settle()
	node.Close()
	wg.Wait()
	delete(seen, nodeMAC)
	if seen[podMAC] < 10 {
		t.Errorf("the guest's frames did not leave: %v", seen)
	}
	delete(seen, podMAC)
	if len(seen) > 0 {
		t.Errorf("other MACs left the pod: %v", seen)
	}
}

// TestLayer2InterfaceLetsDHCPCross lets DHCP through where there is no address to serve. (That the pod's own stack is out of
// reach there too, TestReservedAddressesDoNotReachThePod shows.)
func TestLayer2InterfaceLetsDHCPCross(t *testing.T) {
	for _, j := range joins {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			p := newTestPodOf(t, j.kind, shapes["no address"]...)
			j.options.Interface = "eth0"
			p.wire(j.options)
			if out, err := p.run(p.pod, "nft", "list", "ruleset"); err != nil || strings.Contains(out, "forward") {
				t.Errorf("nft: %v: %s", err, out)
			}
			guest, node := p.ends()
			zero, all := netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255")
			if !crosses(t, guest, node, ethernet(broadcast, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, zero, all, 68, 67))) {
				t.Error("the guest's request does not reach the pod network")
			}
			if !crosses(t, node, guest, ethernet(broadcast, nodeMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, gatewayIP, all, 67, 68))) {
				t.Error("the pod network's reply does not reach the guest")
			}
		})
	}
}

func TestResolveAsksAsThePodWould(t *testing.T) {
	for by, joint := range joints {
		t.Run(by, func(t *testing.T) {
			p := newTestPod(t, append(shapes["ptp"], "node:addr add 10.244.1.1/24 dev host0")...)
			p.joint = joint
			r := p.prepare()
			p.ends()
			ns := p.namespace()
			mac, err := gateways.Resolve(ns, r.Names.NIC, r.Record.Options.Mark, podMAC, podIP, gatewayIP)
			if err != nil || mac != nodeMAC {
				t.Errorf("the gateway has the MAC %s: %v", mac, err)
			}
			nobody := netip.MustParseAddr("10.244.1.77")
			if mac, err := gateways.Resolve(ns, r.Names.NIC, r.Record.Options.Mark, podMAC, podIP, nobody); err == nil {
				t.Errorf("nobody's address has the MAC %s", mac)
			}
		})
	}
}

// TestNftListsEveryWiring runs nft(8), which operators do: versions 1.0.6 (Debian 12) and 1.1.3 (Debian 13) abort on some
// rules that the kernel takes.
func TestNftListsEveryWiring(t *testing.T) {
	t.Parallel()
	list := func(t *testing.T, p *testPod) {
		t.Helper()
		out, err := p.run(p.pod, "nft", "list", "ruleset")
		if err != nil {
			t.Fatalf("nft list ruleset: %v", err)
		}
		if !strings.Contains(out, " podnic-eth0 {") || !strings.HasSuffix(strings.TrimSpace(out), "}") {
			t.Errorf("not whole:\n%s", out)
		}
		seen, err := Inspect(p.request())
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range seen.Current.Filter.Rules {
			if _, comment, _ := strings.Cut(rule, " # "); !strings.Contains(out, comment) {
				t.Errorf("the rule %q is not listed:\n%s", rule, out)
			}
		}
		p.nftReadsWhatItPrints()
	}
	for name, wire := range wirings {
		t.Run(name, func(t *testing.T) {
			p := newTestPod(t, shapes["bridge"]...)
			wire(p)
			list(t, p)
		})
	}
	for _, shape := range []string{"ptp", "aws", "much of everything"} { // with more rules for ARP
		t.Run(shape, func(t *testing.T) {
			p := newTestPod(t, shapes[shape]...)
			p.prepare()
			list(t, p)
		})
	}
}

// nftReadsWhatItPrints has nft(8) read what it prints of all there is, and print it again.
func (p *testPod) nftReadsWhatItPrints() {
	p.t.Helper()
	stateless := func() string {
		out, err := p.run(p.pod, "nft", "--stateless", "list", "ruleset")
		if err != nil {
			p.t.Fatalf("nft --stateless list ruleset: %v", err)
		}
		return out
	}
	first := stateless()
	if err := os.WriteFile(p.dir+"/ruleset", []byte("flush ruleset\n"+first), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.run(p.pod, "nft", "-f", p.dir+"/ruleset"); err != nil {
		p.t.Fatalf("nft does not read what it printed: %v\n%s", err, first)
	}
	if diff := cmp.Diff(first, stateless()); diff != "" {
		p.t.Errorf("nft prints something else once it has read what it printed:\n%s", diff)
	}
}

// offload has the kernel hand over, and take, frames that are unfinished: without checksums, and larger than the MTU.
func (t tapPort) offload(flags int) error {
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, flags) })
	return errors.Join(err, set)
}
