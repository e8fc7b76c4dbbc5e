package network

import (
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
}

// newTestPod makes the two namespaces and eth0, and runs the given ip(8) commands in the pod's (or, after "node:", in the
// node's).
func newTestPod(t testing.TB, commands ...string) *testPod {
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
	p.ip("link set lo up")
	// Pod networks give their pods a fixed MAC each; a fixed one keeps the golden texts the same.
	p.ip(fmt.Sprintf("link add eth0 address 0a:58:0a:f4:01:05 type veth peer name host0 address 0a:58:0a:f4:01:01 netns /proc/%d/fd/%d", os.Getpid(), p.node.Fd()))
	for _, c := range commands {
		p.ip(c)
	}
	return p
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

func (p *testPod) request() Request {
	return Request{
		Namespace:   fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.pod.Fd()),
		StateDir:    p.dir,
		LockTimeout: 5 * time.Second,
	}
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
	for _, c := range []string{
		"-d -o link", "-o addr", "route show table all", "-6 route show table all", "rule", "-6 rule",
		"neigh show nud permanent", "neigh show proxy", "-6 neigh show proxy",
	} {
		fmt.Fprintf(&b, "# ip %s\n", c)
		lines := slices.Collect(strings.Lines(p.ip(c)))
		if strings.Contains(c, "neigh") {
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
// carrier (net/core/link_watch.c).
func (p *testPod) settle() {
	p.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		addresses, routes, link := p.ip("-6 -o addr show up"), p.ip("-6 route show table all")+p.ip("route show table all"), p.ip("link show eth0")
		down := strings.Contains(routes, "linkdown") || strings.Contains(link, "NO-CARRIER")
		carrier := strings.Contains(p.ip("link show type veth"), ",LOWER_UP")
		if !strings.Contains(addresses, "tentative") && hasLocalRoutes(addresses, routes) && !(down && carrier) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatal("the namespace does not settle:\n", addresses, routes, link)
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
