package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
)

type netns = ns.NetNS

// cmpAddrs lets go-cmp compare net/netip values.
var cmpAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// testPod is a pod's namespace of its own, joined by a veth to a namespace that stands for the node.
type testPod struct {
	t    testing.TB
	pod  ns.NetNS
	node ns.NetNS
	dir  string
	joint
}

// joint is how requests ask for a pod to be wired: a binding and a socket, which are left to podnic where they are empty, and what
// the kernel is taken to lack.
type joint struct {
	binding, socket string
	without         []string
}

// joints are all ways in which podnic joins the pod's link and the tap.
var joints = map[string]joint{
	"bridge":         {binding: plan.BindingBridge},
	"redirect":       {binding: plan.BindingRedirect},
	"redirect by tc": {binding: plan.BindingRedirect, without: []string{rtnl.HideForward}},
	"shared":         {binding: plan.BindingShared},
}

// times is how often something is done with a joint that others do so often: to make and take back, sharing is a redirect.
func (j joint) times(others int) int {
	if j.binding == plan.BindingShared {
		return others / 5
	}
	return others
}

// keptPorts and guestPorts are those of pods that share their address.
var (
	keptPorts  = plan.Ports{{First: 53, Last: 53, Protocol: plan.ProtocolUDP}, {First: 8080, Last: 8083}}
	guestPorts = plan.Ports{{First: 22, Last: 22, Protocol: plan.ProtocolTCP}, {First: 9100, Last: 9100}}
)

// sharing are options with ports, where the binding has use for them.
func sharing(o plan.Options) plan.Options {
	if o.Binding == plan.BindingShared {
		o.PodPorts, o.GuestPorts = keptPorts, guestPorts
	}
	return o
}

// kernelLacks names what the kernel at hand really lacks, which then is not hidden. A virtual machine that plays the node sets
// it: its kernel says no by itself.
const kernelLacks = "PODNIC_TEST_LACKS"

// hidden is what is to be hidden of the kernel so that it is as a joint says.
func (j joint) hidden() []string {
	return slices.DeleteFunc(slices.Clone(j.without), func(what string) bool { return what == os.Getenv(kernelLacks) })
}

// newTestPod makes the two namespaces and eth0, and runs the given ip(8) commands in the pod's (or, after "node:", in the
// node's).
func newTestPod(t testing.TB, commands ...string) *testPod {
	t.Helper()
	return newTestPodOf(t, "veth", commands...)
}

// linkKinds are how eth0 is made, and its network, which is host0 in the node's namespace. Pod networks give their pods a
// fixed MAC each; a fixed one keeps the golden texts the same.
var linkKinds = map[string][]string{
	// With the same index on both sides, the kernel would wait for up to a second before it says that there is a carrier
	// (linkwatch_urgent_event): on a node there are many links.
	"veth": {
		"node:link add another0 type bridge",
		"link add eth0 address 0a:58:0a:f4:01:05 type veth peer name host0 address 0a:58:0a:f4:01:01 netns NODE",
	},
	"bridge":   macvlan("bridge"),
	"private":  macvlan("private"),
	"vepa":     macvlan("vepa"),
	"passthru": append(macvlan("passthru"), "link set eth0 address 0a:58:0a:f4:01:05"), // from the lower link it has its own
}

// macvlan is one on a link of the node whose other end is host0. Without allmulticast it hears no groups but the pod's.
func macvlan(mode string) []string {
	return []string{
		"node:link add low0 type veth peer name host0 address 0a:58:0a:f4:01:01",
		"node:link set low0 addrgenmode none", // of a passthru it has the same MAC, and so it would have the same address
		"node:link set low0 up mtu 9001",
		"node:link add link low0 name eth0 address 0a:58:0a:f4:01:05 netns POD type macvlan mode " + mode,
		"link set eth0 allmulticast on",
	}
}

// withDAD, as the first of a pod's commands, has its kernel look for duplicates of its IPv6 addresses, which takes up to two
// seconds after each change. What a test does many times goes on without, but for the soak.
const withDAD = "look for duplicates"

