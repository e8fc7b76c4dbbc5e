package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
	"golang.org/x/sys/unix"
)

// newTCPod is a pod on a kernel whose nftables cannot redirect.
func newTCPod(t *testing.T, commands ...string) *testPod {
	t.Helper()
	p := newTestPod(t, commands...)
	p.joint = joints["redirect by tc"]
	return p
}

// tc is what tc(8) says of the links' qdiscs and filters, less counters.
func (p *testPod) tc() string {
	p.t.Helper()
	var b strings.Builder
	for _, c := range []string{"qdisc show dev eth0", "filter show dev eth0 ingress", "filter show dev eth0 egress"} {
		out, err := p.run(p.pod, "tc", strings.Fields(c)...)
		if err != nil {
			p.t.Fatal(err)
		}
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "installed") { // how long ago
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// runAll runs commands in the pod.
func (p *testPod) runAll(commands ...string) {
	p.t.Helper()
	for _, c := range commands {
		words := strings.Fields(c)
		if out, err := p.run(p.pod, words[0], words[1:]...); err != nil {
			p.t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
}

// TestTCRedirectsWhereNftablesCannot says so in the plan, in the record and in what a look shows, and leaves nothing.
func TestTCRedirectsWhereNftablesCannot(t *testing.T) {
	for name, without := range map[string]string{"no fwd": rtnl.HideForward, "no nf_tables": rtnl.HideNFTables} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, shapes["dual stack"]...)
			p.joint = joint{plan.BindingRedirect, "", []string{without}}
			p.settleNode() // its router answers the plan as it does what follows
			before, qdiscs := p.text(), p.tc()
			all, err := Plan(context.Background(), p.request())
			if err != nil || len(all) != 1 {
				t.Fatal(all, err)
			}
			planned := all[0]
			r := p.prepare()
			if !r.Record.Options.TC || !strings.Contains(r.Record.Why, "tc redirects") || planned.Why != r.Record.Why {
				t.Errorf("planned for the reason %q, done for %q", planned.Why, r.Record.Why)
			}
			// The tap that nftables would have had lacks its alias alone.
			done := slices.DeleteFunc(lines(r.Steps), func(l string) bool { return strings.HasPrefix(l, "set alias") })
			if diff := cmp.Diff(lines(planned.Steps), done); diff != "" {
				t.Errorf("planned and done:\n%s", diff)
			}
			seen, err := Inspect(p.request())
			if err != nil || len(seen.Deviations)+len(seen.Repairs) > 0 || seen.Why != r.Record.Why {
				t.Errorf("a look shows %v, for the reason %q: %v", seen.Deviations, seen.Why, err)
			}
			guest, node := p.ends()
			if crosses(t, guest, node, ethernet(broadcast, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, podIP, gatewayIP, 68, 67))) {
				t.Error("DHCP crosses")
			}
			guest.Close()
			p.restore()
			p.same(before)
			p.noFiles()
			if diff := cmp.Diff(qdiscs, p.tc()); diff != "" {
				t.Errorf("tc:\n%s", diff)
			}
			if out, err := p.run(p.pod, "nft", "list", "ruleset"); err != nil || out != "" {
				t.Errorf("nft: %v: %s", err, out)
			}
		})
	}
}

func lines(steps []plan.Step) (all []string) {
	for _, s := range steps {
		all = append(all, s.String())
	}
	return all
}

