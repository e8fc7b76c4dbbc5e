package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

func (p *testPod) recordPath() string { return Store{p.dir, "eth0"}.Path() }

func (p *testPod) same(before string) {
	p.t.Helper()
	if diff := cmp.Diff(before, p.text()); diff != "" {
		p.t.Errorf("the namespace is not as before:\n%s", diff)
	}
}

// refused checks that an operation refuses with a message that has the words, and that nothing was touched.
func (p *testPod) refused(operation func() error, words ...string) {
	p.t.Helper()
	before := p.text()
	err := operation()
	if !IsRefusal(err) {
		p.t.Errorf("not a refusal: %v", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			p.t.Errorf("the refusal does not say %q: %v", w, err)
		}
	}
	p.same(before)
}

func (p *testPod) tryPrepare() error {
	_, err := Prepare(context.Background(), p.request())
	return err
}

func (p *testPod) tryRestore() error {
	_, err := Restore(context.Background(), p.request(), false)
	return err
}

// attach opens the tap as an emulator does, until the test ends or the returned function is called.
func (p *testPod) attach() (detach func()) {
	p.t.Helper()
	var tun *os.File
	err := p.pod.Do(func(_ netns) (err error) {
		if tun, err = os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq("tap0")
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		return unix.IoctlIfreq(int(tun.Fd()), unix.TUNSETIFF, request)
	})
	if err != nil {
		p.t.Fatal(err)
	}
	var once sync.Once
	detach = func() { once.Do(func() { _ = letGo(tun, p.pod) }) }
	p.t.Cleanup(detach)
	return detach
}

func TestWiredNamespaceWithoutRecordCarriesTheOriginal(t *testing.T) {
	forEachShape(t, func(t *testing.T, p *testPod) {
		before := p.text()
		record := p.prepare().Record
		want, _ := plan.Identify(record.Original, record.Options)
		if err := os.Remove(p.recordPath()); err != nil {
			t.Fatal(err)
		}
		seen, err := Inspect(p.request())
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := seen.Identity(); !cmp.Equal(got, want, cmpAddrs) {
			t.Errorf("the namespace carries another identity:\n%s", cmp.Diff(want, got, cmpAddrs))
		}
		again := p.prepare()
		if len(again.Steps) > 0 || len(again.Warnings) == 0 || !strings.Contains(again.Warnings[0], "rebuilt") {
			t.Errorf("prepare without a record: steps %v, warnings %v", again.Steps, again.Warnings)
		}
		if err := os.Remove(p.recordPath()); err != nil {
			t.Fatal(err)
		}
		p.restore()
		// When a route expires is not carried by the parked copy.
		p.same(before)
	})
}

func TestRecordThatCannotBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, shapes["bridge"]...)
	p.prepare()
	good, err := os.ReadFile(p.recordPath())
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(map[string]any)) string {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		f(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, test := range map[string]struct {
		record string
		words  []string
	}{
		"empty":     {"", []string{"damaged"}},
		"truncated": {string(good[:len(good)/2]), []string{"damaged"}},
		"null":      {"null", []string{"damaged"}},
		"no interface": {edit(func(m map[string]any) { m["original"] = map[string]any{"links": []any{}} }),
			[]string{"damaged", "interface"}},
		"newer": {edit(func(m map[string]any) { m["version"] = recordVersion + 1 }), []string{"newer"}},
		"another namespace": {edit(func(m map[string]any) { m["namespace"].(map[string]any)["cookie"] = 1 }),
			[]string{"another network namespace"}},
		"another boot": {edit(func(m map[string]any) { m["namespace"].(map[string]any)["boot"] = "x" }),
			[]string{"another network namespace", "started again"}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(p.recordPath(), []byte(test.record), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, operation := range []func() error{p.tryPrepare, p.tryRestore} {
				p.refused(operation, append(test.words, p.recordPath())...)
			}
		})
	}
}

// TestNamespaceOfTheSameNameIsAnother uses one state directory for a namespace and for the one that takes its place.
func TestNamespaceOfTheSameNameIsAnother(t *testing.T) {
	t.Parallel()
	first := newTestPod(t, shapes["bridge"]...)
	first.prepare()
	second := newTestPod(t, shapes["bridge"]...)
	second.dir = first.dir
	second.refused(second.tryPrepare, "another network namespace")
	second.refused(second.tryRestore, "another network namespace")
	first.restore()
}

// TestRecordOfAPastNetworkIsReplaced leaves a record behind, as a container runtime does that sets the pod's network up
// again.
func TestRecordOfAPastNetworkIsReplaced(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, shapes["bridge"]...)
	p.settle()
	p.prepare()
	old, err := os.ReadFile(p.recordPath())
	if err != nil {
		t.Fatal(err)
	}
	p.restore()
	if err := os.WriteFile(p.recordPath(), old, 0o600); err != nil {
		t.Fatal(err)
	}
	// Its link-local address stays: the kernel makes another when it notices the carrier, which may be after restore.
	p.ip("addr del 10.244.1.5/24 dev eth0")
	p.ip("addr add 10.244.1.99/24 dev eth0")
	before := p.text()
	if r := p.restore(); len(r.Steps) > 0 {
		t.Errorf("restore changes what is not wired: %v", r.Steps)
	}
	if _, err := os.Stat(p.recordPath()); !os.IsNotExist(err) {
		t.Errorf("restore leaves the record of a past network: %v", err)
	}
	if err := os.WriteFile(p.recordPath(), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if id, _ := plan.Identify(p.prepare().Record.Original, plan.Options{}); id.V4.First().Prefix.String() != "10.244.1.99/24" {
		t.Errorf("the guest would get %s", id.V4.First().Prefix)
	}
	p.restore()
	p.same(before)
}

func TestWhatIsNotOursSurvives(t *testing.T) {
	p := newTestPod(t, shapes["ptp"]...)
	p.prepare()
	for _, c := range []string{
		"link add net1 address 0a:58:0a:f5:01:05 type veth peer name net1p address 0a:58:0a:f5:01:06",
		"addr add 10.245.0.5/24 dev net1", "link set net1 up", "link set net1p up",
		"route add 198.51.100.0/24 via 10.245.0.1",
		"rule add from 10.245.0.5 lookup 200 priority 900",
		"route add default via 10.245.0.1 table 200",
		"neigh add 10.245.0.1 lladdr 0e:11:22:33:44:55 dev net1 nud permanent",
		"link add group 42 br9 type bridge",
	} {
		p.ip(c)
	}
	if _, err := p.run(p.pod, "nft", "add table bridge somebodys; add chain bridge somebodys c { type filter hook forward priority 0; }"); err != nil {
		t.Fatal(err)
	}
	if again := p.prepare(); len(again.Steps) > 0 {
		t.Errorf("prepare meddles: %v", again.Steps)
	}
	p.restore()
	for command, want := range map[string]string{
		"link show net1": "net1", "link show br9": "br9", "route show 198.51.100.0/24": "10.245.0.1",
		"rule show priority 900": "10.245.0.5", "route show table 200": "10.245.0.1", "neigh show nud permanent": "10.245.0.1",
	} {
		if out := p.ip(command); !strings.Contains(out, want) {
			t.Errorf("ip %s: %q is lost: %q", command, want, out)
		}
	}
	if out, err := p.run(p.pod, "nft", "list", "ruleset"); err != nil || !strings.Contains(out, "somebodys") || strings.Contains(out, "podnic") {
		t.Errorf("nft: %v: %s", err, out)
	}
}

// drifts are what people do to a wiring.
var drifts = map[string]map[string][]string{
	plan.BindingBridge: {
		"nic down":             {"ip link set eth0-nic down"},
		"bridge down":          {"ip link set eth0-br down"},
		"tap down":             {"ip link set tap0 down"},
		"placeholder up":       {"ip link set eth0 up"},
		"nic out of bridge":    {"ip link set eth0-nic nomaster"},
		"tap out of bridge":    {"ip link set tap0 nomaster"},
		"nic renamed":          {"ip link set eth0-nic down", "ip link set eth0-nic name foo"},
		"tap renamed":          {"ip link set tap0 down", "ip link set tap0 name foo"},
		"bridge renamed":       {"ip link set eth0-br down", "ip link set eth0-br name foo"},
		"placeholder renamed":  {"ip link set eth0 name foo"},
		"tap gone":             {"ip link del tap0"},
		"bridge gone":          {"ip link del eth0-br"},
		"placeholder gone":     {"ip link del eth0"},
		"all but the nic gone": {"ip link del tap0", "ip link del eth0", "ip link del eth0-br", "ip link add tap0 group 1879048194 type bridge"},
		"filter gone":          {"nft delete table bridge podnic-eth0"},
		"rule gone":            {"nft flush chain bridge podnic-eth0 input"},
		"rule added":           {"nft insert rule bridge podnic-eth0 forward accept"},
		"learning":             {"bridge link set dev tap0 learning on"},
		"mac of the bridge":    {"ip link set eth0-br address 0a:11:22:33:44:55"},
		"mac of the nic":       {"ip link set eth0-nic address 0a:58:0a:f4:01:05"},
		"mtu of the tap":       {"ip link set tap0 mtu 1400"},
		"mtu below IPv6's":     {"ip link set tap0 mtu 900"}, // takes the bridge's IPv6 along, and its routes
		"arp of the bridge":    {"ip link set eth0-br arp on"},
		"snooping":             {"ip link set eth0-br type bridge mcast_snooping 1"},
		"forwarding of LLDP":   {"ip link set eth0-br type bridge group_fwd_mask 0"},
		"forwarding of all":    {"ip link set eth0-br type bridge group_fwd_mask 0xfff8"},
		"an older podnic": {
			"ip link set eth0-br type bridge group_fwd_mask 0", "nft delete table bridge podnic-eth0", "nft -f testdata/filter-of-an-older-podnic.nft",
		},
		"address on the nic":    {"ip addr add 10.9.9.9/24 dev eth0-nic"},
		"address on the bridge": {"ip addr add 10.9.9.9/24 dev eth0-br"},
		"address lost":          {"ip addr flush dev eth0"},
		"routes lost":           {"ip route flush dev eth0-br table 1886257406"},
		"owner of the tap":      {"ip link del tap0", "ip tuntap add tap0 mode tap vnet_hdr user 7", "ip link set tap0 group 1879048194"},
	},
	plan.BindingRedirect: {
		"tap down":          {"ip link set tap0 down"},
		"tap renamed":       {"ip link set tap0 down", "ip link set tap0 name foo"},
		"tap gone":          {"ip link del tap0"},
		"tap of another":    {"ip link del tap0", "ip link add tap0 group 1879048194 type bridge"},
		"mtu of the tap":    {"ip link set tap0 mtu 1400"},
		"mac of the tap":    {"ip link set tap0 address 0a:11:22:33:44:55"},
		"arp of the tap":    {"ip link set tap0 arp on"},
		"address on it":     {"ip addr add 10.9.9.9/24 dev tap0"},
		"owner of the tap":  {"ip link del tap0", "ip tuntap add tap0 mode tap vnet_hdr user 7", "ip link set tap0 group 1879048194"},
		"a link of ours":    {"ip link add foo group 1879048194 type bridge"},
		"filter gone":       {"nft delete table netdev podnic-eth0", "nft delete table inet podnic-eth0"},
		"half of it gone":   {"nft delete table inet podnic-eth0"},
		"other half gone":   {"nft delete table netdev podnic-eth0"},
		"rule gone":         {"nft flush chain netdev podnic-eth0 to-network"},
		"rule added":        {"nft insert rule netdev podnic-eth0 from-guest accept"},
		"chain gone":        {"nft delete chain netdev podnic-eth0 to-network"},
		"nothing but marks": {"nft delete table netdev podnic-eth0", "nft delete table inet podnic-eth0", "ip link set tap0 down"},
	},
}

func TestDriftIsMended(t *testing.T) {
	for binding, all := range drifts {
		for name, commands := range all {
			t.Run(binding+"/"+name, func(t *testing.T) {
				t.Parallel()
				p := newTestPod(t, shapes["ptp"]...)
				p.binding = binding
				before := p.text()
				p.prepare()
				wired := p.wiredText()
				for _, c := range commands {
					words := strings.Fields(c)
					if out, err := p.run(p.pod, words[0], words[1:]...); err != nil {
						t.Fatalf("%s: %v: %s", c, err, out)
					}
				}
				r := p.prepare()
				if len(r.Steps) == 0 || !r.Repaired {
					t.Error("nothing was mended")
				}
				if diff := cmp.Diff(wired, p.wiredText()); diff != "" {
					t.Errorf("not what prepare makes:\n%s", diff)
				}
				if remade := strings.HasPrefix(name, "tap gone") || strings.HasPrefix(name, "owner") || strings.HasPrefix(name, "all") || name == "tap of another"; r.TapRemade != remade && name != "tap renamed" {
					t.Errorf("tap made again: %v", r.TapRemade)
				}
				p.restore()
				p.same(before)
			})
		}
	}
}

// TestARedirectIsKnownWithoutItsTap deletes the tap: the filter says what is wired, with a record and without one, and drops
// what it cannot hand over.
func TestARedirectIsKnownWithoutItsTap(t *testing.T) {
	for name, lost := range map[string]bool{"with the record": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			p := newTestPod(t, append(slices.Clone(shapes["bridge"]), "node:addr add 10.244.1.1/24 dev host0")...)
			p.binding = plan.BindingRedirect
			before := p.text()
			pings := func() bool { _, err := p.run(p.pod, "ping", "-c1", "-W1", "10.244.1.1"); return err == nil }
			tapless := func() {
				p.prepare()
				p.ip("link del tap0")
				if lost {
					if err := os.Remove(p.recordPath()); err != nil {
						t.Fatal(err)
					}
				}
			}
			tapless()
			seen, err := Inspect(p.request())
			if err != nil || !seen.Wired || !strings.Contains(fmt.Sprint(seen.Deviations), "tap0 is missing") {
				t.Errorf("%v: %+v", err, seen)
			}
			if pings() {
				t.Error("the pod's stack has its network back")
			}
			if r := p.prepare(); !r.TapRemade || !r.Repaired {
				t.Errorf("prepare: %+v", r)
			}
			if seen, err = Inspect(p.request()); err != nil || len(seen.Deviations) > 0 {
				t.Errorf("%v: %v", err, seen.Deviations)
			}
			p.restore()
			tapless()
			p.restore()
			p.same(before)
			p.noFiles()
			if !pings() {
				t.Error("the pod has not its network back")
			}
		})
	}
}

