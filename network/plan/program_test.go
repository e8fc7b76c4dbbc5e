package plan

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// fence is a chain of rules as those that keep DHCP on the guest's side, ARP that the server answers, what routes
// block, and ICMPv6 of routers.
func fence() *Filter {
	const chain = "fence"
	f := &Filter{Family: &FilterFamily{Chains: []FilterChain{{Name: chain}, {Name: ChainIPv4}, {Name: ChainTags}, {Name: "ipv6"}}}}
	f.drop(chain, "blocked", protocol(unix.ETH_P_IP), Blocked{Prefix: netip.MustParsePrefix("10.96.0.0/12"), But: []netip.Prefix{netip.MustParsePrefix("10.96.0.10/32")}}.matches(0, 4))
	f.drop(chain, "blocked", protocol(unix.ETH_P_IPV6), Blocked{Prefix: netip.MustParsePrefix("2001:db8:7::/48"), But: []netip.Prefix{netip.MustParsePrefix("2001:db8:7::53/128")}}.matches(0, 16))
	f.goTo(chain, ChainIPv4, "IPv4", protocol(unix.ETH_P_IP))
	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		f.goTo(chain, ChainTags, "another VLAN tag", protocol(tag))
	}
	f.goTo(chain, "ipv6", "IPv6", protocol(unix.ETH_P_IPV6))
	f.drop(chain, "IPv4 behind a SNAP header", protocol(unix.ETH_P_802_2), snap(unix.ETH_P_IP))
	f.drop(chain, "the server answers", arpRequest(), arpTarget(netip.MustParsePrefix("169.254.75.10/32")))
	f.accept(chain, "this is on the link", arpRequest(), arpTarget(netip.MustParsePrefix("10.244.1.9/32")))
	f.drop(chain, "the server answers for the subnet", arpRequest(), arpTarget(netip.MustParsePrefix("10.244.1.0/24")))

	f.drop(ChainIPv4, "DHCP", isUDP(), toDHCP(transportPort))
	f.accept(ChainIPv4, "sound", soundIPv4())
	f.drop(ChainIPv4, "hides what it holds")
	f.drop(ChainTags, "three VLAN tags", is16(networkHeader(vlanHeader-2), unix.ETH_P_8021Q))
	udp := slices.Concat(is16(networkHeader(vlanHeader-2), unix.ETH_P_IP), is8(networkHeader(vlanHeader+9), unix.IPPROTO_UDP))
	f.drop(ChainTags, "UDP with IP options in two VLAN tags", udp, isNot8(networkHeader(vlanHeader), 4<<4|20/4))
	f.drop(ChainTags, "DHCP in two VLAN tags", udp, toDHCP(networkHeader(vlanHeader+20+2)))
	icmp6 := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{unix.IPPROTO_ICMPV6})}
	f.drop("ipv6", "router advertisement", icmp6, is8(place{expr.PayloadBaseTransportHeader, 0}, 134))
	return f.done()
}

// The parts of a frame, in hexadecimal.
const (
	macs      = "ffffffffffff 0255aa000001"
	ip4       = "0800"
	ip6       = "86dd"
	dot1q     = "8100"
	arp       = "0806"
	udpHeader = "4500 0020 0001 0000 4011 0000 0af40105 0af40109" // 10.244.1.5 to 10.244.1.9, 32 bytes
	fragment  = "4500 0020 0001 0010 4011 0000 0af40105 0af40109"
	first     = "4500 0020 0001 2000 4011 0000 0af40105 0af40109"
	options   = "4600 0024 0001 0000 4011 0000 0af40105 0af40109 01010101"
	tcpHeader = "4500 0028 0001 0000 4006 0000 0af40105 0af40109 9c40 0050 00000000 00000000 50020000 00000000"
	from68    = "0044 0043 000c 0000 00000000"
	from67    = "0043 0044 000c 0000 00000000"
	other     = "9c40 0035 000c 0000 00000000"
	ipv6      = "6000 0000 %LEN% %NH% ff 20010db8000000000000000000000001 ff020000000000000000000000000001"
)

func v6(length, next string, rest string) string {
	return strings.NewReplacer("%LEN%", length, "%NH%", next).Replace(ipv6) + rest
}

func arpFor(operation, target string) string {
	return "0001 0800 06 04 " + operation + " 0255aa000001 0af40105 000000000000 " + target
}