// TestQdiscOfSomebodyElseIsRefusedByName: the redirect would need its place. Where nftables can redirect, it is in no
// way.
func TestQdiscOfSomebodyElseIsRefusedByName(t *testing.T) {
	for name, test := range map[string]struct {
		commands []string
		words    []string
	}{
		"clsact":  {[]string{"tc qdisc add dev eth0 clsact"}, []string{"clsact", "tc qdisc del dev eth0 clsact"}},
		"ingress": {[]string{"tc qdisc add dev eth0 ingress"}, []string{"ingress"}},
		"filters": {
			[]string{"tc qdisc add dev eth0 clsact", "tc filter add dev eth0 ingress protocol ip pref 7 u32 match u32 0 0 flowid :1"},
			[]string{"ingress pref 7 u32"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTCPod(t, shapes["ptp"]...)
			p.runAll(test.commands...)
			before := p.text() + p.tc()
			p.refused(p.tryPrepare, append(test.words, "CONFIG_NFT_FWD_NETDEV")...)
			if diff := cmp.Diff(before, p.text()+p.tc()); diff != "" {
				t.Errorf("the refusal has touched something:\n%s", diff)
			}
			p.joint = joints["redirect"]
			p.prepare()
			p.restore()
			if diff := cmp.Diff(before, p.text()+p.tc()); diff != "" {
				t.Errorf("a redirect by nftables has touched something:\n%s", diff)
			}
		})
	}
}

// TestTCDriftIsMended: what somebody does to tc shows, and the next prepare mends it.
func TestTCDriftIsMended(t *testing.T) {
	for name, commands := range map[string][]string{
		"qdisc gone":            {"tc qdisc del dev eth0 clsact"},
		"the tap's qdisc gone":  {"tc qdisc del dev tap0 clsact"},
		"both gone":             {"tc qdisc del dev eth0 clsact", "tc qdisc del dev tap0 clsact"},
		"ingress in its place":  {"tc qdisc del dev eth0 clsact", "tc qdisc add dev eth0 ingress"},
		"fence gone":            {"tc filter del dev eth0 ingress pref 28782"},
		"egress fence gone":     {"tc filter del dev eth0 egress"},
		"redirect gone":         {"tc filter del dev tap0 ingress pref 28783"},
		"all filters gone":      {"tc filter del dev eth0 ingress"},
		"a filter ahead":        {"tc filter add dev eth0 ingress protocol all pref 1 u32 match u32 0 0 action mirred egress redirect dev lo"},
		"fence of another kind": {"tc filter del dev tap0 ingress pref 28782", "tc filter add dev tap0 ingress pref 28782 u32 match u32 0 0 flowid :1"},
		"redirect elsewhere":    {"tc filter del dev tap0 ingress pref 28783", "tc filter add dev tap0 ingress pref 28783 u32 match u32 0 0 action mirred egress redirect dev lo"},
		"tap gone":              {"ip link del tap0"},
		"tap and qdisc gone":    {"ip link del tap0", "tc qdisc del dev eth0 clsact"},
		"tap made anew":         {"ip link del tap0", "ip tuntap add tap0 mode tap vnet_hdr", "ip link set tap0 group 1879048194 up"},
		"alias":                 {"ip link set tap0 alias somebody's"},
		"table gone":            {"nft delete table inet podnic-eth0"},
		"tap down":              {"ip link set tap0 down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTCPod(t, shapes["ptp"]...)
			before := p.text() + p.tc()
			p.prepare()
			wired := p.wiredText()
			p.runAll(commands...)
			seen, err := Inspect(p.request())
			if err != nil || len(seen.Deviations) == 0 {
				t.Errorf("a look shows nothing: %v", err)
			}
			if r := p.prepare(); len(r.Steps) == 0 || !r.Repaired {
				t.Error("nothing was mended")
			}
			if diff := cmp.Diff(wired, p.wiredText()); diff != "" {
				t.Errorf("not what prepare makes:\n%s", diff)
			}
			if again := p.prepare(); len(again.Steps) > 0 {
				t.Errorf("and again: %v", again.Steps)
			}
			p.restore()
			if diff := cmp.Diff(before, p.text()+p.tc()); diff != "" {
				t.Errorf("restored:\n%s", diff)
			}
		})
	}
}

