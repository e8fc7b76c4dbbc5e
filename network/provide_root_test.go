package network

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// everything is the namespace with what ip(8) does not say: the settings that Provide changes, and the firewall.
func (p *testPod) everything() string {
	p.t.Helper()
	settings, err := p.run(p.pod, "sysctl", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.conf.all.accept_local",
		"net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter")
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := open(p.request())
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.close()
	text := p.text() + settings
	for _, family := range []*plan.FilterFamily{plan.BridgeFilter, plan.StackFilter} {
		filter, err := s.nft.Read(family, "podnic-eth0")
		if err != nil {
			p.t.Fatal(err)
		}
		if filter != nil {
			text += filter.Name() + "\n" + strings.Join(filter.Rules, "\n") + "\n"
		}
	}
	return text
}

func (p *testPod) provideFor(iface string) Request {
	req := p.request()
	req.Options.Interface = iface
	return req
}

func (p *testPod) provide(links *plan.Names, others ...*Provision) *Provision {
	p.t.Helper()
	if _, err := Provide(context.Background(), p.provideFor("eth0"), links, others); err != nil {
		p.t.Fatal(err)
	}
	given, err := Store{p.dir, "eth0"}.LoadProvision()
	if err != nil {
		p.t.Fatal(err)
	}
	return given
}

func (p *testPod) withdraw(others ...*Provision) {
	p.t.Helper()
	if _, err := Withdraw(context.Background(), p.provideFor("eth0"), others); err != nil {
		p.t.Fatal(err)
	}
	p.noFiles()
}

// missing is what a look finds missing.
func (p *testPod) missing() string {
	p.t.Helper()
	missing, err := InspectProvision(p.provideFor("eth0"))
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Join(missing, "\n")
}

// given are the three things that Provide gives: settings, an address, a filter. The settings are first.
var given = []string{
	"net.ipv4.ip_unprivileged_port_start = 0", "net.ipv4.conf.all.accept_local = 1",
	"net.ipv4.conf.all.rp_filter = 0", "net.ipv4.conf.default.rp_filter = 0", "inet 169.254.75.10/32 scope host lo",
	"podnic-eth0", " eth0-nic drop", " tap0 ", "inet podnic-eth0", "prerouting meta 6 tap0 drop", "prerouting meta 6 eth0-nic drop",
}

func managedTap() *plan.Names {
	names := plan.ManagedTapNames("eth0")
	return &names
}

const podWithAddress = "addr add 10.244.1.5/24 dev eth0"

func TestWithdrawIsTheInverseOfProvide(t *testing.T) {
	for name, links := range map[string]*plan.Names{"podnic's own wiring": nil, "somebody else's": managedTap()} {
		t.Run(name, func(t *testing.T) {
			p := newTestPod(t, podWithAddress, "route add blackhole 169.254.169.254")
			p.sysctl("net.ipv4.conf.all.rp_filter", "1")
			p.sysctl("net.ipv4.conf.default.rp_filter", "2")
			before := p.everything()
			p.provide(links)
			after := p.everything()
			for _, text := range append(given, "# a route of the pod blocks this") {
				if want := links != nil || strings.Contains(text, " = "); strings.Contains(after, text) != want {
					t.Errorf("%q is there: %v", text, !want)
				}
			}
			if missing := p.missing(); missing != "" {
				t.Errorf("missing: %s", missing)
			}
			p.provide(links) // again, and nothing changes
			if diff := cmp.Diff(after, p.everything()); diff != "" {
				t.Errorf("the second time changed:\n%s", diff)
			}
			p.withdraw()
			if diff := cmp.Diff(before, p.everything()); diff != "" {
				t.Errorf("not as before:\n%s", diff)
			}
			p.withdraw() // again, and there is nothing left
		})
	}
}

