package network

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
	"golang.org/x/sys/unix"
)

// sharedPod is a pod that shares its address with a guest, real sockets on either side, and a router with a narrow link
// behind it.
type sharedPod struct {
	*testPod
	guest netns
}

var farNetwork = []string{
	"link set eth0 mtu 1500", "node:addr add 10.244.1.1/24 dev host0", "node:addr add 2001:db8::1/64 dev host0 nodad", "node:link set lo up",
	"node:link add far0 mtu 1300 type veth peer name far1 mtu 1300", "node:link set far0 up", "node:link set far1 up",
	"node:route add 203.0.113.0/24 dev far0", "node:-6 route add 2001:db8:f::/64 dev far0",
}

func newSharedPod(t *testing.T, kind string, o plan.Options) *sharedPod {
	t.Helper()
	p := &sharedPod{testPod: newTestPodOf(t, kind, slices.Concat(dualStack, farNetwork)...)}
	for _, forwarding := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := p.node.Do(func(netns) error { return os.WriteFile("/proc/sys/net/"+forwarding, []byte("1"), 0) }); err != nil {
			t.Fatal(err)
		}
	}
	o.Binding = plan.BindingShared
	p.wire(o)
	return p
}

// boot has a guest behind the tap.
func (p *sharedPod) boot() {
	p.t.Helper()
	tap := openTap(p.t, p.pod, "tap0")
	p.guest, _ = p.hostBehind(tap, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6, "nodad")
	for _, c := range []string{"route add default via 10.244.1.1", "-6 route add default via 2001:db8::1"} {
		if _, err := p.run(p.guest, "ip", strings.Fields(c)...); err != nil {
			p.t.Fatal(err)
		}
	}
}

// serve tells every client its name and who it takes the client for, and echoes datagrams.
func (p *sharedPod) serve(in netns, name string, ports ...int) {
	p.t.Helper()
	for _, port := range ports {
		address := fmt.Sprintf("[::]:%d", port)
		var stream net.Listener
		var datagrams net.PacketConn
		err := in.Do(func(netns) (err error) {
			if stream, err = net.Listen("tcp", address); err == nil {
				datagrams, err = net.ListenPacket("udp", address)
			}
			return err
		})
		if err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(func() { stream.Close(); datagrams.Close() })
		go func() {
			for {
				conn, err := stream.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(conn, "%s sees %s", name, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
				conn.Close()
			}
		}()
		go func() {
			for b := make([]byte, 1<<16); ; {
				n, from, err := datagrams.ReadFrom(b)
				if err != nil {
					return
				}
				datagrams.WriteTo(append([]byte(name+" "), b[:n]...), from) //nolint:errcheck // who waits for it says so
			}
		}()
	}
}

// ask connects and returns what the server says.
func ask(in netns, network, address string, source int, hello []byte) (answer string, err error) {
	return askWithin(podtest.Patience, in, network, address, source, hello)
}

// unanswered reports whether nobody answers, for so long as an answer takes many times over.
func unanswered(in netns, network, address string, source int) bool {
	_, err := askWithin(200*time.Millisecond, in, network, address, source, []byte("x"))
	var silence net.Error
	return errors.As(err, &silence) && silence.Timeout()
}

func askWithin(patience time.Duration, in netns, network, address string, source int, hello []byte) (answer string, err error) {
	err = in.Do(func(netns) error {
		d := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }), err)
		}}
		switch {
		case source != 0 && network == "udp":
			d.LocalAddr = &net.UDPAddr{Port: source}
		case source != 0:
			d.LocalAddr = &net.TCPAddr{Port: source}
		}
		conn, err := d.Dial(network, address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		b := make([]byte, 1<<16)
		if network == "udp" {
			if _, err := conn.Write(hello); err != nil {
				return err
			}
			n, err := conn.Read(b)
			answer = string(b[:n])
			return err
		}
		all, err := io.ReadAll(conn)
		answer = string(all)
		return err
	})
	return answer, err
}

// hears fails the test unless the answer is this one.
func (p *sharedPod) hears(in netns, address, want string) {
	p.t.Helper()
	if got, err := ask(in, "tcp", address, 0, nil); err != nil || got != want {
		p.t.Errorf("%s: %q, %v, and not %q", address, got, err, want)
	}
}