// TestRestoreByTCTakesWhatIsOurs: a filter that somebody hung among ours keeps its qdisc. A wiring that has lost its
// tap is known by the qdisc.
func TestRestoreByTCTakesWhatIsOurs(t *testing.T) {
	p := newTCPod(t, shapes["ptp"]...)
	before := p.text()
	p.prepare()
	p.runAll("tc filter add dev eth0 egress protocol ip pref 7 u32 match u32 0 0 flowid :1", "ip link del tap0")
	p.restore()
	p.same(before)
	if out := p.tc(); !strings.Contains(out, "pref 7 u32") || strings.Contains(out, "28782") {
		t.Errorf("tc has:\n%s", out)
	}
	if out, err := p.run(p.pod, "nft", "list", "ruleset"); err != nil || out != "" {
		t.Errorf("nft: %v: %s", err, out)
	}
}

// TestTCWiringThatLostItsRecordRemembersAllMulticast, as the tap keeps it: what the pod's link had is not what it has.
func TestTCWiringThatLostItsRecordRemembersAllMulticast(t *testing.T) {
	for _, had := range []string{"off", "on"} {
		for _, tap := range []string{"there", "gone"} {
			t.Run(had+", tap "+tap, func(t *testing.T) {
				t.Parallel()
				p := newTCPod(t, "link set eth0 name parent", "link set parent up", "link add eth0 link parent address 0a:58:0a:f4:01:06 type macvlan mode bridge",
					"addr add 10.244.1.5/24 dev eth0", "link set eth0 up", "node:link set host0 up", "route add default via 10.244.1.1", "link set eth0 allmulticast "+had)
				before := p.text()
				if r := p.prepare(); r.Record.Options.Binding != plan.BindingRedirect || !r.Record.Options.TC {
					t.Fatalf("wired as %v", r.Record.Options)
				}
				if out := p.ip("link show eth0"); !strings.Contains(out, "ALLMULTI") {
					t.Errorf("the link hears too little: %s", out)
				}
				if err := os.Remove(p.recordPath()); err != nil {
					t.Fatal(err)
				}
				if tap == "gone" {
					p.ip("link del tap0")
				}
				p.restore()
				p.same(before)
			})
		}
	}
}

// TestPodsOwnStackIsSilentByTC has the pod say all it can, by sockets and by hand: of that, its own DHCP client's
// requests leave, and nothing else. The reply to them is for the pod alone, and a router's advertisement for both.
func TestPodsOwnStackIsSilentByTC(t *testing.T) {
	for name, without := range map[string]string{"no fwd": rtnl.HideForward, "no nf_tables": rtnl.HideNFTables} {
		t.Run(name, func(t *testing.T) {
			p := newTestPod(t, append(shapes["dual stack"], "neigh add 10.244.1.1 lladdr "+nodeMAC.String()+" dev eth0 nud permanent")...)
			p.joint = joint{plan.BindingRedirect, "", []string{without}}
			p.prepare()
			guest, node := p.ends()
			client := p.say("udp4", "10.244.1.5:68", "10.244.1.1:67")
			defer client.Close()
			for _, to := range []string{"10.244.1.1:53", "10.244.1.77:53", "255.255.255.255:9", "224.0.0.251:5353", "[ff02::1%" + p.zone() + "]:9", "[fe80::77%" + p.zone() + "]:9"} {
				network := "udp4"
				if strings.Contains(to, "[") {
					network = "udp6"
				}
				p.say(network, "", to).Close()
			}
			conn, err := p.dial("tcp4", "10.244.1.1:80")
			if err == nil {
				conn.Close()
				t.Error("a connection of the pod's succeeds")
			}
			if atOnce := errors.Is(err, unix.ECONNREFUSED); atOnce != (without == rtnl.HideForward) { // and else by a time-out
				t.Errorf("a connection of the pod's fails with %v", err)
			}
			p.sendByHand(ethernet(broadcast, podMAC, 0x88b6, make([]byte, 50)))
			said := p.untilMarker(guest, node)
			dhcp := 0
			for _, frame := range said {
				if len(frame) > 38 && frame[12] == 8 && frame[13] == 0 && frame[23] == unix.IPPROTO_UDP && frame[37] == 67 {
					dhcp++
					continue
				}
				t.Errorf("the pod's stack says %x", frame)
			}
			if dhcp != 1 {
				t.Errorf("%d requests of the pod's DHCP client leave", dhcp)
			}
			reply := ethernet(podMAC, nodeMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, gatewayIP, podIP, 67, 68))
			if crosses(t, node, guest, reply) {
				t.Error("the reply to the pod's DHCP client reaches the guest")
			}
			if err := client.SetReadDeadline(time.Now().Add(podtest.Patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Read(make([]byte, 100)); err != nil {
				t.Errorf("the reply does not reach the pod's DHCP client: %v", err)
			}
		})
	}
}

// TestRouterAdvertisementsReachBothByTC, where the pod has had some: its addresses expire otherwise.
func TestRouterAdvertisementsReachBothByTC(t *testing.T) {
	p := newTCPod(t, shapes["bridge"]...)
	node := p.nodePort()
	router, all := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::1")
	group := identity.MAC{0x33, 0x33, 0, 0, 0, 1}
	advertise := func(prefix string) []byte {
		return ethernet(group, nodeMAC, unix.ETH_P_IPV6, ipv6Packet(unix.IPPROTO_ICMPV6, router, all, routerAdvertisement(router, all, netip.MustParsePrefix(prefix))))
	}
	has := func(prefix string) bool { return strings.Contains(p.ip("-6 addr show dev eth0"), prefix) }
	p.ip("node:link set host0 up")
	for deadline := time.Now().Add(podtest.Patience); !has("2001:db8:1:"); time.Sleep(20 * time.Millisecond) {
		if err := node.send(advertise("2001:db8:1::/64")); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the pod takes no address from an advertisement")
		}
	}
	p.prepare()
	guest, node := p.ends()
	if !crosses(t, node, guest, advertise("2001:db8:2::/64")) {
		t.Error("the guest does not hear it")
	}
	for deadline := time.Now().Add(podtest.Patience); !has("2001:db8:2:"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the pod does not hear it")
		}
	}
}

