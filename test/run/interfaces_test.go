package run

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// attachAgain is how often a card is attached and detached under traffic; PODNIC_SOAK has it more often.
func attachAgain() int {
	if os.Getenv("PODNIC_SOAK") != "" {
		return 50
	}
	return 2 // the second is net2's
}

// newMultusSite has a pod with eth0 of the plugin ptp, net1 of bridge with a range of its own and no default route, net2 of
// macvlan, and net3 without an address, all made by the real plugins. It returns their MACs.
func newMultusSite(t *testing.T) (*site, map[string]string) {
	t.Helper()
	s := newSite(t, pod.PTP)
	if err := s.Node.AddUplink(t.Context()); err != nil {
		t.Fatal(err)
	}
	macs := map[string]string{"eth0": s.MAC.String()}
	for _, a := range []struct {
		name   string
		plugin map[string]any
	}{
		{"net1", map[string]any{"type": "bridge", "bridge": "cni1", "isGateway": true, "ipam": ipam("10.245.1.0/24", "10.99.0.0/16")}},
		{"net2", map[string]any{"type": "macvlan", "master": pod.Uplink, "mode": "bridge", "ipam": ipam("10.244.3.0/24")}},
		{"net3", map[string]any{"type": "bridge", "bridge": "cni3", "ipam": map[string]any{}}},
	} {
		if _, err := s.Pod.Attach(t.Context(), a.name, a.plugin); err != nil {
			t.Fatal(err)
		}
		macs[a.name] = podtest.Link(t, s.Pod.Namespace, a.name).HardwareAddr.String()
	}
	s.Remember()
	return s, macs
}

