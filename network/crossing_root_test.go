package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
)

// otherPort is a port of UDP that is not DHCP's.
const otherPort = 1067

// token begins the data of a datagram of this test; the number of the datagram follows. Together they have 8 bytes, so
// that no fragment ends between them.
const token = "podnic"

func tokenOf(b []byte) (id uint16, ok bool) {
	i := bytes.Index(b, []byte(token))
	if i < 0 || len(b) < i+len(token)+2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[i+len(token):]), true
}

// receiver is a host on one side of the wiring: its UDP sockets, as those of a DHCP client and server, and its wire.
type receiver struct {
	t       *testing.T
	sockets map[int][]*net.UDPConn // by port
	wire    *packet.Conn
}

// receiverIn listens on a link of a namespace that has an IPv4 address.
func receiverIn(t *testing.T, in ns.NetNS, link string) *receiver {
	t.Helper()
	r := &receiver{t: t, sockets: make(map[int][]*net.UDPConn)}
	err := in.Do(func(ns.NetNS) error {
		for _, port := range []int{67, 68, otherPort} {
			for _, network := range []string{"udp4", "udp6"} {
				s, err := net.ListenUDP(network, &net.UDPAddr{Port: port})
				if err != nil {
					return err
				}
				t.Cleanup(func() { s.Close() })
				if err := bindToLink(s, link); err != nil {
					return err
				}
				r.sockets[port] = append(r.sockets[port], s)
			}
		}
		wire, err := packetSocket(link)
		if err != nil {
			return err
		}
		r.wire = wire
		raw, err := r.wire.SyscallConn()
		if err != nil {
			return err
		}
		var ignored error
		err = raw.Control(func(fd uintptr) {
			ignored = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		})
		return errors.Join(err, ignored)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.wire.Close() })
	return r
}

// bindToLink has a socket hear one link: the lower link of a macvlan, which is in the node's namespace too, hears what is
// sent to everybody.
func bindToLink(s *net.UDPConn, link string) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var bound error
	err = raw.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), link) })
	return errors.Join(err, bound)
}

// received is what a receiver had of some datagrams.
type received struct {
	socket map[uint16]bool // by a UDP socket, of whatever port
	wire   map[uint16]bool // on its link
	dhcp   map[uint16]bool // by a UDP socket at a port of DHCP
	taken  [][]byte        // frames that some receiver would take for DHCP
}

func newReceived() received {
	return received{make(map[uint16]bool), make(map[uint16]bool), make(map[uint16]bool), nil}
}