// newTestPodOf is newTestPod where eth0 is of a kind of linkKinds.
func newTestPodOf(t testing.TB, kind string, commands ...string) *testPod {
	t.Helper()
	if os.Getuid() != 0 || os.Getenv("PODNIC_UNIT") != "" {
		t.Skip("makes network namespaces, and so needs root and more than unit tests wanted")
	}
	p := &testPod{t: t, dir: t.TempDir()}
	for _, n := range []*ns.NetNS{&p.pod, &p.node} {
		var err error
		if *n, err = ns.TempNetNS(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*n).Close() })
	}
	if len(commands) > 0 && commands[0] == withDAD {
		commands = commands[1:]
	} else if os.Getenv("PODNIC_SOAK") == "" {
		for _, n := range []netns{p.pod, p.node} {
			err := n.Do(func(netns) error { // not without both (addrconf_dad_begin)
				return errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/all/accept_dad", []byte("0"), 0),
					os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	p.ip("link set lo up")
	p.sysctl("net.ipv4.ip_local_port_range", plan.PodSources) // as in the spec of a pod that shares its address
	path := func(n ns.NetNS) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.Fd()) }
	namespaces := strings.NewReplacer("NODE", path(p.node), "POD", path(p.pod))
	for _, c := range slices.Concat(linkKinds[kind], commands) {
		c = namespaces.Replace(c)
		p.ip(c)
	}
	return p
}

// sysctl sets one of the pod's, by its name for sysctl(8).
func (p *testPod) sysctl(name, value string) {
	p.t.Helper()
	if err := p.pod.Do(func(netns) error {
		return os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0)
	}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *testPod) run(in ns.NetNS, name string, args ...string) (string, error) {
	var out []byte
	err := in.Do(func(ns.NetNS) (err error) {
		out, err = exec.Command(name, args...).Output() // the child inherits the thread's namespace
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return err
	})
	return string(out), err
}

// ip runs one ip(8) command.
func (p *testPod) ip(command string) string {
	p.t.Helper()
	in := p.pod
	if rest, ok := strings.CutPrefix(command, "node:"); ok {
		in, command = p.node, rest
	}
	out, err := p.run(in, "ip", strings.Fields(command)...)
	if err != nil {
		p.t.Fatalf("ip %s: %v", command, err)
	}
	return out
}

// batch runs ip(8) once, with its options, for several commands in the pod's namespace.
func (p *testPod) batch(options string, commands ...string) string {
	p.t.Helper()
	var out []byte
	var errs bytes.Buffer // which has warnings too, as of namespaces that are just being taken back
	err := p.pod.Do(func(netns) (err error) {
		cmd := exec.Command("ip", append(strings.Fields(options), "-batch", "-")...)
		cmd.Stdin, cmd.Stderr = strings.NewReader(strings.Join(commands, "\n")+"\n"), &errs
		out, err = cmd.Output()
		return err
	})
	if err != nil {
		p.t.Fatalf("ip %s: %v: %s", strings.Join(commands, ", "), err, &errs)
	}
	return string(out)
}

func (p *testPod) request() Request {
	return Request{
		Namespace:   fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.pod.Fd()),
		StateDir:    p.dir,
		LockTimeout: podtest.Patience,
		Options:     sharing(plan.Options{Binding: p.binding, Socket: p.socket}),
		without:     p.hidden(),
		settled:     true, // what waits for routers has tests of its own
	}
}

// namespace is the pod's, as what is tested has it, for the length of the test.
func (p *testPod) namespace() *Namespace {
	p.t.Helper()
	n, err := OpenNamespace(p.request().Namespace)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { n.Close() })
	return n
}