// TestWhatOthersChangeOnTheLinkStays changes the pod's link while its frames are redirected. What the guest would have to be
// told is a deviation, what else it has otherwise a note; prepare mends neither, and restore keeps both.
func TestWhatOthersChangeOnTheLinkStays(t *testing.T) {
	for name, test := range map[string]struct {
		commands        []string
		deviation, note string
		steps           int
	}{
		"an address more": {[]string{"addr add 10.9.9.9/24 dev eth0"}, "has the address 10.9.9.9/24", "1 new", 0},
		"another address": {[]string{"addr add 10.244.1.99/24 dev eth0", "addr del 10.244.1.5/24 dev eth0"}, "has lost the address 10.244.1.5/24", "gone", 0},
		"another MAC":     {[]string{"link set eth0 address 0a:11:22:33:44:55"}, "has the MAC 0a:11:22:33:44:55", "", 0},
		"another MTU":     {[]string{"link set eth0 mtu 1400"}, "", "has the MTU 1400", 0},
		"a route more":    {[]string{"route add 198.51.100.0/24 via 10.244.1.1"}, "", "0 gone, 1 new", 0},
		"a route less":    {[]string{"route del default"}, "", "1 gone, 0 new", 0},
		"a neighbour":     {[]string{"neigh add 10.244.1.7 lladdr 0e:11:22:33:44:55 dev eth0 nud permanent"}, "", "", 0},
		"a link down":     {[]string{"link set eth0 down"}, "is down", "gone", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, shapes["bridge"]...)
			p.settle()
			p.binding = plan.BindingRedirect
			p.prepare()
			wired := p.wiredText()
			for _, c := range test.commands {
				p.ip(c)
			}
			seen, err := Inspect(p.request())
			if err != nil {
				t.Fatal(err)
			}
			deviations, notes := fmt.Sprint(seen.Deviations), strings.Join(seen.Warnings, "; ")
			if !strings.Contains(deviations, test.deviation) || (test.deviation == "") != (len(seen.Deviations) == 0) {
				t.Errorf("deviations: %s", deviations)
			}
			if !strings.Contains(notes, test.note) || (test.note == "") != (notes == "") {
				t.Errorf("notes: %q", notes)
			}
			if r := p.prepare(); len(r.Steps) != test.steps {
				t.Errorf("prepare: %v", r.Steps)
			}
			changed := p.text()
			p.restore()
			after := p.text()
			for _, c := range []string{"tap0", "podnic"} {
				if strings.Contains(after, c) {
					t.Errorf("%s is left:\n%s", c, after)
				}
			}
			for line := range strings.Lines(changed) {
				if strings.Contains(line, "eth0") && !strings.Contains(after, line) {
					t.Errorf("lost by restore: %s", line)
				}
			}
			if wired == p.wiredText() {
				t.Error("nothing was changed")
			}
		})
	}
}