// TestGuestHasAllInterfacesOfThePod has a guest that gets three of the pod's four interfaces at its start, each by what its XML
// says, and the fourth while it runs. Each has its lease from its own server, and renews it there; traffic flows on each. Then a
// card is attached and detached, again and again, under a ping on eth0 that loses nothing, and nothing is left.
func TestGuestHasAllInterfacesOfThePod(t *testing.T) {
	s, macs := newMultusSite(t)

	file, path := s.domain("podnic.cards")
	edit(t, file, "<memballoon", "<controller type='pci' index='0' model='pcie-root'/>"+strings.Repeat("<controller type='pci' model='pcie-root-port'/>", 6)+
		"<interface type='user'><mac address='"+macs["net2"]+"'/></interface><interface type='user'><alias name='ua-net1'/></interface><memballoon")
	console := podtest.Console(t, path)
	a := s.run("--domain", file, "--lease-time", "12s", "--interface", "eth0", "--interface", "net1", "--interface", "net2")
	podtest.Wait(t, console, "guest: ready")

	// The fourth comes while it runs.
	s.plug("attach", "net3")
	ports := s.wired()
	if want := "eth0 bridge tap0, net1 bridge tap1, net2 redirect tap2, net3 bridge tap3"; ports != want {
		t.Errorf("wired: %s, want %s", ports, want)
	}
	s.Ready()
	renewed := s.renewals("eth0", "net1", "net2")
	cards := s.cards(macs)
	for name, gateway := range map[string]string{"eth0": s.Pod.Gateway.String(), "net1": "10.245.1.1", "net2": "10.244.3.1"} {
		s.guest("ping -c 1 -W 90 -I " + cards[macs[name]] + " " + gateway)
	}
	s.In(s.Node.Namespace, "ip address add 198.51.100.1/24 dev cni3\nip link set cni3 up")
	s.guest("ip address add 198.51.100.2/24 dev " + cards[macs["net3"]] + "; ping -c 1 -W 90 198.51.100.1")
	if out := s.guest("ip route show default; cat /etc/resolv.conf"); strings.Count(out, "default") != 2 || !strings.Contains(out, "dev "+cards[macs["eth0"]]) {
		t.Errorf("default route and resolver are not eth0's alone: %s", out)
	}
	renewed()

	// Again and again, and the ping goes on.
	s.plug("detach", "net3")
	pinging := s.ping()
	for i := range attachAgain() {
		name := []string{"net3", "net2"}[i%2]
		if name == "net2" {
			s.plug("detach", name)
		}
		s.plug("attach", name)
		s.plug("detach", name)
		if name == "net2" {
			s.plug("attach", name)
		}
	}
	if lost := pinging(); lost != "" {
		t.Errorf("while cards came and went, eth0 lost pings: %s", lost)
	}
	if files := podtest.Files(t, s.StateDir+"/net3"); len(files) > 0 {
		t.Errorf("left of net3: %q", files)
	}

	// One that somebody else unplugs is seen, and can be given back; one that is refused is not touched.
	if out, err := s.libvirtd.Virsh(t.Context(), "detach-interface", "vm", "ethernet", "--mac", macs["net1"], "--live"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	podtest.Until(s.T, "net1: the guest has no card on tap1", func() bool { return strings.Contains(s.Must("status"), "its card of net1 was unplugged") })
	s.plug("detach", "net1")
	if _, stderr, status := s.Run("detach", "net1", "--connect", s.libvirtd.URI); status != 2 || !strings.Contains(stderr, "net1 is not wired") {
		t.Errorf("detached twice: exit status %d, %s", status, stderr)
	}

	// What an agent left is adopted whole, and goes with the guest.
	a.Signal(syscall.SIGKILL)
	<-a.Done
	s.plug("attach", "net3")
	b := s.run("--domain", file, "--interface", "eth0", "--interface", "net1")
	b.Says("podnic attach net1 --domain vm")
	b.Says(`"msg":"serving"`)
	s.Ready()
	if want := "eth0 bridge tap0, net2 redirect tap2, net3 bridge tap1"; s.wired() != want {
		t.Errorf("wired: %s, want %s", s.wired(), want)
	}
	b.Signal(syscall.SIGTERM)
	b.Exits(0)
	s.AsBefore()
}

// ipam is a configuration of host-local: a range, and routes.
func ipam(subnet string, routes ...string) map[string]any {
	all := []any{}
	for _, route := range routes {
		all = append(all, map[string]any{"dst": route})
	}
	return map[string]any{"type": "host-local", "ranges": []any{[]any{map[string]any{"subnet": subnet}}}, "routes": all}
}

func edit(t *testing.T, file, from, to string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte(strings.Replace(string(text), from, to, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// plug attaches or detaches an interface.
func (s *site) plug(command, name string) {
	s.T.Helper()
	s.Must(command, name, "--connect", s.libvirtd.URI)
}

// wired is what status says is wired, by name.
func (s *site) wired() string {
	s.T.Helper()
	var r struct {
		Interfaces []struct{ Name, Binding, Tap string }
	}
	if err := json.Unmarshal([]byte(s.Must("status", "-o", "json")), &r); err != nil {
		s.T.Fatal(err)
	}
	var all []string
	for _, i := range r.Interfaces {
		all = append(all, i.Name+" "+i.Binding+" "+i.Tap)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// guest runs a script in the guest.
func (s *site) guest(script string) string {
	s.T.Helper()
	out, err := s.client().Run(s.T.Context(), script)
	if err != nil {
		s.T.Errorf("in the guest: %v: %s", err, out)
	}
	return out
}

// cards are the names of the guest's cards, by their MACs. It has all of these.
func (s *site) cards(macs map[string]string) map[string]string {
	s.T.Helper()
	cards := make(map[string]string)
	for line := range strings.Lines(s.guest("for c in /sys/class/net/eth*; do echo $(cat $c/address) ${c##*/}; done")) {
		if mac, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			cards[mac] = name
		}
	}
	for name, mac := range macs {
		if cards[mac] == "" {
			s.T.Fatalf("the guest lacks %s (%s): %v", name, mac, cards)
		}
	}
	return cards
}

// renewals follows the taps of interfaces. What it returns waits until the lease of each was renewed: asked for of the server
// alone, by the guest that has it, and acknowledged on the same tap.
func (s *site) renewals(names ...string) (renewed func()) {
	s.T.Helper()
	trace := s.Start("trace", "-o", "json")
	trace.Says("tracing")
	return func() {
		s.T.Helper()
		type frame struct {
			Interface, Peer, Message, Transaction, State string
			FromGuest                                    bool
		}
		has := func(name string) bool {
			asked := ""
			for _, line := range trace.Lines() {
				var f frame
				if json.Unmarshal([]byte(line), &f) != nil || f.Interface != name {
					continue
				}
				switch {
				case f.Message == "NAK":
					s.T.Fatalf("the server of %s refuses: %s", name, line)
				case f.FromGuest && f.Message == "REQUEST" && f.State == "renewing or rebinding" && f.Peer == "server":
					asked = f.Transaction
				case !f.FromGuest && f.Message == "ACK" && f.Transaction == asked:
					return true
				}
			}
			return false
		}
		for _, name := range names {
			podtest.Until(s.T, name+" renews its lease at its own server", func() bool { return has(name) })
		}
		trace.End(syscall.SIGTERM)
	}
}

// TestEachLeaseIsRenewedByUDP is a pod of the same four interfaces in UDP mode, where all servers have the same address and
// port: each lease is renewed at that of its own tap.
func TestEachLeaseIsRenewedByUDP(t *testing.T) {
	s, macs := newMultusSite(t)
	// What podnic's CNI plugin sets. That for a redirect's tap is podnic's own doing.
	s.In(s.Pod.Namespace, "echo 1 >/proc/sys/net/ipv4/conf/all/accept_local")
	s.Remember()
	file, path := s.domain("podnic.cards")
	console := podtest.Console(t, path)
	a := s.run("--domain", file, "--socket", "udp", "--lease-time", "12s", "--interface", "all")
	podtest.Wait(t, console, "guest: ready")
	s.Ready()
	if want := "eth0 bridge tap0, net1 bridge tap1, net2 redirect tap2, net3 bridge tap3"; s.wired() != want {
		t.Errorf("wired: %s, want %s", s.wired(), want)
	}
	renewed := s.renewals("eth0", "net1", "net2")
	s.cards(macs)
	renewed()
	a.Signal(syscall.SIGTERM)
	a.Exits(0)
	s.AsBefore()
}

// ping pings the guest from the other pod until the returned function is called, which says what was lost.
func (s *site) ping() (lost func() string) {
	p := podtest.Start(s.T, "ping", s.other.Command(s.T.Context(), "ping", "-i", "0.05", s.Pod.Address.Addr().String()))
	p.Says("icmp_seq=1 ")
	return func() string {
		// One that is answered from now on; those after it may be on their way when the ping ends.
		replies := func() int { return strings.Count(p.Text(), "bytes from") }
		before := replies()
		podtest.Until(s.T, "a further ping is answered", func() bool { return replies() > before+1 })
		p.Signal(syscall.SIGINT)
		<-p.Done
		answered := make(map[int]bool)
		last := 0
		for _, line := range p.Lines() {
			_, rest, _ := strings.Cut(line, "icmp_seq=")
			if n, err := strconv.Atoi(strings.TrimSuffix(strings.Fields(rest + " ?")[0], ":")); err == nil && strings.Contains(line, "bytes from") {
				answered[n], last = true, max(last, n)
			}
		}
		var missing []int
		for n := range last {
			if !answered[n+1] {
				missing = append(missing, n+1)
			}
		}
		if len(missing) == 0 {
			return ""
		}
		return fmt.Sprintf("%v of %d", missing, last)
	}
}
