package network

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// claim is a frame of the guest's, and whether it is a lie.
type claim struct {
	name  string
	lie   bool
	frame []byte
}

// claims are what a guest may say of who it is, and what it may not, in no VLAN tag and in one. It has 10.244.1.5 and
// 2001:db8::5; the pod's gateways are 10.244.1.1 and fe80::1.
func claims() (all []claim) {
	other := identity.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x09}
	otherIP, none4 := netip.MustParseAddr("10.244.1.9"), netip.IPv4Unspecified()
	own6, other6 := netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("2001:db8::9")
	own, gateway6 := netip.MustParseAddr("fe80::858:aff:fef4:105"), netip.MustParseAddr("fe80::1")
	none6 := netip.IPv6Unspecified()
	add := func(name string, lie bool, src identity.MAC, kind int, payload []byte) {
		all = append(all, claim{name, lie, ethernet(broadcast, src, kind, payload)})
		if !slices.Contains([]int{unix.ETH_P_8021Q, unix.ETH_P_8021AD}, kind) {
			all = append(all, claim{name + ", tagged", lie, ethernet(broadcast, src, kind, payload, [2]int{unix.ETH_P_8021Q, 0xe000})})
		}
	}
	tcp := func(src netip.Addr) []byte { return ipv4(unix.IPPROTO_TCP, src, gatewayIP, 1000, 80) }
	add("the pod's MAC", false, podMAC, 0x88b6, make([]byte, 50))
	add("another MAC", true, other, 0x88b6, make([]byte, 50))
	add("another MAC, IPv4", true, other, unix.ETH_P_IP, tcp(podIP))
	add("IPv4", false, podMAC, unix.ETH_P_IP, tcp(podIP))
	add("IPv4 of another", true, podMAC, unix.ETH_P_IP, tcp(otherIP))
	add("IPv4 of the gateway", true, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, gatewayIP, podIP, 53, 53))
	add("IPv4 of nobody", true, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, none4, everybody4, 1000, 53))

	for operation, name := range map[int]string{1: "ARP request", 2: "ARP reply"} {
		add(name, false, podMAC, unix.ETH_P_ARP, arp(operation, podMAC, podIP, gatewayIP))
		add(name+", announcement", false, podMAC, unix.ETH_P_ARP, arp(operation, podMAC, podIP, podIP))
		add(name+" as another", true, podMAC, unix.ETH_P_ARP, arp(operation, podMAC, otherIP, gatewayIP))
		add(name+" as the gateway", true, podMAC, unix.ETH_P_ARP, arp(operation, podMAC, gatewayIP, gatewayIP))
		add(name+" with another MAC inside", true, podMAC, unix.ETH_P_ARP, arp(operation, other, podIP, gatewayIP))
	}
	add("ARP probe", false, podMAC, unix.ETH_P_ARP, arp(1, podMAC, none4, podIP))
	add("ARP reply of nobody", true, podMAC, unix.ETH_P_ARP, arp(2, podMAC, none4, gatewayIP))
	odd := arp(1, podMAC, podIP, gatewayIP)
	odd[1] = 6 // IEEE 802, which Linux takes for Ethernet (arp_process)
	add("ARP of another kind", true, podMAC, unix.ETH_P_ARP, odd)

	udp := func(src netip.Addr, port int) []byte {
		return ipv6Packet(unix.IPPROTO_UDP, src, everybody6, udp6(src, everybody6, port, make([]byte, 8)))
	}
	nd := func(src netip.Addr, kind byte, target netip.Addr, headers ...byte) []byte {
		message := slices.Concat([]byte{kind, 0, 0, 0, 0x20, 0, 0, 0}, target.AsSlice())
		message = summed(src, everybody6, unix.IPPROTO_ICMPV6, 2, message)
		if len(headers) > 0 { // a destination options header with nothing in it
			return ipv6Packet(unix.IPPROTO_DSTOPTS, src, everybody6, slices.Concat([]byte{unix.IPPROTO_ICMPV6, 0, 1, 4, 0, 0, 0, 0}, message))
		}
		return ipv6Packet(unix.IPPROTO_ICMPV6, src, everybody6, message)
	}
	const solicitation, advertisement = 135, 136
	add("IPv6", false, podMAC, unix.ETH_P_IPV6, udp(own6, 5000))
	add("IPv6, link-local", false, podMAC, unix.ETH_P_IPV6, udp(own, 5000))
	add("IPv6 of another", true, podMAC, unix.ETH_P_IPV6, udp(other6, 5000))
	add("IPv6 of the gateway", true, podMAC, unix.ETH_P_IPV6, udp(gateway6, 5000))
	add("IPv6 of nobody, for duplicate detection", false, podMAC, unix.ETH_P_IPV6, nd(none6, solicitation, own6))
	add("neighbour advertisement", false, podMAC, unix.ETH_P_IPV6, nd(own6, advertisement, own6))
	add("neighbour advertisement, link-local", false, podMAC, unix.ETH_P_IPV6, nd(own, advertisement, own))
	for target, name := range map[netip.Addr]string{other6: "another", gateway6: "the gateway"} {
		add("neighbour advertisement for "+name, true, podMAC, unix.ETH_P_IPV6, nd(own, advertisement, target))
		add("neighbour advertisement for "+name+" behind a header", true, podMAC, unix.ETH_P_IPV6, nd(own, advertisement, target, 1))
	}
	add("neighbour advertisement as another", true, podMAC, unix.ETH_P_IPV6, nd(other6, advertisement, own6))
	add("router advertisement", true, podMAC, unix.ETH_P_IPV6, nd(own, 134, own))
	add("router advertisement behind a header", true, podMAC, unix.ETH_P_IPV6, nd(own, 134, own, 1))
	add("redirect", true, podMAC, unix.ETH_P_IPV6, nd(own, 137, own))
	add("DHCPv6 of a server", true, podMAC, unix.ETH_P_IPV6, udp(own, 546))

	inner := map[int][]byte{unix.ETH_P_IP: tcp(otherIP), unix.ETH_P_ARP: arp(2, podMAC, gatewayIP, gatewayIP), unix.ETH_P_IPV6: udp(other6, 5000)}
	for kind, payload := range inner {
		two := [][2]int{{unix.ETH_P_8021Q, 0}, {unix.ETH_P_8021AD, 0}}
		all = append(all, claim{"another's in two tags", true, ethernet(broadcast, podMAC, kind, payload, two...)})
		encapsulated := slices.Concat([]byte{0xaa, 0xaa, 3, 0, 0, 0}, word(kind), payload)
		add("another's behind a SNAP header", true, podMAC, len(encapsulated), encapsulated)
	}
	return all
}