// TestContainersShareTheGuestsAddress has a pod's processes and a guest use one address, of either family, from and to
// outside, and each other's.
func TestContainersShareTheGuestsAddress(t *testing.T) {
	for _, kind := range []string{"veth", "bridge"} {
		for _, socket := range []string{plan.SocketPacket, plan.SocketUDP} {
			t.Run(kind+", "+socket, func(t *testing.T) {
				t.Parallel()
				p := newSharedPod(t, kind, plan.Options{Socket: socket})
				p.serve(p.pod, "pod", 8080, 53)
				p.serve(p.node, "node", 80, 54)
				// Before there is a guest, the containers are found.
				p.hears(p.node, "10.244.1.5:8080", "pod sees 10.244.1.1")
				p.hears(p.node, "[2001:db8::5]:8080", "pod sees 2001:db8::1")
				p.boot()
				p.serve(p.guest, "guest", 80, 22, 54)
				for range 2 {
					p.meet()
					for in, link := range map[netns]string{p.node: "host0", p.pod: "eth0", p.guest: "g0"} {
						if _, err := p.run(in, "ip", "neigh", "flush", "dev", link); err != nil {
							t.Fatal(err)
						}
					}
				}
				p.datagrams()
				p.pings()
				p.narrowPaths()
				if b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/../net/stat/nf_conntrack", p.pod.Fd())); err == nil {
					t.Errorf("connections are tracked: %s", b)
				}
			})
		}
	}
}

// meet has everybody connect to everybody, where the pod serves 8080, the guest 22 and 80, and the node 80.
func (p *sharedPod) meet() {
	p.t.Helper()
	p.hears(p.node, "10.244.1.5:8080", "pod sees 10.244.1.1")
	p.hears(p.node, "[2001:db8::5]:8080", "pod sees 2001:db8::1")
	p.hears(p.node, "10.244.1.5:80", "guest sees 10.244.1.1")
	p.hears(p.node, "[2001:db8::5]:80", "guest sees 2001:db8::1")
	for _, in := range []netns{p.pod, p.guest} {
		p.hears(in, "10.244.1.1:80", "node sees 10.244.1.5")
		p.hears(in, "[2001:db8::1]:80", "node sees 2001:db8::5")
	}
	p.hears(p.pod, "127.0.0.1:22", "guest sees 169.254.75.11")
	p.hears(p.pod, "169.254.75.10:80", "guest sees 169.254.75.10")
	p.hears(p.pod, "[fd10:0:2::2]:80", "guest sees fd10:0:2::2")
	p.hears(p.guest, "169.254.75.10:8080", "pod sees 169.254.75.10")
	p.hears(p.guest, "[fd10:0:2::2]:8080", "pod sees fd10:0:2::2")
}

// datagrams are larger than a frame, so that all but the first fragment show no port.
func (p *sharedPod) datagrams() {
	p.t.Helper()
	large := bytes.Repeat([]byte("0123456789"), 400)
	for _, c := range []struct {
		in            netns
		address, from string
	}{
		{p.node, "10.244.1.5:53", "pod "}, {p.node, "[2001:db8::5]:53", "pod "},
		{p.node, "10.244.1.5:54", "guest "}, {p.node, "[2001:db8::5]:54", "guest "},
		{p.pod, "10.244.1.1:54", "node "}, {p.pod, "[2001:db8::1]:54", "node "},
		{p.guest, "10.244.1.1:54", "node "}, {p.guest, "[2001:db8::1]:54", "node "},
		{p.guest, "169.254.75.10:53", "pod "}, {p.guest, "[fd10:0:2::2]:53", "pod "},
	} {
		if got, err := ask(c.in, "udp", c.address, 0, large); err != nil || got != c.from+string(large) {
			p.t.Errorf("%s, large: %d bytes, %v", c.address, len(got), err)
		}
	}
}