// advertisement is one of a router, as far as it is looked at.
const advertisement = "86 00 0000 40 00 0708"

// TestProgramDecidesAsTheRulesDo runs programs over frames, as tc shows them: without the outermost VLAN tag.
func TestProgramDecidesAsTheRulesDo(t *testing.T) {
	program := single(t, fence())
	ra := v6("0008", "3a", advertisement)
	hop := "3a00 0104 00000000"
	for _, c := range []struct {
		name string
		hex  string
		want uint32
	}{
		{"TCP", ip4 + tcpHeader, FrameOnward},
		{"UDP", ip4 + udpHeader + other, FrameOnward},
		{"a client's DHCP", ip4 + udpHeader + from68, FrameDropped},
		{"a server's DHCP", ip4 + udpHeader + from67, FrameDropped},
		{"DHCP behind IP options", ip4 + options + from68, FrameDropped},
		{"UDP behind IP options", ip4 + options + other, FrameOnward},
		{"DHCP with padding", ip4 + udpHeader + from68 + "000000000000", FrameDropped},
		{"the first fragment of DHCP", ip4 + first + from68, FrameDropped},
		{"a later fragment, whose bytes are no ports", ip4 + fragment + from68, FrameOnward},
		{"a header cut short", ip4 + "4500 0020 0001 0000 4011", FrameDropped},
		{"no header", ip4, FrameDropped},
		{"a header of 16 bytes", ip4 + "44" + udpHeader[2:] + from68, FrameDropped},
		{"IPv4 of version 5", ip4 + "55" + udpHeader[2:] + from68, FrameDropped},
		{"a packet longer than the frame", ip4 + "4500 0021" + udpHeader[9:] + from68, FrameDropped},
		{"a packet shorter than its header", ip4 + "4500 0010" + udpHeader[9:] + from68, FrameDropped},
		{"a packet that says no length", ip4 + "4500 0000" + udpHeader[9:] + from68, FrameDropped},
		{"TCP of more than 64 KiB", ip4 + "4500 0000" + tcpHeader[9:] + strings.Repeat("00", 0x10000), FrameOnward},
		{"UDP without ports", ip4 + "4500 0014" + udpHeader[9:], FrameOnward},

		{"a route blocks it", ip4 + strings.Replace(tcpHeader, "0af40109", "0a600001", 1), FrameDropped},
		{"another leads there", ip4 + strings.Replace(tcpHeader, "0af40109", "0a60000a", 1), FrameOnward},
		{"behind the blocked", ip4 + strings.Replace(tcpHeader, "0af40109", "0a700001", 1), FrameOnward},

		{"a second tag, DHCP", dot1q + "0005 0800" + udpHeader + from68, FrameDropped},
		{"a second tag, UDP", dot1q + "0005 0800" + udpHeader + other, FrameOnward},
		{"a second tag, UDP behind IP options", dot1q + "0005 0800" + options + other, FrameDropped},
		{"a second tag, TCP", dot1q + "0005 0800" + tcpHeader, FrameOnward},
		{"a second tag, cut short", dot1q + "0005", FrameOnward},
		{"a third tag", dot1q + "0005 8100 0006 0800" + tcpHeader, FrameDropped},
		{"a service tag", "88a8 0005 0800" + udpHeader + from68, FrameDropped},

		{"SNAP, IPv4", "0030 aaaa03 000000 0800" + udpHeader + from68, FrameDropped},
		{"SNAP, another protocol", "0030 aaaa03 00000c 2000 0000", FrameOnward},
		{"LLC, cut short", "0003 424203", FrameOnward},
		{"LLDP", "88cc 0207 0402aa", FrameOnward},

		{"ARP for the server", arp + arpFor("0001", "a9fe4b0a"), FrameDropped},
		{"ARP for a host on the link", arp + arpFor("0001", "0af40109"), FrameOnward},
		{"ARP for the subnet", arp + arpFor("0001", "0af40108"), FrameDropped},
		{"ARP for another subnet", arp + arpFor("0001", "0af40208"), FrameOnward},
		{"an ARP reply", arp + arpFor("0002", "0af40108"), FrameOnward},
		{"ARP cut short", arp + "0001 0800", FrameOnward},

		{"IPv6", ip6 + v6("0008", "11", other), FrameOnward},
		{"a router advertisement", ip6 + ra, FrameDropped},
		{"another ICMPv6", ip6 + v6("0008", "3a", "80"+advertisement[2:]), FrameOnward},
		{"behind hop-by-hop options", ip6 + v6("0010", "00", hop+advertisement), FrameDropped},
		{"behind a routing header", ip6 + v6("0010", "2b", hop+advertisement), FrameDropped},
		{"behind longer options", ip6 + v6("0018", "3c", "3a01"+strings.Repeat("00", 14)+advertisement), FrameDropped},
		{"behind authentication", ip6 + v6("0014", "33", "3a01"+strings.Repeat("00", 10)+advertisement), FrameDropped},
		{"in a first fragment", ip6 + v6("0010", "2c", "3a00 0001 00000001"+advertisement), FrameDropped},
		{"in a later fragment", ip6 + v6("0010", "2c", "3a00 0009 00000001"+advertisement), FrameOnward},
		{"in a later fragment of options", ip6 + v6("0010", "2c", "3c00 0009 00000001"+advertisement), FrameOnward},
		{"behind seven headers", ip6 + v6("0040", "00", strings.Repeat("3c00 0104 00000000", 6)+hop+advertisement), FrameDropped},
		{"behind more than anybody needs", ip6 + v6("0048", "00", strings.Repeat("3c00 0104 00000000", 7)+hop+"1100000000000000"), FrameDropped},
		{"options cut short", ip6 + v6("0004", "00", "3a00 0104"), FrameOnward},
		{"IPv6 of another version", ip6 + "50" + ra[2:], FrameOnward},
		{"a payload longer than the frame", ip6 + v6("0009", "3a", advertisement), FrameOnward},
		{"a route blocks it, IPv6", ip6 + strings.Replace(v6("0008", "11", other), "ff020000000000000000000000000001", "20010db8000700000000000000000001", 1), FrameDropped},
		{"another leads there, IPv6", ip6 + strings.Replace(v6("0008", "11", other), "ff020000000000000000000000000001", "20010db8000700000000000000000053", 1), FrameOnward},
		{"beside it, IPv6", ip6 + strings.Replace(v6("0008", "11", other), "ff020000000000000000000000000001", "20010db8000800000000000000000001", 1), FrameOnward},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := run(t, program, bytesOf(t, macs+c.hex), 0); got != c.want {
				t.Errorf("the program says %#x, not %#x", got, c.want)
			}
		})
	}
}