// until notes what comes before the marker.
func (r *receiver) until(marker []byte, into *received) {
	r.t.Helper()
	b := make([]byte, 4096)
	if err := r.wire.SetReadDeadline(time.Now().Add(podtest.Patience)); err != nil {
		r.t.Fatal(err)
	}
	for {
		n, _, err := r.wire.ReadFrom(b)
		if err != nil {
			r.t.Fatalf("the marker does not come: %v", err)
		}
		if bytes.Equal(b[:n], marker) {
			break
		}
		if id, ok := tokenOf(b[:n]); ok {
			into.wire[id] = true
		}
		if takesForDHCP(b[:n]) {
			into.taken = append(into.taken, bytes.Clone(b[:n]))
		}
	}
	for port, sockets := range r.sockets {
		for _, s := range sockets {
			raw, err := s.SyscallConn()
			if err != nil {
				r.t.Fatal(err)
			}
			err = raw.Read(func(fd uintptr) bool {
				for {
					n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
					if err != nil {
						return true
					}
					if id, ok := tokenOf(b[:n]); ok {
						into.socket[id] = true
						if port != otherPort && s.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
							into.dhcp[id] = true
						}
					}
				}
			})
			if err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// datagram is one to send: the shape and the port.
type datagram struct {
	shape datagramShape
	port  int
}

// exchange sends datagrams into one end, a few at a time, and says what came of them at the other.
func exchange(t *testing.T, from port, src identity.MAC, to *receiver, datagrams map[uint16]datagram) received {
	t.Helper()
	got := newReceived()
	batch := 0
	flush := func() {
		batch++
		marker := ethernet(broadcast, src, 0x88b5, append(word(batch), bytes.Repeat([]byte{7}, 50)...))
		if err := from.send(marker); err != nil {
			t.Fatal(err)
		}
		to.until(marker, &got)
	}
	n := 0
	for id, d := range datagrams {
		for _, frame := range d.shape.frames(src, d.port, id, append([]byte(token), word(int(id))...)) {
			if err := from.send(frame); err != nil {
				t.Fatal(err)
			}
		}
		if n++; n%32 == 0 {
			flush()
		}
	}
	flush()
	return got
}

// clientBehind puts a host behind the tap: whatever is sent to the guest reaches its IP stack.
func (p *testPod) clientBehind(guest tapPort) *receiver {
	p.t.Helper()
	t := p.t.(*testing.T)
	host, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	inside := openTap(t, host, "g0")
	p.readyToHear(host, "g0", "10.244.1.5/24")
	if err := guest.until(time.Time{}); err != nil {
		t.Fatal(err)
	}
	go func() { // until the tap of either side is closed
		b := make([]byte, 1<<16)
		for {
			n, err := guest.Read(b)
			if err != nil {
				return
			}
			if _, err := inside.Write(b[:n]); err != nil && !errors.Is(err, unix.EIO) {
				return
			}
		}
	}()
	return receiverIn(t, host, "g0")
}

// readyToHear gives a link an address and has its host take packets from anywhere.
func (p *testPod) readyToHear(host ns.NetNS, link, address string) {
	p.t.Helper()
	for _, command := range [][]string{
		{"sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf." + link + ".rp_filter=0", "net.ipv6.conf." + link + ".accept_dad=0"},
		{"ip", "link", "set", link, "up"},
		{"ip", "address", "replace", address, "dev", link},
	} {
		if _, err := p.run(host, command[0], command[1:]...); err != nil {
			p.t.Fatalf("%s: %v", command, err)
		}
	}
}

// TestFurtherFragmentsCross has what is no port of DHCP's where the ports are in a first fragment.
func TestFurtherFragmentsCross(t *testing.T) {
	forEachJoint(t, func(t *testing.T, joint joint) {
		p := newTestPod(t, shapes["bridge"]...)
		p.joint = joint
		p.prepare()
		guest, node := p.ends()
		for _, port := range []int{67, 68} {
			fragment := ipv4(unix.IPPROTO_UDP, podIP, gatewayIP, port, port)
			copy(fragment[6:], word(1480/8))
			copy(fragment[10:], word(0))
			binary.BigEndian.PutUint16(fragment[10:], checksum(fragment[:20]))
			if !crosses(t, guest, node, ethernet(nodeMAC, podMAC, unix.ETH_P_IP, fragment)) {
				t.Errorf("one with %d at its third byte does not leave", port)
			}
			if !crosses(t, node, guest, ethernet(podMAC, nodeMAC, unix.ETH_P_IP, fragment)) {
				t.Errorf("one with %d at its third byte does not reach the guest", port)
			}
		}
		guest.Close()
		node.Close()
	})
}

// TestFurtherFragmentsOfIPv6Cross: in those nftables takes for ports what is at their place in IPv6's header, the flow label.
func TestFurtherFragmentsOfIPv6Cross(t *testing.T) {
	forEachJoint(t, func(t *testing.T, joint joint) {
		p := newTestPod(t, shapes["dual stack"]...)
		p.joint = joint
		p.prepare()
		guest, node := p.ends()
		gateway := netip.MustParseAddr("fd00:10:244:1::1")
		for _, label := range []int{546, 547} {
			for _, next := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6} {
				header := slices.Concat([]byte{next, 0}, word(1448), word(0), word(1))
				fragment := ipv6Packet(fragments, podIP6, gateway, append(header, make([]byte, 64)...))
				copy(fragment[2:], word(label))
				if !crosses(t, guest, node, ethernet(nodeMAC, podMAC, unix.ETH_P_IPV6, fragment)) {
					t.Errorf("one of protocol %d with the flow label %d does not leave", next, label)
				}
				if !crosses(t, node, guest, ethernet(podMAC, nodeMAC, unix.ETH_P_IPV6, fragment)) {
					t.Errorf("one of protocol %d with the flow label %d does not reach the guest", next, label)
				}
			}
		}
		guest.Close()
		node.Close()
	})
}

// TestDHCPDoesNotCrossInAnyShape writes datagrams in every shape there is of VLAN tags, IP headers, fragments and
// encapsulation, and sends them through the wiring in both directions, to real UDP sockets. Nothing that any receiver
// takes for DHCP arrives; all else arrives as it does without the filter, unless it is of a shape that hides what it
// holds.
func TestDHCPDoesNotCrossInAnyShape(t *testing.T) {
	t.Parallel()
	for _, j := range fewJoins {
		t.Run(j.name, func(t *testing.T) { dhcpCrossesInNoShape(t, j.kind, j.options) })
	}
}

func dhcpCrossesInNoShape(t *testing.T, kind string, o plan.Options) {
	p := newTestPodOf(t, kind, shapes["bridge"]...)
	fence := p.joinOpen(o)
	guest, node := p.ends()
	p.readyToHear(p.node, "host0", "10.244.1.1/24")
	datagrams := make(map[uint16]datagram)
	for _, s := range datagramShapes() {
		for _, port := range []int{67, 68, otherPort} {
			datagrams[uint16(len(datagrams)+1)] = datagram{s, port}
		}
	}
	inside, outside := p.clientBehind(guest), receiverIn(t, p.node, "host0")
	sides := []struct {
		name string
		from port
		src  identity.MAC
		to   *receiver
	}{{"from the guest", guest, podMAC, outside}, {"to the guest", node, nodeMAC, inside}}
	all := make(map[string]received)
	for _, side := range sides {
		all[side.name] = exchange(t, side.from, side.src, side.to, datagrams)
	}
	fence()
	for _, side := range sides {
		t.Run(side.name, func(t *testing.T) {
			open, lost := all[side.name], datagrams
			if len(open.dhcp) < 500 || len(open.taken) < 3000 {
				t.Fatalf("without the filter, few are received: %d at the ports of DHCP, %d frames of DHCP", len(open.dhcp), len(open.taken))
			}
			t.Logf("without the filter, %d of %d datagrams arrive at the ports of DHCP, and %d frames are DHCP", len(open.dhcp), len(datagrams), len(open.taken))
			var wrong []string
			for range 3 { // a busy machine may lose what should arrive, but not each time
				got := exchange(t, side.from, side.src, side.to, lost)
				for _, frame := range got.taken {
					wrong = append(wrong, fmt.Sprintf("DHCP crosses: %x", frame))
				}
				again := make(map[uint16]datagram)
				for id, d := range lost {
					switch dhcp := d.port != otherPort && !d.shape.ipv6; {
					case dhcp && got.socket[id]:
						wrong = append(wrong, fmt.Sprintf("a socket at port %d receives%v", d.port, d.shape))
					case !dhcp && d.shape.hidden() && got.wire[id]:
						wrong = append(wrong, fmt.Sprintf("to port %d, what is hidden crosses:%v", d.port, d.shape))
					case !dhcp && !d.shape.hidden() && (open.wire[id] && !got.wire[id] || open.socket[id] && !got.socket[id]):
						again[id] = d
					}
				}
				lost = again
			}
			for _, d := range lost {
				wrong = append(wrong, fmt.Sprintf("to port %d, lost:%v", d.port, d.shape))
			}
			for _, line := range wrong[:min(len(wrong), 20)] {
				t.Error(line)
			}
			if len(wrong) > 20 {
				t.Errorf("and %d more", len(wrong)-20)
			}
		})
	}
}

// joinOpen joins guest and pod network so that all frames pass. What it returns puts the filter in place.
func (p *testPod) joinOpen(o plan.Options) (fence func()) {
	p.t.Helper()
	p.wire(o)
	if o.TC {
		for _, hook := range []string{"dev eth0 ingress", "dev eth0 egress", "dev tap0 ingress"} {
			p.runAll("tc filter del " + hook + " pref 28782") // the fences
		}
		return func() { p.wire(o) }
	}
	if o.Binding != plan.BindingRedirect {
		if _, err := p.run(p.pod, "nft", "delete", "table", "bridge", "podnic-eth0"); err != nil {
			p.t.Fatal(err)
		}
		return func() { p.wire(o) }
	}
	r, err := Inspect(p.request())
	if err != nil {
		p.t.Fatal(err)
	}
	rules := fmt.Sprintf("table netdev open { "+
		"chain in { type filter hook ingress device eth0 priority -1; fwd to tap0; }; "+
		"chain out { type filter hook ingress device tap0 priority -1; meta mark set %#x fwd to eth0; }; }", r.Options.Mark)
	if _, err := p.run(p.pod, "nft", rules); err != nil {
		p.t.Fatal(err)
	}
	return func() {
		if _, err := p.run(p.pod, "nft", "delete", "table", "netdev", "open"); err != nil {
			p.t.Fatal(err)
		}
	}
}