// pings are answered to who asks, and from outside by the guest alone.
func (p *sharedPod) pings() {
	p.t.Helper()
	for in, addresses := range map[netns][]string{
		p.pod:   {"10.244.1.1", "2001:db8::1"},
		p.guest: {"10.244.1.1", "2001:db8::1", "169.254.75.10", "fd10:0:2::2"},
		p.node:  {"10.244.1.5", "2001:db8::5"},
	} {
		for _, a := range addresses {
			out, err := p.run(in, "ping", "-c", "2", "-i", "0.01", "-W", "90", a)
			if err != nil || strings.Contains(out, "DUP") {
				p.t.Errorf("ping %s: %v: %s", a, err, out)
			}
		}
	}
}

// narrowPaths are told to who sends too large a packet, the pod or the guest.
func (p *sharedPod) narrowPaths() {
	p.t.Helper()
	for _, in := range []netns{p.pod, p.guest} {
		for _, c := range []struct{ family, to string }{{"-4", "203.0.113.9"}, {"-6", "2001:db8:f::9"}} {
			for deadline := time.Now().Add(podtest.Patience); ; time.Sleep(20 * time.Millisecond) {
				// The router answers at once, unless it is asked too often.
				_, _ = p.run(in, "ping", c.family, "-M", "do", "-s", "1372", "-c", "1", "-W", "0.2", c.to)
				out, err := p.run(in, "ip", c.family, "route", "get", c.to)
				if err == nil && strings.Contains(out, "mtu 1300") {
					break
				}
				if time.Now().After(deadline) {
					p.t.Errorf("the path to %s: %v: %s", c.to, err, out)
					break
				}
			}
		}
	}
}

// TestAThousandConnectionsOfAContainer leave by the range that the pod's spec names, and none by a port of the guest's.
func TestAThousandConnectionsOfAContainer(t *testing.T) {
	t.Parallel()
	p := newSharedPod(t, "veth", plan.Options{})
	p.boot()
	p.serve(p.node, "node", 80)
	for i := range 1000 {
		if got, err := ask(p.pod, "tcp", []string{"10.244.1.1:80", "[2001:db8::1]:80"}[i%2], 0, nil); err != nil || !strings.HasPrefix(got, "node") {
			t.Fatalf("connection %d: %q, %v", i, got, err)
		}
	}
}

// TestWhatAContainerCannot is what docs/shared.md says of the containers beside a guest.
func TestWhatAContainerCannot(t *testing.T) {
	t.Parallel()
	p := newSharedPod(t, "veth", plan.Options{})
	p.serve(p.pod, "pod", 8080, 8090)
	p.serve(p.node, "node", 80)
	p.boot()
	p.serve(p.guest, "guest", 22, 80)
	for _, address := range []string{"10.244.1.5:8090", "[2001:db8::5]:8090"} {
		if got, err := ask(p.node, "tcp", address, 0, nil); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a port that is not listed: %s: %q, %v, and the guest does not refuse it", address, got, err)
		}
	}
	if !unanswered(p.guest, "tcp", "169.254.75.10:8090", 0) {
		t.Error("the guest reaches a container by a port that is not listed")
	}
	for _, address := range []string{"10.244.1.1:80", "[2001:db8::1]:80"} {
		if got, err := ask(p.pod, "tcp", address, 40000, nil); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("from a port outside the range to %s: %q, %v", address, got, err)
		}
		if got, err := ask(p.pod, "udp", address, 40000, []byte("x")); !errors.Is(err, unix.EPERM) {
			t.Errorf("by UDP from a port outside the range to %s: %q, %v", address, got, err)
		}
		for _, source := range []int{8081, 30000} {
			if !unanswered(p.guest, "tcp", address, source) {
				t.Errorf("the guest is answered at port %d, which is the pod's, by %s", source, address)
			}
		}
	}
	if got, err := ask(p.pod, "tcp", "127.0.0.1:80", 0, nil); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("127.0.0.1 by a port that is not among the guest's: %q, %v", got, err)
	}
	// What the guest has closed is told of TCP, and not of UDP.
	for _, address := range []string{"169.254.75.10:81", "[fd10:0:2::2]:81"} {
		if got, err := ask(p.pod, "tcp", address, 0, nil); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a port that the guest has closed: %s: %q, %v", address, got, err)
		}
		if !unanswered(p.pod, "udp", address, 0) {
			t.Errorf("a port of UDP that the guest has closed: %s: an error tells", address)
		}
	}
	if got, err := ask(p.pod, "tcp", "[::1]:22", 0, nil); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("::1 by a port of the guest's: %q, %v", got, err)
	}
	// Istio's and other redirects need the pod's stack to see the guest's connections, of which it sees nothing.
	if _, err := p.run(p.pod, "nft", "table inet mesh { chain out { type nat hook output priority -100; tcp dport 80 redirect to :8080; }; chain in { type nat hook prerouting priority -100; tcp dport 80 redirect to :8080; }; }"); err != nil {
		t.Fatal(err)
	}
	p.hears(p.guest, "10.244.1.1:80", "node sees 10.244.1.5")
	p.hears(p.node, "10.244.1.5:80", "guest sees 10.244.1.1")
}