// TestProgramKeepsIPv6 has what a kernel's stack makes of a packet (network/fence_root_test.go) and what it could not make
// anything of, by the rules of a redirect that serves IPv6.
func TestProgramKeepsIPv6(t *testing.T) {
	f := &redirectFilter{Filter: &Filter{Family: RedirectFamily}, nic: "eth0", tap: "tap0"}
	f.keepIPv6(chainIPv6ToGuest, func(comment string, match ...[]expr.Any) {
		f.rule(chainIPv6ToGuest, comment, match, &Forward{To: "eth0"})
	}, func() {}, func() {})
	program, err := f.program(chainIPv6ToGuest, f.of(chainIPv6ToGuest), fenced)
	if err != nil {
		t.Fatal(err)
	}
	first, later, other := "3a00 0001 00000001", "3a00 0009 00000001", "88"+advertisement[2:]
	for _, c := range []struct {
		name, packet string
		want         uint32
	}{
		{"a router's", v6("0008", "3a", advertisement), FrameDropped},
		{"a neighbour's", v6("0008", "3a", other), FrameOnward},
		{"DHCPv6", v6("0008", "11", "9c40 0222 0008 0000"), FrameDropped},
		{"beside DHCPv6", v6("0008", "11", "9c40 0221 0008 0000"), FrameOnward},
		{"behind DHCPv6", v6("0008", "11", "9c40 0224 0008 0000"), FrameOnward},
		{"without a type", v6("0000", "3a", ""), FrameDropped},
		{"another protocol, without anything", v6("0000", "06", ""), FrameOnward},
		{"a first fragment, a router's", v6("0010", "2c", first+advertisement), FrameDropped},
		{"a first fragment, a neighbour's", v6("0010", "2c", first+other), FrameOnward},
		{"a first fragment that does not reach the type", v6("0008", "2c", first), FrameDropped},
		{"a later fragment", v6("0010", "2c", later+advertisement), FrameOnward},
		{"a later fragment of options", v6("0010", "2c", "3c"+later[2:]+advertisement), FrameOnward},
		{"a later fragment, said behind a first one", v6("0018", "2c", "2c"+first[2:]+"3c"+later[2:]+advertisement), FrameDropped},
		{"a sound header is missing", "50" + v6("0010", "2c", later+advertisement)[2:], FrameDropped},
		{"eight headers, a neighbour's", v6("0048", "00", strings.Repeat("3c00 0104 00000000", 7)+"3a00 0104 00000000"+other), FrameDropped},
		{"seven headers, a neighbour's", v6("0040", "00", strings.Repeat("3c00 0104 00000000", 6)+"3a00 0104 00000000"+other), FrameOnward},
	} {
		if got := run(t, program, bytesOf(t, macs+ip6+c.packet), 0); got != c.want {
			t.Errorf("%s: the program says %#x, not %#x", c.name, got, c.want)
		}
	}
}