// TestGuestCannotLieToTheGuard has a guest try each kind of lie, and say what is true. Without the guard all of it crosses
// that is not the fence's affair.
func TestGuestCannotLieToTheGuard(t *testing.T) {
	for _, j := range joins {
		for _, guarded := range []bool{true, false} {
			if j.kind == "passthru" && !guarded {
				continue // a passthru's lower link is told of one MAC alone
			}
			name := j.name
			if !guarded {
				name += ", no guard"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := newTestPodOf(t, j.kind, append(slices.Clone(dualStack), "-6 route replace default via fe80::1 dev eth0")...)
				j.options.SpoofGuard, j.options.IPv6 = &guarded, plan.IPv6Pass // which keeps nothing of IPv6 itself
				p.wire(j.options)
				guest, node := p.ends()
				lies := uint64(0)
				for _, c := range claims() {
					if !guarded && c.lie && c.maybeFenced() {
						continue
					}
					want := !c.lie || !guarded
					if got := crossesBefore(t, guest, node, c.frame, podMAC); got != want {
						t.Errorf("%s: crosses %v", c.name, got)
					}
					if c.lie {
						lies++
					}
				}
				// What the fence drops is no lie, nor is what the pod's link cannot send.
				discover := ipv4(unix.IPPROTO_UDP, netip.IPv4Unspecified(), everybody4, 68, 67)
				if crosses(t, guest, node, ethernet(broadcast, podMAC, unix.ETH_P_IP, discover)) {
					t.Error("DHCP crosses")
				}
				p.ip("link set eth0 down")
				if err := guest.send(ethernet(broadcast, podMAC, 0x88b6, make([]byte, 50))); err != nil {
					t.Fatal(err)
				}
				p.countsLies(guarded, lies)
				p.nftReadsWhatItPrints()
			})
		}
	}
}

// countsLies looks at the counter where status and metrics do.
func (p *testPod) countsLies(guarded bool, lies uint64) {
	p.t.Helper()
	seen, err := Inspect(p.request())
	if err != nil {
		p.t.Fatal(err)
	}
	if got, counted := seen.Current.Lies(seen.Options); counted != guarded || guarded && got != lies {
		p.t.Errorf("a look shows %d lies of %d, counted %v", got, lies, counted)
	}
	if got, err := Lies(p.request().Namespace, seen.Names); guarded && (err != nil || got != lies) {
		p.t.Errorf("%d lies are counted of %d: %v", got, lies, err)
	}
}