// TestWhatOthersSetIsNotTakenBack finds one setting and the address there already, and another setting changed since.
func TestWhatOthersSetIsNotTakenBack(t *testing.T) {
	p := newTestPod(t, podWithAddress, "addr add 169.254.75.10/32 dev lo")
	p.sysctl("net.ipv4.ip_unprivileged_port_start", "0")
	p.provide(managedTap())
	p.sysctl("net.ipv4.conf.all.accept_local", "0")
	before := p.everything()
	p.withdraw()
	after := p.everything()
	if !strings.Contains(before, " eth0-nic drop") || strings.Contains(after, "eth0-nic") {
		t.Errorf("the filter was not taken away:\n%s", after)
	}
	if before, _, _ = strings.Cut(before, "podnic-eth0"); before != after {
		t.Errorf("more than the filter was taken away:\n%s", cmp.Diff(before, after))
	}
}

// TestPodThatSharesConnectsFromOtherPorts sets the range where it is the kernel's own, and takes back what it set, and no more.
func TestPodThatSharesConnectsFromOtherPorts(t *testing.T) {
	t.Parallel()
	const setting = "net.ipv4.ip_local_port_range"
	for name, c := range map[string]struct{ before, asked, given, other, after string }{
		"the kernel's":          {"32768 60999", "", "28232 32767", "", "32768 60999"},
		"one that was asked":    {"32768 60999", "20000-21000", "20000 21000", "", "32768 60999"},
		"the pod's own":         {"10000 11000", "", "10000 11000", "", "10000 11000"},
		"another's in between":  {"32768 60999", "", "28232 32767", "9000 9999", "9000 9999"},
		"a server by UDP needs": {"32768 60999", "", "28232 32767", "", "32768 60999"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestPod(t, podWithAddress)
			value := func() string {
				out, err := p.run(p.pod, "sysctl", "-n", setting)
				if err != nil {
					t.Fatal(err)
				}
				return strings.Join(strings.Fields(out), " ")
			}
			p.sysctl(setting, c.before)
			req := p.provideFor("eth0")
			req.Options.Binding, req.Options.Socket = plan.BindingShared, plan.SocketPacket
			if strings.Contains(name, "UDP") {
				req.Options.Socket = plan.SocketUDP
			}
			if c.asked != "" {
				if err := req.Options.Sources.UnmarshalText([]byte(c.asked)); err != nil {
					t.Fatal(err)
				}
			}
			before := p.everything()
			for range 2 {
				if _, err := Provide(context.Background(), req, nil, nil); err != nil {
					t.Fatal(err)
				}
				if got := value(); got != c.given {
					t.Errorf("provided: %s", got)
				}
			}
			if missing, err := InspectProvision(req); err != nil || len(missing) > 0 {
				t.Errorf("%v: %v", missing, err)
			}
			if changed := p.everything() != before; changed != (req.Options.Socket == plan.SocketUDP) {
				t.Errorf("other settings are changed: %v", changed)
			}
			if c.other != "" {
				p.sysctl(setting, c.other)
			}
			if _, err := Withdraw(context.Background(), req, nil); err != nil {
				t.Fatal(err)
			}
			if got := value(); got != c.after || p.everything() != before {
				t.Errorf("withdrawn: %s", got)
			}
		})
	}
}