// TestProgramTellsWhoSent: what the pod's own stack sends has the type PACKET_HOST, what the guest sends another.
func TestProgramTellsWhoSent(t *testing.T) {
	f := &Filter{Family: &FilterFamily{Chains: []FilterChain{{Name: "out"}}}}
	f.drop("out", "the pod's own", []expr.Any{&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1}, equal([]byte{unix.PACKET_HOST})})
	program := single(t, f.done())
	for kind, want := range map[uint32]uint32{
		unix.PACKET_HOST: FrameDropped, unix.PACKET_BROADCAST: FrameOnward, unix.PACKET_MULTICAST: FrameOnward, unix.PACKET_OTHERHOST: FrameOnward,
	} {
		if got := run(t, program, bytesOf(t, macs+ip4+tcpHeader), kind); got != want {
			t.Errorf("of the type %d the program says %#x, not %#x", kind, got, want)
		}
	}
}

// TestProgramsTellWhatIsRedirectedCopiedAndLeft: a fence leaves to the next filter what it does not decide on, and
// another program tells what is copied.
func TestProgramsTellWhatIsRedirectedCopiedAndLeft(t *testing.T) {
	f := &Filter{Family: &FilterFamily{Chains: []FilterChain{{Name: "in"}, {Name: "ipv6"}}}}
	f.drop("in", "LLDP", protocol(unix.ETH_P_LLDP))
	f.accept("in", "ARP is for the stack", protocol(unix.ETH_P_ARP))
	f.goTo("in", "ipv6", "IPv6", protocol(unix.ETH_P_IPV6))
	f.rule("in", "IPv4", [][]expr.Any{protocol(unix.ETH_P_IP)}, &Forward{To: "tap0"})
	f.rule("ipv6", "for both", [][]expr.Any{is8(networkHeader(7), 1)}, &Forward{To: "tap0", Copy: true}, &expr.Verdict{Kind: expr.VerdictAccept})
	f.rule("ipv6", "for the guest", nil, &Forward{To: "tap0"})
	fences, err := f.done().programs("in")
	if err != nil || len(fences) != 1 {
		t.Fatal(len(fences), err)
	}
	copies, err := f.copies("in")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, hex     string
		fence, copies uint32
	}{
		{"LLDP", "88cc 0000", FrameDropped, frameOthers},
		{"ARP", arp + arpFor("0001", "0af40108"), FrameToStack, frameOthers},
		{"IPv4", ip4 + tcpHeader, FrameOnward, frameOthers},
		{"IPv6", ip6 + v6("0008", "11", other), FrameOnward, frameOthers},
		{"IPv6 for both", ip6 + strings.Replace(v6("0008", "11", other), " ff ", " 01 ", 1), FrameOnward, frameTaken},
		{"no rule's", "88a8 0000", FrameDropped, frameOthers},
	} {
		frame := bytesOf(t, macs+c.hex)
		if got := run(t, fences[0], frame, 0); got != c.fence {
			t.Errorf("%s: the fence says %#x, not %#x", c.name, got, c.fence)
		}
		if got := run(t, copies, frame, 0); got != c.copies {
			t.Errorf("%s: the program of copies says %#x, not %#x", c.name, got, c.copies)
		}
	}
	if none, err := fence().copies("fence"); none != nil || err != nil {
		t.Errorf("rules that copy nothing have a program of copies: %v, %v", none, err)
	}
}

