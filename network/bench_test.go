package network

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// The benchmarks report medians as ns/op: a rewire meets grace periods and other work of the kernel, of which a mean tells
// more than of the program. Each prepares a pod of the shape "ptp", with the record on tmpfs unless it says otherwise.

// median times op as often as the benchmark wants, and undoes it in between.
func median(b *testing.B, op, undo func()) {
	b.Helper()
	op() // the first time is another one: threads and buffers are made
	undo()
	var times []time.Duration
	for b.Loop() {
		began := time.Now()
		op()
		times = append(times, time.Since(began))
		undo()
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2]), "ns/op")
}

func newBenchPod(b *testing.B) *testPod {
	b.Helper()
	p := newTestPod(b, shapes["ptp"]...)
	p.settle()
	p.dir = tmpfs(b)
	return p
}

func tmpfs(b *testing.B) string {
	b.Helper()
	const path = "/dev/shm"
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		b.Fatalf("%s is not a tmpfs (%v)", path, err)
	}
	return directory(b, path)
}

// directory makes a directory in another, or, without a name, where temporary files go.
func directory(b *testing.B, in string) string {
	b.Helper()
	dir, err := os.MkdirTemp(in, "podnic-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// goal is what the pod holds and what it should hold once it is wired.
func (p *testPod) goal() (original, wanted *plan.Snapshot) {
	p.t.Helper()
	seen, err := Inspect(p.request())
	if err != nil {
		p.t.Fatal(err)
	}
	o, err := plan.Options{Interface: "eth0"}.Normal()
	if err != nil {
		p.t.Fatal(err)
	}
	return seen.Original, plan.Wired(seen.Original, o)
}

// byHand runs the bare program.
func (p *testPod) byHand(run func(*bare) error) func() {
	return func() {
		p.t.Helper()
		ns, err := OpenNamespace(p.request().Namespace)
		if err != nil {
			p.t.Fatal(err)
		}
		defer ns.Close()
		b, err := newBare(ns)
		if err == nil {
			err = run(b)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

// program runs a program in the pod's namespace.
func (p *testPod) program(name string, args ...string) func() {
	return func() {
		p.t.Helper()
		if _, err := p.run(p.pod, name, args...); err != nil {
			p.t.Fatalf("%s: %v", name, err)
		}
	}
}

func (p *testPod) podnic() { p.prepare() }

func (p *testPod) restores() { p.restore() }

// makesTheSame checks that a peer wires the pod as podnic does, but for lines with the given beginnings, and that unwire
// undoes it.
func (p *testPod) makesTheSame(wire, unwire func(), without ...string) {
	p.t.Helper()
	lines := func() []string {
		return slices.DeleteFunc(strings.Split(p.wiredText(), "\n"), func(line string) bool {
			return slices.ContainsFunc(without, func(s string) bool { return strings.HasPrefix(line, s) })
		})
	}
	before := p.text()
	p.prepare()
	want := lines()
	p.restore()
	wire()
	if diff := cmp.Diff(want, lines()); diff != "" {
		p.t.Fatalf("this is not what podnic makes:\n%s", diff)
	}
	unwire()
	if diff := cmp.Diff(before, p.text()); diff != "" {
		p.t.Fatalf("this is not what the pod was:\n%s", diff)
	}
}

func BenchmarkPrepare(b *testing.B) {
	p := newBenchPod(b)
	original, wanted := p.goal()
	wire := p.byHand(func(b *bare) error { return b.wire(original, wanted) })
	unwire := p.byHand(func(b *bare) error { return b.unwire(original) })
	p.makesTheSame(wire, unwire)
	b.Run("bare", func(b *testing.B) { median(b, wire, p.restores) })
	b.Run("podnic", func(b *testing.B) { median(b, p.podnic, p.restores) })
	p.dir = directory(b, os.Getenv("PODNIC_CACHE"))
	b.Run("podnic-on-disk", func(b *testing.B) { median(b, p.podnic, p.restores) })
}

func BenchmarkRestore(b *testing.B) {
	p := newBenchPod(b)
	original, _ := p.goal()
	unwire := p.byHand(func(b *bare) error { return b.unwire(original) })
	// The pod is wired when a benchmark begins, and again when it ends.
	b.Run("bare", func(b *testing.B) { p.podnic(); median(b, unwire, p.podnic); p.restores() })
	b.Run("podnic", func(b *testing.B) { p.podnic(); median(b, p.restores, p.podnic); p.restores() })
	p.dir = directory(b, os.Getenv("PODNIC_CACHE"))
	b.Run("podnic-on-disk", func(b *testing.B) { p.podnic(); median(b, p.restores, p.podnic); p.restores() })
}

// BenchmarkJoints compares the bindings.
func BenchmarkJoints(b *testing.B) {
	for by, joint := range joints {
		p := newBenchPod(b)
		p.joint = joint
		b.Run("prepare/"+by, func(b *testing.B) { median(b, p.podnic, p.restores) })
		b.Run("restore/"+by, func(b *testing.B) { p.podnic(); median(b, p.restores, p.podnic); p.restores() })
	}
}

// BenchmarkCommand runs programs. Those of iproute2 have an easier task: they need not find out what the pod holds, and
// without nft(8) they set no filter.
func BenchmarkCommand(b *testing.B) {
	podnic := os.Getenv("PODNIC")
	if podnic == "" {
		b.Skip("PODNIC does not name the program")
	}
	p := newBenchPod(b)
	_, wanted := p.goal()
	lines := iproute2(wanted)
	path := func(name, text string) string {
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		return path
	}
	batch := path("batch", strings.Join(lines, "\n")+"\n")
	script := "set -e\nip " + strings.Join(lines, "\nip ") + "\n"
	nft := "nft -f " + path("filter", nftText) + "\n"
	for _, peer := range []struct {
		name string
		wire func()
	}{
		{"script", p.program("sh", path("script", script))},
		{"script-and-nft", p.program("sh", path("script-and-nft", script+nft))},
		{"batch", p.program("ip", "-batch", batch)},
		{"batch-and-nft", p.program("sh", path("batch-and-nft", "set -e\nip -batch "+batch+"\n"+nft))},
	} {
		// The protocol of an address is beyond many an ip(8).
		p.makesTheSame(peer.wire, p.restores, plan.ChainForward, plan.ChainIPv4, plan.ChainTags, plan.ChainInput, plan.ChainOutput, "address placeholder fe80")
		b.Run(peer.name, func(b *testing.B) { median(b, peer.wire, p.restores) })
	}
	b.Run("podnic", func(b *testing.B) { median(b, p.program(podnic, "prepare", "--state-dir", p.dir), p.restores) })
}

// iproute2 is the wiring in commands of ip(8).
func iproute2(wanted *plan.Snapshot) []string {
	mac := func(r plan.Role) string { return wanted.Link(r).MAC.String() }
	return strings.Split(strings.NewReplacer(
		"MARK", fmt.Sprint(wanted.Link(plan.Bridge).Group), "TABLE", fmt.Sprint(plan.ParkedTable(unix.RT_TABLE_MAIN)),
		"NIC", mac(plan.NIC), "BRIDGE", mac(plan.Bridge), "TAP", mac(plan.Tap), "POD", mac(plan.Placeholder),
	).Replace(`link add eth0-br address BRIDGE group MARK type bridge group_fwd_mask 0x4000 mcast_snooping 0
link set eth0-br arp off addrgenmode none
link set eth0-br up
tuntap add tap0 mode tap vnet_hdr
link set tap0 address TAP group MARK addrgenmode none master eth0-br
link set tap0 type bridge_slave learning off
link set tap0 up
link set eth0 down
link set eth0 name eth0-nic address NIC addrgenmode none master eth0-br
link set eth0-nic type bridge_slave learning off
addr flush dev eth0-nic
link add eth0 address POD group MARK type bridge mcast_snooping 0
addr add 10.244.1.5/24 brd 10.244.1.255 dev eth0
addr add fe80::858:aff:fef4:105/64 dev eth0
route add 10.244.1.1 dev eth0-br scope link src 10.244.1.5 table TABLE
route add fe80::/64 dev eth0-br proto kernel metric 256 table TABLE
route add default via 10.244.1.1 dev eth0-br table TABLE
route add 10.244.1.0/24 via 10.244.1.1 dev eth0-br src 10.244.1.5 table TABLE
link set eth0-nic up`), "\n")
}

// nftText is the filter for nft(8).
const nftText = `table bridge podnic-eth0 {
	chain ipv4 {
		meta l4proto udp th dport 67-68 counter drop
		meta l4proto != 255 accept
		counter drop
	}
	chain tags {
		@nh,16,16 0x8100 counter drop
		@nh,16,16 0x88a8 counter drop
		@nh,16,16 0x0800 @nh,104,8 17 @nh,32,8 != 0x45 counter drop
		@nh,16,16 0x0800 @nh,104,8 17 @nh,208,16 67-68 counter drop
	}
	chain forward {
		type filter hook forward priority -200
		iifname != "tap0" iifname != "eth0-nic" accept
		meta protocol ip goto ipv4
		meta protocol 8021q goto tags
		meta protocol 8021ad goto tags
		meta protocol 0x0004 @nh,0,64 0xaaaa030000000800 counter drop
		iifname "tap0" arp operation request arp daddr ip 169.254.75.10 counter drop
		iifname "tap0" arp operation request arp daddr ip { 10.244.1.5, 10.244.1.1 } counter accept
		iifname "tap0" arp operation request arp daddr ip 10.244.1.0/24 counter drop
	}
	chain input {
		type filter hook input priority -200
		iifname { "tap0", "eth0-nic" } counter drop
	}
	chain output {
		type filter hook output priority -200
		oifname { "tap0", "eth0-nic" } counter drop
	}
}
`

// BenchmarkWiredPods shows whether a prepare takes longer the more wired pods there are on the machine. The bare program
// tells how much of that is the kernel's: what it does for each request also grows with the links of all namespaces.
func BenchmarkWiredPods(b *testing.B) {
	p := newBenchPod(b)
	original, wanted := p.goal()
	wire := p.byHand(func(b *bare) error { return b.wire(original, wanted) })
	others := 0
	for _, n := range []int{1, 10, 100, 300} {
		for ; others < n-1; others++ {
			other := newTestPod(b, shapes["ptp"]...)
			if others == n-2 {
				other.settle() // and the ones before it have
			}
			other.prepare()
		}
		b.Run(fmt.Sprintf("%d/podnic", n), func(b *testing.B) { median(b, p.podnic, p.restores) })
		b.Run(fmt.Sprintf("%d/bare", n), func(b *testing.B) { median(b, wire, p.restores) })
	}
}

func BenchmarkEightPods(b *testing.B) {
	var pods [8]*testPod
	for i := range pods {
		pods[i] = newBenchPod(b)
	}
	inTurn := func(f func(*testPod)) func() {
		return func() {
			for _, p := range pods {
				f(p)
			}
		}
	}
	atOnce := func() {
		var group sync.WaitGroup
		for _, p := range pods {
			group.Go(p.podnic)
		}
		group.Wait()
	}
	b.Run("in-turn", func(b *testing.B) { median(b, inTurn((*testPod).podnic), inTurn((*testPod).restores)) })
	b.Run("at-once", func(b *testing.B) { median(b, atOnce, inTurn((*testPod).restores)) })
}