// wiredText is the wired namespace without the indexes of our links, which a repair may change.
func (p *testPod) wiredText() string {
	p.t.Helper()
	seen, err := Inspect(p.request())
	if err != nil {
		p.t.Fatal(err)
	}
	return marks.ReplaceAllString(strings.Join(plan.Comparable(seen.Current), "\n"), "$1 MARK")
}

// marks are those by which a redirect tells the guest's frames: each wiring has one of its own.
var marks = regexp.MustCompile(`(meta 3|load) [0-9a-f]{8}\b`)

func TestNamesThatAreTakenAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tap0", "eth0-br", "eth0-nic", "eth0-id"} {
		for how, command := range map[string]string{
			"name":    "link add " + name + " type bridge",
			"altname": "link property add dev lo altname " + name,
		} {
			t.Run(name+" as "+how, func(t *testing.T) {
				t.Parallel()
				p := newTestPod(t, shapes["bridge"]...)
				p.ip(command)
				p.refused(p.tryPrepare, name)
			})
		}
	}
}

// TestRestoreOfAnotherInterfaceIsRefused asks for one that is there and one that is not, with and without the record, and then
// for the one that is wired, by either of its names.
func TestRestoreOfAnotherInterfaceIsRefused(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, append(slices.Clone(shapes["bridge"]), "link add net1 type veth peer name net1-peer", "link property add dev eth0 altname uplink")...)
	before := p.text()
	for _, name := range []string{"eth0", "uplink"} {
		p.prepare()
		wired := p.text()
		named := func(iface, dir string) error {
			req := p.request()
			req.Options.Interface, req.StateDir = iface, dir
			_, err := Restore(t.Context(), req, false)
			return err
		}
		for _, dir := range []string{p.dir, t.TempDir()} {
			for _, other := range []string{"net1", "net2"} {
				if err := named(other, dir); !IsRefusal(err) || !strings.Contains(err.Error(), other+" is not wired, and eth0 is") {
					t.Errorf("%s: %v", other, err)
				}
			}
		}
		if diff := cmp.Diff(wired, p.text()); diff != "" {
			t.Errorf("the namespace has changed:\n%s", diff)
		}
		if err := named(name, p.dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		p.same(before)
	}
}