// TestManyBarriersTakeSeveralPrograms: what one program has no room for is in front of it, and leaves the rest to it.
func TestManyBarriersTakeSeveralPrograms(t *testing.T) {
	f := &Filter{Family: &FilterFamily{Chains: []FilterChain{{Name: "fence"}}}}
	var all []Blocked
	for i := range maxBlocked {
		b := Blocked{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i)}), 40)}
		for n := range maxBut {
			b.But = append(b.But, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i), byte(n)}), 48))
		}
		all = append(all, b)
	}
	for _, b := range all {
		f.drop("fence", "blocked", protocol(unix.ETH_P_IPV6), b.matches(0, 16))
	}
	f.drop("fence", "the last rule", is8(networkHeader(7), 1)) // the hop limit
	f.rule("fence", "the rest", nil, &Forward{To: "tap0"})
	programs, err := f.done().programs("fence")
	if err != nil {
		t.Fatal(err)
	}
	if len(programs) < 2 {
		t.Fatalf("%d rules are %d programs", len(f.Compiled), len(programs))
	}
	say := func(to string) uint32 {
		frame := bytesOf(t, macs+ip6+strings.Replace(v6("0008", "11", other), "ff020000000000000000000000000001", to, 1))
		for _, p := range programs {
			if len(p) > MaxProgram {
				t.Fatalf("a program has %d instructions", len(p))
			}
			if verdict := run(t, p, frame, 0); verdict != FrameOnward {
				return verdict
			}
		}
		return FrameOnward
	}
	for i := range all {
		to := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i), 0xff})
		if say(hex.EncodeToString(to.AsSlice())) != FrameDropped {
			t.Errorf("%s is not blocked", to)
		}
		but := all[i].But[maxBut-1].Addr()
		if say(hex.EncodeToString(but.AsSlice())) != FrameOnward {
			t.Errorf("%s is blocked", but)
		}
	}
	// The last rule is in the last program.
	frame := bytesOf(t, macs+ip6+strings.Replace(v6("0008", "11", other), " ff ", " 01 ", 1))
	if got := run(t, programs[len(programs)-1], frame, 0); got != FrameDropped {
		t.Errorf("the last program says %#x of what its last rule drops", got)
	}
}

// TestWhatAProgramCannotSayIsAnError: nothing is left out in silence.
func TestWhatAProgramCannotSayIsAnError(t *testing.T) {
	for name, exprs := range map[string][]expr.Any{
		"another expression": {&expr.Limit{}},
		"another meta":       {&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal([]byte{1})},
		"another comparison": {&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, &expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: []byte{8, 0}}},
		"another length":     {load(networkHeader(0), 4), equal([]byte{1, 2})},
		"a jump of some":     append(protocol(unix.ETH_P_IP), &expr.Verdict{Kind: expr.VerdictJump, Chain: "there"}),
		"a return":           {&expr.Verdict{Kind: expr.VerdictReturn}},
	} {
		f := &Filter{Family: &FilterFamily{Chains: []FilterChain{{Name: "fence"}}}, Compiled: []FilterRule{{"fence", name, exprs}}}
		if programs, err := f.programs("fence"); err == nil {
			t.Errorf("%s became %v", name, programs)
		}
	}
}

func single(t *testing.T, f *Filter) []bpf.Instruction {
	t.Helper()
	program, err := f.program(f.Family.Chains[0].Name, f.of(f.Family.Chains[0].Name), looked)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run has a program look at a frame. What the kernel knows besides the frame is put in the place of the loads, since
// the virtual machine knows the length alone.
func run(t *testing.T, program []bpf.Instruction, frame []byte, kind uint32) uint32 {
	t.Helper()
	protocol := uint32(binary.BigEndian.Uint16(frame[12:]))
	if protocol < 0x600 {
		protocol = unix.ETH_P_802_2 // a length (eth_type_trans)
	}
	program = slices.Clone(program)
	for i, in := range program {
		switch in {
		case bpf.LoadExtension{Num: bpf.ExtProto}:
			program[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: protocol}
		case bpf.LoadExtension{Num: bpf.ExtType}:
			program[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: kind}
		}
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}