// volatile is what the kernel changes in its own time: counters and timers, and the operational state of links and the
// carrier of a bridge, which follow the carrier of a port up to a second later (net/core/link_watch.c), and how far it is
// with a neighbour.
var volatile = regexp.MustCompile(` (valid_lft|preferred_lft|expires) \d+sec| state \S+|NO-CARRIER,|,LOWER_UP| linkdown| qdisc \S+|_timer +[0-9.]+| (INCOMPLETE|FAILED|STALE)`)

// text is all that ip(8) says of the namespace once it has settled, less what changes on its own.
func (p *testPod) text() string {
	p.t.Helper()
	for {
		p.settle()
		if text := p.dump(); !strings.Contains(text, "tentative") {
			return text
		}
	}
}

func (p *testPod) dump() string {
	p.t.Helper()
	var b strings.Builder
	// Without a family, routes and neighbours of both are listed.
	for _, c := range [][]string{
		{"-d -o", "link"}, {"-o", "addr", "route show table all", "rule"}, {"-6", "rule"}, {"-o", "neigh show nud permanent", "neigh show proxy"},
	} {
		fmt.Fprintf(&b, "# ip %s\n", strings.Join(c, ", "))
		lines := slices.Collect(strings.Lines(p.batch(c[0], c[1:]...)))
		if strings.Contains(c[1], "neigh") {
			slices.Sort(lines) // a hash table has no order
		}
		for _, line := range lines {
			b.WriteString(strings.TrimRight(volatile.ReplaceAllString(line, ""), " \n") + "\n")
		}
	}
	return b.String()
}

// noFiles fails the test if there is a file in the state directory, a hidden one too. The interfaces' directories stay.
func (p *testPod) noFiles() {
	p.t.Helper()
	err := filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			p.t.Errorf("left in the state directory: %s", path)
		}
		return err
	})
	if err != nil {
		p.t.Error(err)
	}
}

func (p *testPod) prepare() *Result {
	p.t.Helper()
	r, err := Prepare(context.Background(), p.request())
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *testPod) restore() *Restoration {
	p.t.Helper()
	r, err := Restore(context.Background(), p.request(), false)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// settle waits until what the kernel does in its own time after a change is done: duplicate address detection, the local
// routes of IPv6 addresses, which are made in the same work queue (addrconf_dad_work), and what follows when the NIC has a
// carrier and the kernel has noticed it (net/core/link_watch.c), such as a link-local address.
func (p *testPod) settle() {
	p.t.Helper()
	deadline := time.Now().Add(podtest.Patience)
	for {
		addresses, routes := p.ip("-6 -o addr show up"), p.ip("route show table all") // of both families
		link, veths, _ := strings.Cut(p.batch("-o", "link show eth0", "link show type veth"), "\n")
		taps := p.ip("-o link show type tun")
		down := strings.Contains(routes, "linkdown") || strings.Contains(link, "NO-CARRIER")
		carrier := strings.Contains(veths, ",LOWER_UP")
		unnoticed := slices.ContainsFunc(strings.Split(veths, "\n"), func(line string) bool {
			return strings.Contains(line, ",LOWER_UP") && !strings.Contains(line, " state UP ")
		}) || slices.ContainsFunc(strings.Split(taps, "\n"), func(line string) bool { // one that a guest has just taken
			return strings.Contains(line, ",LOWER_UP") && strings.Contains(line, " state DOWN ")
		})
		if !strings.Contains(addresses, "tentative") && hasLocalRoutes(addresses, routes) && !(down && carrier) && !unnoticed {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatal("the namespace does not settle:\n", addresses, routes, link, veths)
		}
		time.Sleep(20 * time.Millisecond) // no notification tells the end of all of these
	}
}

// hasLocalRoutes tells whether each of the addresses ("3: eth0 inet6 fd00::7/64 …", or with a peer) has its local route.
func hasLocalRoutes(addresses, routes string) bool {
	for line := range strings.Lines(addresses) {
		f := strings.Fields(line)
		address, _, _ := strings.Cut(f[3], "/")
		if !strings.Contains(routes, fmt.Sprintf("local %s dev %s ", address, f[1])) {
			return false
		}
	}
	return true
}