// TestSharedProvisionStaysUntilTheLastOneGoes withdraws in either order. What only one of them has goes with that one.
func TestSharedProvisionStaysUntilTheLastOneGoes(t *testing.T) {
	for _, c := range []struct {
		name           string
		firstGoesFirst bool
		managed        bool // the second, which else shares its address and has capabilities
	}{
		{"the first one first", true, true}, {"the second one first", false, true},
		{"settings that the other one needs not", true, false}, {"the range that the other one needs not", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newTestPod(t, podWithAddress, "link add net1 type veth peer name host1", "addr add 10.244.9.5/24 dev net1")
			const sources = "net.ipv4.ip_local_port_range"
			all := func() string {
				text, err := p.run(p.pod, "sysctl", sources)
				if err != nil {
					t.Fatal(err)
				}
				return p.everything() + text
			}
			before := all()
			first := p.provide(managedTap())
			firstReq, secondReq := p.provideFor("eth0"), p.provideFor("net1")
			secondReq.StateDir = t.TempDir()
			names := plan.ManagedTapNames("net1")
			links := &names
			if !c.managed {
				links, secondReq.Options.Binding, secondReq.Options.Socket = nil, plan.BindingShared, plan.SocketPacket
			}
			if _, err := Provide(context.Background(), secondReq, links, []*Provision{first}); err != nil {
				t.Fatal(err)
			}
			second, err := Store{secondReq.StateDir, "net1"}.LoadProvision()
			if err != nil {
				t.Fatal(err)
			}
			going, staying := []Request{firstReq, secondReq}, []*Provision{second, first}
			if !c.firstGoesFirst {
				going, staying = []Request{secondReq, firstReq}, []*Provision{first, second}
			}
			if _, err := Withdraw(context.Background(), going[0], staying[:1]); err != nil {
				t.Fatal(err)
			}
			if missing, err := InspectProvision(going[1]); err != nil || len(missing) > 0 {
				t.Errorf("the other one misses %q, %v", missing, err)
			}
			if _, err := Withdraw(context.Background(), going[1], nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, all()); diff != "" {
				t.Errorf("not as before:\n%s", diff)
			}
		})
	}
}

// TestMissingProvisionIsNamed breaks one thing after the other, and has it mended.
func TestMissingProvisionIsNamed(t *testing.T) {
	p := newTestPod(t, podWithAddress)
	p.provide(managedTap())
	whole := p.everything()
	for _, broken := range []struct{ command, want string }{
		{"sysctl -w net.ipv4.ip_unprivileged_port_start=1024", "net.ipv4.ip_unprivileged_port_start is 1024 and not 0"},
		{"sysctl -w net.ipv4.conf.all.accept_local=0", "net.ipv4.conf.all.accept_local is 0 and not 1"},
		{"ip address delete 169.254.75.10/32 dev lo", "lo does not have the address 169.254.75.10/32"},
		{"nft delete table bridge podnic-eth0", "there is no filter podnic-eth0"},
		{"nft flush chain bridge podnic-eth0 output", "the filter podnic-eth0 is not as it was made"},
		{"nft delete table inet podnic-eth0", "there is no filter inet podnic-eth0"},
		{"nft flush chain inet podnic-eth0 prerouting", "the filter inet podnic-eth0 is not as it was made"},
	} {
		words := strings.Fields(broken.command)
		if _, err := p.run(p.pod, words[0], words[1:]...); err != nil {
			t.Fatal(err)
		}
		if got := p.missing(); got != broken.want {
			t.Errorf("after %q: %q, want %q", broken.command, got, broken.want)
		}
		p.provide(managedTap())
		if diff := cmp.Diff(whole, p.everything()); diff != "" {
			t.Errorf("after %q, not mended:\n%s", broken.command, diff)
		}
	}
}

// TestProvisionOfAnInterfaceWithoutAddressHasNoFilter: a DHCP server of the pod network must be heard there.
func TestProvisionOfAnInterfaceWithoutAddressHasNoFilter(t *testing.T) {
	p := newTestPod(t)
	warnings, err := Provide(context.Background(), p.provideFor("eth0"), managedTap(), nil)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "no IPv4 address") {
		t.Errorf("warnings %q, %v", warnings, err)
	}
	if after := p.everything(); strings.Contains(after, "podnic-") || strings.Contains(after, "169.254.75.10") {
		t.Errorf("there is a filter or an address:\n%s", after)
	}
}