// maybeFenced reports whether the filter may drop a lie without a guard: routers and DHCPv6 are a server's affair, and what
// hides IP is dropped where it may hide DHCP.
func (c claim) maybeFenced() bool {
	return slices.ContainsFunc([]string{"router", "redirect", "DHCPv6", "SNAP", "two tags"}, func(word string) bool {
		return strings.Contains(c.name, word)
	})
}

// TestGuardKnowsTheMACAlone has a guest of a pod without an address.
func TestGuardKnowsTheMACAlone(t *testing.T) {
	for _, j := range append(slices.Clone(joins[:2]), joins[6]) {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			p := newTestPodOf(t, j.kind, shapes["no address"]...)
			j.options.Interface, j.options.SpoofGuard = "eth0", new(true)
			p.wire(j.options)
			guest, node := p.ends()
			other := identity.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x09}
			for _, c := range []claim{
				{"IPv4 of anybody", false, ethernet(broadcast, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_TCP, senderIP, podIP, 1, 2))},
				{"ARP of anybody", false, ethernet(broadcast, podMAC, unix.ETH_P_ARP, arp(2, podMAC, senderIP, podIP))},
				{"IPv6 of anybody", false, ethernet(broadcast, podMAC, unix.ETH_P_IPV6, ipv6UDP(5000))},
				{"another MAC", true, ethernet(broadcast, other, unix.ETH_P_IP, ipv4(unix.IPPROTO_TCP, senderIP, podIP, 1, 2))},
				{"another MAC in ARP", true, ethernet(broadcast, podMAC, unix.ETH_P_ARP, arp(2, other, senderIP, podIP))},
			} {
				if crossesBefore(t, guest, node, c.frame, podMAC) == c.lie {
					t.Errorf("%s: crosses %v", c.name, c.lie)
				}
			}
		})
	}
}

// TestGuestOfTheGuardHasANetwork has a real IP stack behind the guard, which finds its neighbours by ARP and neighbour
// discovery, in both directions.
func TestGuestOfTheGuardHasANetwork(t *testing.T) {
	for _, j := range fewJoins {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			p := newTestPodOf(t, j.kind, append(slices.Clone(dualStack), "node:addr add 10.244.1.1/24 dev host0", "node:addr add 2001:db8::1/64 dev host0 nodad")...)
			j.options.SpoofGuard = new(true)
			p.wire(j.options)
			guest, _ := p.ends()
			host, _ := p.hostBehind(guest, 0, "nodad")
			for _, address := range []string{"10.244.1.1:7000", "[2001:db8::1]:7000"} {
				p.stream(host, address)
			}
			p.countsLies(true, 0)
		})
	}
}

// TestGuardIsPartOfTheWiring asks again in every way, with the record and without it.
func TestGuardIsPartOfTheWiring(t *testing.T) {
	for by, joint := range joints {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, shapes["bridge"]...)
			p.joint = joint
			before := p.text()
			ask := func(guard *bool) (*Result, error) {
				req := p.request()
				req.Options = plan.Options{Binding: joint.binding, SpoofGuard: guard}
				return Prepare(t.Context(), req)
			}
			if _, err := ask(new(true)); err != nil {
				t.Fatal(err)
			}
			guest, node := p.ends()
			if crossesBefore(t, guest, node, ethernet(broadcast, nodeMAC, 0x88b6, make([]byte, 50)), podMAC) {
				t.Error("a lie crosses")
			}
			const refusal = "--spoof-guard is false here and true there"
			if _, err := ask(new(false)); !IsRefusal(err) || !strings.Contains(err.Error(), refusal) {
				t.Errorf("without a guard: %v", err)
			}
			for _, lost := range []bool{false, true} {
				if lost {
					if err := os.RemoveAll(p.dir + "/eth0"); err != nil {
						t.Fatal(err)
					}
				}
				seen, err := Inspect(p.request())
				if err != nil || !seen.Options.Guarded() {
					t.Fatalf("record lost %v: %v: %+v", lost, err, seen)
				}
				p.countsLies(true, 1)
				if r, err := ask(nil); err != nil || len(r.Steps) > 0 {
					t.Errorf("record lost %v, nobody says: %v: %v", lost, err, r)
				}
			}
			guest.Close()
			p.restore()
			p.same(before)
		})
	}
}