func TestRestoreRefusesUnderAGuest(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	before := p.text()
	p.prepare()
	detach := p.attach()
	p.refused(p.tryRestore, "tap0", "--force")
	if _, err := Restore(context.Background(), p.request(), true); err != nil {
		t.Fatal(err)
	}
	detach()
	p.same(before)
}

// TestFailedRepairDoesNotTakeTheGuestsNetwork breaks the wiring under a guest and fails each step of the repair.
func TestFailedRepairDoesNotTakeTheGuestsNetwork(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	p.prepare()
	p.attach()
	for n := 0; ; n++ {
		p.ip("link set eth0-br mtu 1400")
		if _, err := p.run(p.pod, "nft", "delete", "table", "bridge", "podnic-eth0"); err != nil {
			t.Fatal(err)
		}
		before := p.wiredText()
		req := p.request()
		req.fault = failAt(n)
		_, err := Prepare(context.Background(), req)
		if err == nil {
			if n == 0 {
				t.Fatal("there was nothing to mend")
			}
			return
		}
		if diff := cmp.Diff(before, p.wiredText()); diff != "" {
			t.Fatalf("after step %d failed:\n%s", n, diff)
		}
		seen, err := Inspect(p.request())
		if err != nil {
			t.Fatal(err)
		}
		if !seen.Attached {
			t.Fatalf("after step %d failed, the guest has lost the tap", n)
		}
		p.prepare()
	}
}