// TestProvisionOfIPv6 has a pod whose IPv6 is served, with IPv4 and without: the alias of its link says where the routers
// are, to whoever knows nothing else.
func TestProvisionOfIPv6(t *testing.T) {
	const gateway = "fd00:10:244:1::1"
	for name, commands := range map[string][]string{"both families": nil, "IPv6 alone": {"-4 addr flush dev eth0"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, append(append([]string{"link set eth0 alias theirs"}, servedIPv6...), commands...)...)
			p.settle()
			p.sysctl("net.ipv6.conf.default.disable_ipv6", "1")
			given := p.provide(managedTap())
			router := identity.Router{Gateway: netip.MustParseAddr(gateway), Address: linkLocalNode, MAC: nodeMAC}
			if given.IPv6 != plan.IPv6Serve || !slices.Equal(given.Guest.Routers, []identity.Router{router}) || given.NoIPv4 != (commands != nil) {
				t.Errorf("given: %+v, %+v", given, given.Guest)
			}
			whole := p.everything()
			for text, want := range map[string]bool{
				"podnic: ipv6=serve router=" + gateway + "," + linkLocalNode.String() + "," + nodeMAC.String(): true,
				"inet 169.254.75.10/32": commands == nil, "the guest looks for a router": true, "prerouting meta 6 tap0 drop": true,
			} {
				if strings.Contains(whole, text) != want {
					t.Errorf("%q is there: %v\n%s", text, !want, whole)
				}
			}
			p.ip("link set eth0 alias others")
			if got := p.missing(); !strings.Contains(got, `the alias of eth0 is "others"`) {
				t.Errorf("missing: %q", got)
			}
			p.provide(managedTap())
			if diff := cmp.Diff(whole, p.everything()); diff != "" {
				t.Errorf("not mended:\n%s", diff)
			}

			if _, err := RecordManaged(p.requestFor("eth0")); err != nil {
				t.Fatal(err)
			}
			p.wireAsKubeVirt()
			p.ip("-6 addr add fd00:10:244:1::5/64 dev eth0")
			if missing := p.missing(); missing != "" {
				t.Errorf("once wired, missing: %s", missing)
			}
			for _, record := range []bool{true, false} {
				if !record {
					if err := os.Remove(p.recordPath()); err != nil {
						t.Fatal(err)
					}
				}
				seen, err := Inspect(p.request())
				if err != nil {
					t.Fatal(err)
				}
				id, _ := seen.Identity()
				if seen.Options.IPv6 != plan.IPv6Serve || !id.V6.Served() || id.V6.First().Prefix.Addr() != podIP6 {
					t.Errorf("with a record %v: %+v, %+v", record, seen.Options, id.V6)
				}
				if !slices.Equal(seen.Original.Routers, []identity.Router{router}) || record && !slices.Equal(id.Routers, []identity.Router{router}) {
					t.Errorf("with a record %v the routers are %+v, of the guest %+v", record, seen.Original.Routers, id.Routers)
				}
			}
			p.unwireAsKubeVirt()
			if _, err := Withdraw(t.Context(), p.provideFor("eth0"), nil); err != nil {
				t.Fatal(err)
			}
			after := p.everything()
			for _, text := range []string{"podnic", "169.254.75.10", "router="} {
				if strings.Contains(after, text) {
					t.Errorf("%q is left:\n%s", text, after)
				}
			}
			if !strings.Contains(after, "theirs") {
				t.Errorf("the alias is not as it was:\n%s", after)
			}
		})
	}
}