// TestWhatThePodSays has a packet socket of the pod send what the pod's stack may, and what it may not, and joins a group.
func TestWhatThePodSays(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, dualStack...)
	p.settle()
	p.wire(plan.Options{Binding: plan.BindingShared})
	guest, node := p.ends()
	frame := func(etherType int, packet []byte) []byte { return ethernet(nodeMAC, podMAC, etherType, packet) }
	udp := func(port int) []byte {
		return frame(unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, podIP, gatewayIP, port, 999))
	}
	message := func(protocol int, kind byte) []byte {
		return frame(unix.ETH_P_IP, ipv4Packet(protocol, podIP, gatewayIP, append([]byte{kind}, make([]byte, 40)...)))
	}
	// MLD has an extension header before it (RFC 3810, 5).
	reported := slices.Concat([]byte{unix.IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0, 143}, make([]byte, 7))
	report6 := frame(unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_HOPOPTS, netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("ff02::16"), reported))
	said := map[string]struct {
		frame  []byte
		leaves bool
	}{
		"a kept port": {udp(8080), true}, "the range": {udp(30000), true}, "a port of the guest's": {udp(40000), false},
		"an echo request": {message(unix.IPPROTO_ICMP, 8), true}, "an echo reply": {message(unix.IPPROTO_ICMP, 0), false},
		"a report of groups": {message(unix.IPPROTO_IGMP, 0x22), false}, "a report of groups, IPv6": {report6, false}, "SCTP": {message(unix.IPPROTO_SCTP, 0), false},
		"ARP": {frame(unix.ETH_P_ARP, arp(1, podMAC, podIP, gatewayIP)), true}, "something else": {frame(0x88b6, make([]byte, 50)), false},
	}
	var failed error
	err := p.pod.Do(func(netns) error {
		conn, err := packetSocket("eth0")
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, c := range said {
			_, _ = conn.WriteTo(c.frame, &packet.Addr{HardwareAddr: nodeMAC.HardwareAddr()}) // the hook's drop is an error or none
		}
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		for network, group := range map[string]string{"udp4": "239.1.2.3", "udp6": "ff05::1:3"} {
			member, err := net.ListenMulticastUDP(network, link, &net.UDPAddr{IP: net.ParseIP(group), Port: 30001})
			if err != nil {
				return err
			}
			member.Close()
		}
		raw, err := net.Dial("ip4:132", gatewayIP.String())
		if err != nil {
			return err
		}
		defer raw.Close()
		_, failed = raw.Write(make([]byte, 40))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(failed, unix.EPERM) {
		t.Errorf("SCTP by a raw socket: %v", failed)
	}
	frames := ofPod(arrivals(t, guest, node, identity.MAC{2, 0, 0, 0, 0, 0xbb}))
	for what, c := range said {
		if got := slices.ContainsFunc(frames, func(f []byte) bool { return bytes.Equal(f, c.frame) }); got != c.leaves {
			t.Errorf("%s leaves the pod: %v", what, got)
		}
	}
	for _, f := range frames {
		if f[13] == 0 && f[23] == unix.IPPROTO_IGMP || f[12] == 0x86 && f[20] == unix.IPPROTO_HOPOPTS {
			t.Errorf("the pod's stack reports groups: %x", f)
		}
	}
}

// TestWhatThePodHears has the pod network send to a port of the guest's and to one that the pod keeps. Of both a packet socket
// of the pod hears, and a raw socket of the pod's alone.
func TestWhatThePodHears(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, dualStack...)
	p.settle()
	p.wire(plan.Options{Binding: plan.BindingShared})
	_, node := p.ends()
	var raw net.PacketConn
	var wire *packet.Conn
	err := p.pod.Do(func(netns) (err error) {
		if raw, err = net.ListenPacket("ip4:udp", "0.0.0.0"); err == nil {
			wire, err = packetSocket("eth0")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	defer wire.Close()
	const guests, pods = 80, 8080
	for _, port := range []int{guests, pods} {
		if err := node.send(ethernet(podMAC, nodeMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, gatewayIP, podIP, 999, port))); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		socket net.PacketConn
		header int // before the ports
		want   []int
	}{"a raw socket": {raw, 0, []int{pods}}, "a packet socket": {wire, 14 + 20, []int{guests, pods}}} {
		if err := c.socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var heard []int
		for b := make([]byte, 2000); !slices.Contains(heard, pods); {
			n, _, err := c.socket.ReadFrom(b)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if n >= c.header+8 && binary.BigEndian.Uint16(b[c.header:]) == 999 {
				heard = append(heard, int(binary.BigEndian.Uint16(b[c.header+2:])))
			}
		}
		if !slices.Equal(heard, c.want) {
			t.Errorf("%s hears what is sent to %v, and not to %v", what, heard, c.want)
		}
	}
}

// TestEveryOtherPortIsTheGuests sends to and from ports, by both protocols and in both families. At the pod's, guest and pod
// network hear nothing of each other, and at all others what was sent, as it was sent.
func TestEveryOtherPortIsTheGuests(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, dualStack...)
	p.settle()
	p.wire(plan.Options{Binding: plan.BindingShared})
	guest, node := p.ends()
	own6, node6 := netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("2001:db8::1")
	sources, err := plan.ParseSources(plan.PodSources)
	if err != nil {
		t.Fatal(err)
	}
	pods := append(slices.Clone(keptPorts), sources)
	at := map[int]bool{1: true, 65535: true}
	for _, r := range slices.Concat(pods, guestPorts) {
		for _, port := range []uint16{r.First - 1, r.First, r.Last, r.Last + 1} {
			at[int(port)] = true
		}
	}
	for port := 97; port < 1<<16; port += 97 {
		at[port] = true
	}
	for _, way := range []struct {
		what     string
		from, to port
		frame    func(protocol, port int) [2][]byte
	}{
		{"to the guest", node, guest, func(protocol, port int) [2][]byte {
			packet := ipv4(protocol, gatewayIP, podIP, 999, port)
			return [2][]byte{
				ethernet(podMAC, nodeMAC, unix.ETH_P_IP, packet),
				ethernet(podMAC, nodeMAC, unix.ETH_P_IPV6, ipv6Packet(protocol, node6, own6, packet[20:])),
			}
		}},
		{"from the guest", guest, node, func(protocol, port int) [2][]byte {
			packet := ipv4(protocol, podIP, gatewayIP, port, 999)
			return [2][]byte{
				ethernet(nodeMAC, podMAC, unix.ETH_P_IP, packet),
				ethernet(nodeMAC, podMAC, unix.ETH_P_IPV6, ipv6Packet(protocol, own6, node6, packet[20:])),
			}
		}},
	} {
		for protocol, number := range map[string]int{plan.ProtocolTCP: unix.IPPROTO_TCP, plan.ProtocolUDP: unix.IPPROTO_UDP} {
			for port := range at {
				if plan.IsDHCP(uint16(port), protocol) {
					continue
				}
				frames := way.frame(number, port)
				for _, f := range frames[:] {
					if err := way.from.send(f); err != nil {
						t.Fatal(err)
					}
				}
				came := arrivals(t, way.from, way.to, identity.MAC(frames[0][6:12]))
				for i, f := range frames {
					crosses := slices.ContainsFunc(came, func(c []byte) bool { return bytes.Equal(c, f) })
					if want := !pods.Has(uint16(port), protocol); crosses != want {
						t.Errorf("%s, %d/%s, IPv%d: crosses %v", way.what, port, protocol, 4+2*i, crosses)
					}
				}
			}
		}
	}
}

// TestPortsAreTold looks at a shared pod with a listener that nobody reaches, also once its record is lost.
func TestPortsAreTold(t *testing.T) {
	t.Parallel()
	p := newSharedPod(t, "veth", plan.Options{})
	p.serve(p.pod, "pod", 8080, 8090)
	for _, lost := range []bool{false, true} {
		if lost {
			if err := os.Remove(p.recordPath()); err != nil {
				t.Fatal(err)
			}
		}
		seen, err := Inspect(p.request())
		if err != nil {
			t.Fatal(err)
		}
		o := seen.Options
		if o.Binding != plan.BindingShared || o.PodPorts.String() != keptPorts.String() || o.GuestPorts.String() != guestPorts.String() || o.Sources.String() != "28232-32767" {
			t.Errorf("record lost %v: %+v", lost, o)
		}
		warnings := strings.Join(seen.Warnings, "\n")
		for _, port := range []string{"8090/tcp", "8090/udp"} {
			said := fmt.Sprintf(`process %d \(.*\) of user 0 listens on %s, which is not among --pod-ports`, os.Getpid(), port)
			if !regexp.MustCompile(said).MatchString(warnings) {
				t.Errorf("record lost %v: nothing of %s: %s", lost, port, warnings)
			}
		}
		if strings.Contains(warnings, "8080") || len(seen.Deviations) > 0 {
			t.Errorf("record lost %v: %s: %v", lost, warnings, seen.Deviations)
		}
	}
	p.sysctl("net.ipv4.ip_local_port_range", "20000 21000")
	if seen, err := Inspect(p.request()); err != nil || !strings.Contains(strings.Join(seen.Warnings, "\n"), "come from the ports 20000-21000 since it was wired") {
		t.Errorf("another range: %v: %v", err, seen)
	}
}

// TestWhatCannotBeShared is refused with the reason, and nothing is touched.
func TestWhatCannotBeShared(t *testing.T) {
	t.Parallel()
	shared := plan.Options{Binding: plan.BindingShared}
	ports := func(text string) plan.Ports {
		all, err := plan.ParsePorts(text)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	for name, c := range map[string]struct {
		options  plan.Options
		commands []string
		sources  string
		without  []string
		want     string
	}{
		"the kernel's range": {options: shared, sources: "32768 60999", want: "securityContext: {sysctls: [{name: net.ipv4.ip_local_port_range"},
		"a kept port of the range": {options: plan.Options{Binding: plan.BindingShared, PodPorts: ports("30000")},
			want: "the pod's connections come from the ports 28232-32767"},
		"a kept port that is the guest's": {options: plan.Options{Binding: plan.BindingShared, PodPorts: ports("80-90"), GuestPorts: ports("85/tcp")},
			want: "85/tcp is among the ports that the pod keeps"},
		"DHCP":                  {options: plan.Options{Binding: plan.BindingShared, PodPorts: ports("1-1024")}, want: "those of DHCP"},
		"ports without sharing": {options: plan.Options{Binding: plan.BindingRedirect, PodPorts: ports("80")}, want: "pass --binding shared"},
		"no address":            {options: plan.Options{Interface: "eth0", Binding: plan.BindingShared}, commands: []string{"addr flush dev eth0"}, want: "no address that guest and containers could share"},
		"no forwarding":         {options: shared, without: []string{rtnl.HideForward}, want: "the binding shared requires it: pass --binding redirect"},
		"no nftables":           {options: shared, without: []string{rtnl.HideNFTables}, want: "the binding shared requires it: pass --binding redirect"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, slices.Concat(shapes["bridge"], c.commands)...)
			p.sysctl("net.ipv4.ip_local_port_range", cmp.Or(c.sources, plan.PodSources))
			before := p.text()
			req := p.request()
			req.Options, req.without = c.options, c.without
			_, err := Prepare(context.Background(), req)
			if !IsRefusal(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			p.same(before)
			p.noFiles()
		})
	}
}

// TestOneInterfaceIsShared refuses a second one, whose guest could not be told from the first's.
func TestOneInterfaceIsShared(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, append(slices.Clone(shapes["bridge"]), "link add net1 type veth peer name net1p", "addr add 10.245.0.5/24 dev net1",
		"link set net1 up", "link set net1p up")...)
	before := p.text()
	req := p.request()
	for _, iface := range []string{"eth0", "net1"} {
		req.Interfaces = append(req.Interfaces, plan.Options{Interface: iface, Binding: plan.BindingShared})
	}
	if _, err := PrepareAll(context.Background(), req); !IsRefusal(err) || !strings.Contains(err.Error(), "--interface net1,binding=redirect") {
		t.Errorf("both: %v", err)
	}
	p.same(before)
	req.Interfaces[1].Binding = plan.BindingRedirect
	if _, err := PrepareAll(context.Background(), req); err != nil {
		t.Error(err)
	}
}