// dial opens a socket of the pod's.
func (p *testPod) dial(network, to string) (conn net.Conn, err error) {
	err = p.pod.Do(func(netns) (err error) {
		conn, err = net.DialTimeout(network, to, 1500*time.Millisecond)
		return err
	})
	return conn, err
}

// say has the pod send a datagram from an address, or from whatever it has. That it may not is nothing to the test.
func (p *testPod) say(network, from, to string) net.Conn {
	p.t.Helper()
	var local *net.UDPAddr
	if from != "" {
		local = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))
	}
	var conn net.Conn
	err := p.pod.Do(func(netns) (err error) {
		conn, err = (&net.Dialer{LocalAddr: addrOrNil(local)}).Dial(network, to)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	_, _ = conn.Write([]byte("this is the pod"))
	return conn
}

func addrOrNil(a *net.UDPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

// sendByHand sends a frame of the pod's by a packet socket.
func (p *testPod) sendByHand(frame []byte) {
	p.t.Helper()
	err := p.pod.Do(func(netns) error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index})
		if err == unix.ENOBUFS { // it was dropped (NET_XMIT_DROP)
			err = nil
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// untilMarker are the frames that are at the node's end before one that the guest sends now.
func (p *testPod) untilMarker(guest tapPort, node nodePort) (before [][]byte) {
	p.t.Helper()
	marker := ethernet(broadcast, podMAC, 0x88b5, slices.Repeat([]byte{9}, 50))
	if err := guest.send(marker); err != nil {
		p.t.Fatal(err)
	}
	if err := node.until(time.Now().Add(podtest.Patience)); err != nil {
		p.t.Fatal(err)
	}
	for {
		b := make([]byte, 2000)
		n, err := node.receive(b)
		if err != nil {
			p.t.Fatal(err)
		}
		if string(b[:n]) == string(marker) {
			return before
		}
		if identity.MAC(b[6:12]) != nodeMAC && !(b[12] == 0x88 && b[13] == 0xb5) {
			before = append(before, b[:n])
		}
	}
}