// TestProvisionOfIPv6ThatIsNotServed leaves IPv6 alone, or lets none of it cross.
func TestProvisionOfIPv6ThatIsNotServed(t *testing.T) {
	p := newTestPod(t, servedIPv6...)
	p.settle()
	before := p.everything()
	req := p.provideFor("eth0")
	for mode, alias := range map[string]string{plan.IPv6Pass: "", plan.IPv6Off: "podnic: ipv6=off"} {
		req.Options.IPv6 = mode
		if _, err := Provide(t.Context(), req, managedTap(), nil); err != nil {
			t.Fatal(err)
		}
		after := p.everything()
		if got := strings.Contains(after, "IPv6 is off"); got != (mode == plan.IPv6Off) || !strings.Contains(after, alias) ||
			strings.Contains(after, "podnic:") != (alias != "") || strings.Contains(after, "router=") {
			t.Errorf("%s:\n%s", mode, after)
		}
		p.withdraw()
		if diff := cmp.Diff(before, p.everything()); diff != "" {
			t.Errorf("%s: not as before:\n%s", mode, diff)
		}
	}
	p.ip("-6 addr flush dev eth0 scope global")
	req.Options.IPv6 = plan.IPv6Serve
	p.refused(func() error {
		_, err := Provide(t.Context(), req, managedTap(), nil)
		return err
	}, "eth0 has no global IPv6 address")
}

func TestProvideRefusesBeforeItChangesAnything(t *testing.T) {
	p := newTestPod(t, podWithAddress)
	before := p.everything()
	for iface, dir := range map[string]string{"net1": p.dir, "eth0": "/proc/nowhere"} {
		req := p.provideFor(iface)
		req.StateDir = dir
		p.refused(func() error {
			_, err := Provide(context.Background(), req, managedTap(), nil)
			return err
		})
	}
	if diff := cmp.Diff(before, p.everything()); diff != "" {
		t.Errorf("changed:\n%s", diff)
	}
	p.prepare()
	before = p.everything()
	p.refused(func() error {
		_, err := Provide(context.Background(), p.provideFor("eth0"), managedTap(), nil)
		return err
	}, "wired by podnic already")
	if diff := cmp.Diff(before, p.everything()); diff != "" {
		t.Errorf("changed:\n%s", diff)
	}
	p.restore()
}

// unwireAsKubeVirt takes that wiring away, as nobody does who keeps the pod.
func (p *testPod) unwireAsKubeVirt() {
	p.t.Helper()
	for _, command := range []string{"link delete eth0", "link delete tap0", "link delete k6t-eth0", "link set eth0-nic down", "link set eth0-nic name eth0"} {
		p.ip(command)
	}
}

// wireAsKubeVirt lays the wiring of a managedTap (kubevirtWiring has its source), with a MAC of its own for the NIC.
func (p *testPod) wireAsKubeVirt() {
	p.t.Helper()
	for _, command := range kubevirtWiring {
		p.ip(command)
	}
	p.ip("link set eth0-nic type bridge_slave learning off")
	p.ip("link set eth0-nic address 02:00:00:00:00:01")
	p.sysctl("net.ipv4.conf.all.arp_ignore", "1")
}

// TestFilterThatWasThereBeforeTheBridge lays the wiring that KubeVirt lays, after Provide, and sends frames into it.
func TestFilterThatWasThereBeforeTheBridge(t *testing.T) {
	p := newTestPod(t, podWithAddress, "link set eth0 up", "node:link set host0 up")
	p.provide(managedTap())
	p.wireAsKubeVirt()
	guest, node := p.ends()
	request := ipv4(unix.IPPROTO_UDP, netip.IPv4Unspecified(), netip.MustParseAddr("255.255.255.255"), 68, 67)
	reply := ipv4(unix.IPPROTO_UDP, gatewayIP, netip.MustParseAddr("255.255.255.255"), 67, 68)
	if crosses(t, guest, node, ethernet(broadcast, podMAC, unix.ETH_P_IP, request)) {
		t.Error("the guest's DHCP reaches the pod network")
	}
	if crosses(t, node, guest, ethernet(broadcast, nodeMAC, unix.ETH_P_IP, reply)) {
		t.Error("the pod network's DHCP reaches the guest")
	}
	if other := ethernet(broadcast, podMAC, unix.ETH_P_IP, ipv4(unix.IPPROTO_UDP, podIP, gatewayIP, 1000, 53)); !crosses(t, guest, node, other) {
		t.Error("other datagrams do not cross")
	}
}