// TestWhomAFrameIsFor sends frames from either side, with ports and without, in VLANs and in none.
func TestWhomAFrameIsFor(t *testing.T) {
	const guest, pod, both = "guest", "pod", "guest and pod"
	own6, node6 := netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("2001:db8::1")
	datagram := func(source, port int) []byte {
		return slices.Concat(word(source), word(port), word(20), make([]byte, 14))
	}
	// What is at the place of a fragment's ports is taken for them by the kernel's nftables.
	fragment4 := func(at int) []byte {
		packet := ipv4Packet(unix.IPPROTO_UDP, gatewayIP, podIP, datagram(8080, 8080))
		binary.BigEndian.PutUint16(packet[6:], uint16(at/8))
		return packet
	}
	fragment6 := func(at int) []byte {
		header := slices.Concat([]byte{unix.IPPROTO_UDP, 0}, word(at), word(0), word(77))
		return ipv6Packet(unix.IPPROTO_FRAGMENT, node6, own6, append(header, datagram(8080, 8080)...))
	}
	icmp := func(kind byte) []byte {
		return ipv4Packet(unix.IPPROTO_ICMP, gatewayIP, podIP, append([]byte{kind, 0}, make([]byte, 40)...))
	}
	icmp6 := func(kind byte, from netip.Addr) []byte {
		return ipv6Packet(unix.IPPROTO_ICMPV6, from, own6, append([]byte{kind, 0}, make([]byte, 40)...))
	}
	udp := func(port int) []byte { return ipv4(unix.IPPROTO_UDP, gatewayIP, podIP, 999, port) }
	udp6 := func(port int) []byte { return ipv6Packet(unix.IPPROTO_UDP, node6, own6, datagram(999, port)) }
	frame := func(etherType int, packet []byte, tags ...[2]int) []byte {
		return ethernet(podMAC, nodeMAC, etherType, packet, tags...)
	}
	const v4, v6 = unix.ETH_P_IP, unix.ETH_P_IPV6
	tagged := func(id int) [2]int { return [2]int{unix.ETH_P_8021Q, id} }
	toPod := []struct {
		what  string
		frame []byte
		whose string
	}{
		{"a kept port", frame(v4, udp(8080)), pod},
		{"the end of a range", frame(v4, udp(8083)), pod},
		{"the port behind it", frame(v4, udp(8084)), guest},
		{"a port that is kept for UDP", frame(v4, ipv4(unix.IPPROTO_TCP, gatewayIP, podIP, 999, 53)), guest},
		{"a kept port, IPv6", frame(v6, udp6(8080)), pod},
		{"the range, IPv6", frame(v6, udp6(30000)), pod},
		{"another port, IPv6", frame(v6, udp6(80)), guest},
		{"a kept port of SCTP", frame(v4, ipv4(unix.IPPROTO_SCTP, gatewayIP, podIP, 999, 8080)), guest},
		{"a kept port in VLAN 0", frame(v4, udp(8080), tagged(0)), pod},
		{"a kept port in VLAN 5", frame(v4, udp(8080), tagged(5)), guest},
		{"a kept port in VLAN 5, IPv6", frame(v6, udp6(8080), tagged(5)), guest},
		{"a kept port in two VLANs", frame(v4, udp(8080), tagged(5), tagged(6)), guest},
		{"a first fragment", frame(v4, fragment4(0)), pod},
		{"a further fragment", frame(v4, fragment4(800)), both},
		{"a further fragment, IPv6", frame(v6, fragment6(800)), both},
		{"an echo request", frame(v4, icmp(8)), guest},
		{"an echo reply", frame(v4, icmp(0)), both},
		{"an error", frame(v4, icmp(3)), both},
		{"the time is asked", frame(v4, icmp(13)), guest},
		{"an echo request, IPv6", frame(v6, icmp6(128, node6)), guest},
		{"an echo reply, IPv6", frame(v6, icmp6(129, node6)), both},
		{"too big", frame(v6, icmp6(2, node6)), both},
		{"a neighbour's advertisement", frame(v6, icmp6(136, node6)), both},
		{"a neighbour's solicitation", frame(v6, icmp6(135, node6)), both},
		{"a solicitation of duplicate address detection", frame(v6, icmp6(135, netip.IPv6Unspecified())), guest},
		{"a router's advertisement, of which the pod has had none", frame(v6, icmp6(134, node6)), ""}, // the guest is served podnic's
		{"who listens to groups", frame(v4, ipv4Packet(unix.IPPROTO_IGMP, gatewayIP, podIP, make([]byte, 40))), both},
		{"who listens to groups, IPv6", frame(v6, icmp6(130, node6)), both},
		{"ARP's reply", frame(unix.ETH_P_ARP, arp(2, nodeMAC, gatewayIP, podIP)), both},
		{"ARP's request", frame(unix.ETH_P_ARP, arp(1, nodeMAC, gatewayIP, podIP)), both},
		{"ARP's request for the other address", frame(unix.ETH_P_ARP, arp(1, nodeMAC, gatewayIP, identity.ServerLinkLocal)), guest},
		{"ARP's probe", frame(unix.ETH_P_ARP, arp(1, nodeMAC, netip.IPv4Unspecified(), podIP)), guest},
		{"LLDP", frame(unix.ETH_P_LLDP, make([]byte, 50)), guest},
	}
	p := newTestPod(t, dualStack...)
	p.settle()
	p.wire(plan.Options{Binding: plan.BindingShared})
	const seen = "table netdev seen { chain in { type filter hook ingress device eth0 priority 10; counter; }; }"
	if _, err := p.run(p.pod, "nft", seen); err != nil {
		t.Fatal(err)
	}
	tap, node := p.ends()
	count := func() int {
		out, err := p.run(p.pod, "nft", "list", "table", "netdev", "seen")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(out, "packets ")
		var n int
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return n
	}
	before := count()
	for _, c := range toPod {
		var whose []string
		if crosses(t, node, tap, c.frame) {
			whose = append(whose, guest)
		}
		now := count()
		if now > before {
			whose = append(whose, pod)
		}
		before = now
		if got := strings.Join(whose, " and "); got != c.whose {
			t.Errorf("%s is for %q, and not %q", c.what, got, c.whose)
		}
	}
	say := func(etherType int, packet []byte, tags ...[2]int) []byte {
		return ethernet(nodeMAC, podMAC, etherType, packet, tags...)
	}
	from := func(port int) []byte { return ipv4(unix.IPPROTO_UDP, podIP, gatewayIP, port, 999) }
	for _, c := range []struct {
		what    string
		frame   []byte
		crosses bool
	}{
		{"the guest's own port", say(v4, from(80)), true},
		{"the pod's port", say(v4, from(8080)), false},
		{"the pod's range", say(v4, from(30000)), false},
		{"the pod's port, IPv6", say(v6, ipv6Packet(unix.IPPROTO_UDP, own6, node6, datagram(8080, 999))), false},
		{"the pod's port in VLAN 0", say(v4, from(8080), tagged(0)), false},
		{"the pod's port behind two tags of VLAN 0", say(v4, from(8080), tagged(0), tagged(0)), false},
		{"the pod's port in VLAN 5", say(v4, from(8080), tagged(5)), true},
		{"a further fragment that looks like the pod's port", say(v4, fragment4(800)), true},
		{"a further fragment that looks like the pod's port, IPv6", say(v6, fragment6(800)), true},
		{"the other address", say(v4, ipv4(unix.IPPROTO_UDP, podIP, identity.ServerLinkLocal, 80, 8080)), false},
		{"the pod's 127.0.0.1", say(v4, ipv4(unix.IPPROTO_UDP, podIP, identity.Localhost4, 80, 8080)), false},
	} {
		if got := crosses(t, tap, node, c.frame); got != c.crosses {
			t.Errorf("from the guest, %s: crosses %v", c.what, got)
		}
	}
}