// TestTapUnderAGuestIsNeverMadeAgain changes what the creation of a tap fixes.
func TestTapUnderAGuestIsNeverMadeAgain(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	p.prepare()
	p.attach()
	// What nobody can do to a tap from outside is simulated by a record that wants another owner.
	var record map[string]any
	b, err := os.ReadFile(p.recordPath())
	if err == nil {
		err = json.Unmarshal(b, &record)
	}
	if err != nil {
		t.Fatal(err)
	}
	record["options"].(map[string]any)["tapOwner"] = 7
	b, err = json.Marshal(record)
	if err == nil {
		err = os.WriteFile(p.recordPath(), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	owner := uint32(7)
	req := p.request()
	req.Options.TapOwner = &owner
	r, err := Prepare(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if r.TapRemade || len(r.Warnings) == 0 {
		t.Errorf("remade %v, warnings %v", r.TapRemade, r.Warnings)
	}
	if seen, err := Inspect(p.request()); err != nil || !seen.Attached {
		t.Errorf("the guest lost its tap: %v", err)
	}
}

// TestAgentsExcludeEachOther lets agents prepare and restore one namespace at once, with one record: some on the node, which
// name the namespace by a path, and some in the pod, whose own it is.
func TestAgentsExcludeEachOther(t *testing.T) {
	p := newTestPod(t, shapes["ptp"]...)
	before := p.text()
	for operation, onNode := range map[string]func() error{"prepare": p.tryPrepare, "restore": p.tryRestore} {
		if operation == "restore" {
			p.prepare()
		}
		const each = 4
		var wg sync.WaitGroup
		errs := make(chan error, 2*each)
		for range each {
			wg.Go(func() { errs <- onNode() })
			wg.Go(func() {
				errs <- p.pod.Do(func(netns) error {
					cmd := exec.Command(os.Args[0])
					cmd.Env = append(os.Environ(), childOperation+"="+operation, childNamespace+"=", childStateDir+"="+p.dir, childDieAt+"=1000000")
					if out, err := cmd.CombinedOutput(); err != nil {
						return fmt.Errorf("%w: %s", err, out)
					}
					return nil
				})
			})
		}
		wg.Wait()
		for range 2 * each {
			if err := <-errs; err != nil {
				t.Errorf("%s: %v", operation, err)
			}
		}
	}
	p.restore()
	p.same(before)
}

// TestLifetimesGoOnWhileWired wires for longer than lifetimes may differ: what had an hour left has less than that after.
func TestLifetimesGoOnWhileWired(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, shapes["much of everything"]...)
	p.settle()
	read := func() *plan.Snapshot {
		seen, err := Inspect(p.request())
		if err != nil {
			t.Fatal(err)
		}
		return seen.Current
	}
	before := read()
	if warnings := strings.Join(p.prepare().Seen.Warnings, "; "); !strings.Contains(warnings, "run out (10.244.5.5/24") {
		t.Errorf("that nobody renews them is not said: %q", warnings)
	}
	time.Sleep((plan.LifetimeSlack + 1) * time.Second) // time itself is what is tested
	p.restore()
	after := read()
	limited := 0
	for i, a := range before.Addresses {
		if a.ValidUntil != 0 {
			limited++
		}
		if i >= len(after.Addresses) || !a.Same(after.Addresses[i]) || !a.SameLifetimes(after.Addresses[i]) {
			t.Errorf("the address %+v came back as %+v", a, after.Addresses[min(i, len(after.Addresses)-1)])
		}
	}
	for _, r := range before.Routes {
		if r.Expires != 0 {
			limited++
		}
		if !slices.ContainsFunc(after.Routes, r.Same) {
			t.Errorf("the route %+v did not come back", r)
		}
	}
	if limited < 3 {
		t.Fatalf("only %d lifetimes were compared", limited)
	}
}

// TestLockIsWaitedForAndThenRefused holds the lock as another process would.
func TestLockIsWaitedForAndThenRefused(t *testing.T) {
	p := newTestPod(t, shapes["ptp"]...)
	ns := p.namespace()
	unlock, _, err := ns.Lock(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	req := p.request()
	req.LockTimeout = 1
	p.refused(func() error { _, err := Prepare(context.Background(), req); return err }, "another podnic", "--lock-timeout")
	unlock()
	p.prepare()
	p.restore()
}

func TestOptionsThatDifferFromTheRecordsAreRefused(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	p.prepare()
	owner := uint32(107)
	for flag, options := range map[string]plan.Options{
		"--tap is":       {Tap: "tap9"},
		"--tap-owner is": {TapOwner: &owner},
		"--queues is":    {Queues: 2},
		"--socket is":    {Socket: plan.SocketUDP},
		// Another one could be wired beside it.
		"no interface eth1 here: name one of eth0 with": {Interface: "eth1"},
	} {
		req := p.request()
		req.Options = options
		p.refused(func() error { _, err := Prepare(context.Background(), req); return err }, flag)
	}
	p.restore()
}

func TestRecordIsPrivate(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	p.dir = filepath.Join(p.dir, "state")
	p.prepare()
	for path, mode := range map[string]os.FileMode{p.dir: 0o700, p.recordPath(): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != mode {
			t.Errorf("%s has mode %v, want %v", path, got, mode)
		}
	}
	// Replaced, and not written over: who has the old one open reads the old one.
	old, err := os.Open(p.recordPath())
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := SetDomain(t.Context(), p.request(), "eth0", &DomainRef{Name: "vm-0"}); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(old); err != nil || len(b) == 0 || strings.Contains(string(b), "vm-0") {
		t.Errorf("the record is written in place: %v: %s", err, b)
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "eth0", ".*"))
	if err != nil || len(files) > 0 {
		t.Errorf("left beside the record: %v, %v", files, err)
	}
}

// TestPodNetworkThatIsTakenAwayLeavesNothingOfOurs deletes the veth under the wiring, as a node does that tears a pod down.
func TestPodNetworkThatIsTakenAwayLeavesNothingOfOurs(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	p.prepare()
	p.ip("node:link del host0")
	p.refused(p.tryPrepare, "eth0", "gone", "restore")
	r := p.restore()
	if len(r.Warnings) == 0 {
		t.Error("no warning")
	}
	if out := p.ip("-o link"); strings.Count(out, "\n") != 1 {
		t.Errorf("left: %s", out)
	}
	if _, err := os.Stat(p.recordPath()); !os.IsNotExist(err) {
		t.Errorf("the record is left: %v", err)
	}
}

// TestBridgeRefusesWhatARedirectLeavesAlone builds what goes when the pod's link is set down, and what podnic does not know
// how to put back. Where the choice is podnic's, it is a redirect, with the bridge's reason.
func TestBridgeRefusesWhatARedirectLeavesAlone(t *testing.T) {
	object := "nexthop add id 7 via 10.244.1.1 dev eth0"
	for name, test := range map[string]struct {
		commands []string
		reason   string
	}{
		"nexthop object": {[]string{object}, "nexthop object 7"},
		"nexthop route":  {[]string{object, "route add 198.51.100.0/24 nhid 7"}, "nexthop object 7"},
		"encapsulation":  {[]string{"route add 198.51.100.0/24 encap ip dst 203.0.113.1 dev eth0"}, "encapsulation"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestPod(t, append(slices.Clone(shapes["bridge"]), test.commands...)...)
			whole := func() string { return p.text() + p.ip("nexthop") }
			before := whole()
			p.binding = plan.BindingBridge
			p.refused(p.tryPrepare, test.reason)
			p.binding = plan.BindingAuto
			r := p.prepare()
			if got := r.Record.Options.Binding; got != plan.BindingRedirect || !strings.Contains(r.Record.Why, test.reason) {
				t.Errorf("the choice is %s: %s", got, r.Record.Why)
			}
			if again := p.prepare(); len(again.Steps) > 0 {
				t.Errorf("a second prepare found something to do: %v", again.Steps)
			}
			p.restore()
			if diff := cmp.Diff(before, whole()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestUnsupportedNetworksAreRefusedByName builds what the wiring could not put back, or could not work with.
func TestUnsupportedNetworksAreRefusedByName(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		commands []string
		words    []string
	}{
		"a port":            {[]string{"link add br9 type bridge", "link set eth0 master br9"}, []string{"port of br9"}},
		"macvlan on top":    {[]string{"link add link eth0 name mv0 type macvlan"}, []string{"mv0", "eth0"}},
		"default elsewhere": {[]string{"link add net1 type bridge", "link set net1 up", "route del default", "route add default dev net1"}, []string{"net1", "bridge"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, shapes["bridge"]...)
			for _, c := range test.commands {
				if out, err := p.run(p.pod, "ip", strings.Fields(c)...); err != nil {
					if strings.Contains(err.Error(), "Unknown device type") {
						t.Logf("this kernel has no such link: %s", out)
						return
					}
					t.Fatalf("ip %s: %v", c, err)
				}
			}
			p.refused(p.tryPrepare, test.words...)
		})
	}
}

// TestNodesNamespaceIsRefused builds what a kind node looks like from inside.
func TestNodesNamespaceIsRefused(t *testing.T) {
	p := newTestPod(t, append(shapes["bridge"], "link add cni0 type bridge")...)
	p.refused(p.tryPrepare, "node's", "cni0", "--allow-host-namespace")
	q := newTestPod(t, shapes["bridge"]...)
	for i := range nodeVeths {
		q.ip(fmt.Sprintf("link add veth%d type veth peer name peer%d netns /proc/%d/fd/%d", i, i, os.Getpid(), q.node.Fd()))
	}
	q.refused(q.tryPrepare, "node's", "--allow-host-namespace")
}

// TestIndexOfTheLinkMayBeLarge takes a link that kept the index that it had on a node.
func TestIndexOfTheLinkMayBeLarge(t *testing.T) {
	t.Parallel()
	for _, index := range []int{70_000, 20_000_000, 2_000_000_000} {
		t.Run(fmt.Sprint(index), func(t *testing.T) {
			p := newTestPod(t)
			p.ip("link del eth0")
			p.ip(fmt.Sprintf("link add eth0 index %d address 0a:58:0a:f4:01:05 type veth peer name host0 netns /proc/%d/fd/%d", index, os.Getpid(), p.node.Fd()))
			for _, c := range shapes["bridge"] {
				p.ip(c)
			}
			before := p.text()
			p.prepare()
			if again := p.prepare(); len(again.Steps) > 0 {
				t.Errorf("a second prepare found something to do: %v", again.Steps)
			}
			if err := os.Remove(p.recordPath()); err != nil {
				t.Fatal(err)
			}
			p.prepare()
			p.restore()
			p.same(before)
		})
	}
}

// TestFilterIsPutWholeOrNotAtAll has the kernel refuse the last rule of a filter.
func TestFilterIsPutWholeOrNotAtAll(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	ns := p.namespace()
	n := &rtnl.NFT{NS: ns}
	defer n.Close()
	_, wanted := p.goal()
	broken := *wanted.Filter
	broken.Compiled = append(slices.Clone(broken.Compiled), plan.FilterRule{Chain: "nowhere"})
	if err := n.Put(&broken, false); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a rule in a chain that is not there: %v", err)
	}
	if f, err := n.Read(plan.BridgeFilter, broken.Table); f != nil || err != nil {
		t.Errorf("left: %v, %v", f, err)
	}
	if err := n.Put(wanted.Filter, false); err != nil {
		t.Fatal(err)
	}
	n.Close() // so that it is read, and not remembered
	if f, err := n.Read(plan.BridgeFilter, broken.Table); err != nil || !f.Same(wanted.Filter) {
		t.Errorf("read back: %v, %v", f, err)
	}
}
