// Package serve tests the DHCP server as it runs in a pod: the built program, in packet mode and, as an ordinary user,
// in UDP mode, with real DHCP clients behind the tap and with guests that mean harm.
package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// patience bounds each wait for something that takes a moment on a quiet machine; a renewal comes after half a lease.
const patience = 40 * time.Second

// modes are the kinds of sockets.
var modes = []string{"packet", "udp"}

// chained is UDP mode in a pod that podnic itself wires as a CNI plugin, from the node. There is no record in the pod.
const chained = "chained"

// nobody is the user that the server runs as in UDP mode, with no capability at all.
const nobody = 65534

// serverLinkLocal is the server identifier where the gateway cannot be it.
const serverLinkLocal = "169.254.75.10"

// site is a pod whose interface a guest gets.
type site struct {
	t      *testing.T
	mode   string
	node   *pod.Node
	pod    *pod.Pod
	podnic string
	state  string // the state directory
	mac    string
	wire   *sniffer // what leaves the pod
}

// shape is a pod network and what the guest must be told of it.
type shape struct {
	name    string
	setUp   string // in the node's namespace, before there are pods
	network pod.Network
	bits    int
	gateway string // empty: no default route
	onLink  bool   // the gateway is outside the guest's subnet
}

const mtu = 1450

// shapes are the three that differ in how the guest reaches the server.
var shapes = []shape{
	{name: "bridge", network: pod.Bridge.WithMTU(mtu), bits: 24, gateway: "10.244.2.1"},
	{
		name:  "no default route",
		setUp: "ip link add br0 type bridge\nip link set br0 up",
		network: pod.Network{MTU: mtu, Scripts: pod.Scripts{
			Address: netip.MustParseAddr("10.244.1.5"),
			Node:    "ip link set $LINK master br0 up",
			Pod:     "ip address add $ADDRESS/24 brd + dev eth0\nip link set eth0 up",
		}},
		bits: 24,
	},
	{
		name: "host address",
		setUp: `ip link add uplink type bridge
ip address add 198.51.100.1/24 dev uplink
ip link set uplink up
ip route add default via 198.51.100.254`, // what proxy ARP answers for must be elsewhere
		network: pod.Network{MTU: mtu, Scripts: pod.Scripts{
			Address: netip.MustParseAddr("10.244.1.5"),
			Node: `ip link set $LINK up
ip route add $ADDRESS dev $LINK
echo 1 >/proc/sys/net/ipv4/conf/$LINK/proxy_arp
echo 0 >/proc/sys/net/ipv4/neigh/$LINK/proxy_delay`,
			Pod: `ip address add $ADDRESS/32 dev eth0
ip link set eth0 up
ip route add 169.254.1.1 dev eth0 scope link
ip route add default via 169.254.1.1`,
		}},
		bits: 32, gateway: "169.254.1.1", onLink: true,
	},
}

// settings are what the CNI plugin makes for a server without capabilities.
var settings = map[string]string{
	"net.ipv4.ip_unprivileged_port_start": "0",
	"net.ipv4.conf.all.accept_local":      "1",
}

// TestMain lets all tests run at once: most of their time they wait for a client to renew its lease.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "100"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// making bounds how many pods are made at once: all of them take one lock in the kernel, and duplicate address
// detection waits for it too.
var making = make(chan struct{}, 6)

// newSite makes the pod and wires it.
func newSite(t *testing.T, mode string, shape shape) *site {
	t.Helper()
	podtest.NeedRoot(t)
	making <- struct{}{}
	defer func() { <-making }()
	plugin := t.TempDir() // the CNI plugin's, which it needs until the node is gone
	s := &site{t: t, mode: mode, node: podtest.Node(t), podnic: podtest.Program(t)}
	s.in(s.node.Namespace, shape.setUp)
	if mode == chained {
		s.node.AddPlugins(filepath.Dir(s.podnic))
		shape.network = shape.network.Chain(map[string]any{
			"type": "podnic", "binding": "bridge", "owner": 107,
			"stateDir": filepath.Join(plugin, "state"), "logFile": filepath.Join(plugin, "log"),
		})
	}
	s.pod = podtest.Pod(t, s.node, pod.Spec{Name: "vm", Hostname: "vm-0", Network: shape.network})
	s.mac = strings.TrimSpace(s.in(s.pod.Namespace, "cat /sys/class/net/eth0/address"))
	if mode == "udp" {
		for name, value := range settings {
			s.set(name, value)
		}
	}
	s.state = filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(s.state, 0o755); err != nil {
		t.Fatal(err)
	}
	s.wire = sniff(t, s.node.Namespace, s.pod.HostLink)
	if mode != chained {
		s.must("prepare", "--socket", mode)
	}
	if mode != "packet" {
		if err := os.Chown(s.state, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// seen is the state directory as the server sees it (testdata/ordinary).
func (s *site) seen() string {
	if s.mode == "udp" {
		return "/mnt/state"
	}
	return s.state
}

// in runs a shell script in a namespace, whose links it sees in /sys.
func (s *site) in(n *pod.Namespace, script string) string {
	s.t.Helper()
	out, err := n.Output(s.t.Context(), "unshare", "--mount", "sh", "-e", "-c", "mount -t sysfs sysfs /sys\n"+script)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) set(name, value string) {
	s.t.Helper()
	s.in(s.pod.Namespace, "echo "+value+" >/proc/sys/"+strings.ReplaceAll(name, ".", "/"))
}

// must runs a command of podnic that has to succeed, as root.
func (s *site) must(args ...string) string {
	s.t.Helper()
	cmd := s.pod.Command(s.t.Context(), s.podnic, append(args, "--state-dir", s.state)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("podnic %s: %v: %s", args[0], err, errs.String())
	}
	return string(out)
}

// report is the part of the status that the tests read.
type report struct {
	Phase      string
	Interfaces []struct {
		Lease struct {
			State          string
			Address        netip.Addr
			Since, Expires time.Time
		}
		Warnings []string
	}
}

func (s *site) status(args ...string) report {
	s.t.Helper()
	out := s.must(append([]string{"status", "-o", "json"}, args...)...)
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Interfaces) != 1 {
		s.t.Fatalf("%v: %s", err, out)
	}
	return r
}

// ready waits until the state says that the guest has its address.
func (s *site) ready() report {
	s.t.Helper()
	return s.status("--wait", "ready", "--timeout", patience.String())
}

// renewed waits until the state says that the lease lasts longer than until then. Only the program knows when it next
// writes its state.
func (s *site) renewed(expires time.Time) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !s.status().Interfaces[0].Lease.Expires.After(expires); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the lease that expires at %v is not renewed", expires)
		}
	}
}

// warned waits until the status has a warning with a text.
func (s *site) warned(text string) {
	s.t.Helper()
	s.until(fmt.Sprintf("a warning says %q", text), func(r report) bool {
		return strings.Contains(strings.Join(r.Interfaces[0].Warnings, "\n"), text)
	})
}

// until waits until the status is as it should be. Only the program knows when it next writes its state.
func (s *site) until(what string, as func(report) bool) {
	s.t.Helper()
	var r report
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if r = s.status(); as(r) {
			return
		}
	}
	s.t.Errorf("it does not come to that %s: the status is %+v", what, r)
}

// serve starts the server and waits until it hears the guest.
func (s *site) serve(args ...string) *daemon {
	s.t.Helper()
	d := s.start(args...)
	d.says(`"msg":"serving"`)
	return d
}

// start starts the server. In UDP mode it is an ordinary user's, who may not read the record.
func (s *site) start(args ...string) *daemon {
	s.t.Helper()
	args = append([]string{"serve", "--log-format", "json"}, args...)
	if s.mode == "packet" {
		args = append(args, "--state-dir", s.state)
		return start(s.t, "podnic serve", s.pod.Command(context.Background(), s.podnic, args...))
	}
	return start(s.t, "podnic serve", s.ordinary(context.Background(), args...))
}

// ordinary is a command of podnic that an ordinary user runs.
func (s *site) ordinary(ctx context.Context, args ...string) *exec.Cmd {
	s.t.Helper()
	script, err := filepath.Abs("testdata/ordinary")
	if err != nil {
		s.t.Fatal(err)
	}
	return s.pod.Command(ctx, script, append([]string{fmt.Sprint(nobody), s.podnic, s.state}, args...)...)
}

// ordinaryStatus is what that user is told.
func (s *site) ordinaryStatus() (r report) {
	s.t.Helper()
	out, err := s.ordinary(s.t.Context(), "status", "-o", "json").Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil || len(r.Interfaces) != 1 {
		s.t.Fatalf("%v: %s", err, out)
	}
	return r
}

// daemon is a program that runs until the test ends it.
type daemon struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	lines chan string
	done  chan struct{}
	mu    sync.Mutex
	said  []string
	// drained is closed when all that the program and its children said was read.
	drained chan struct{}
}

// start starts a program. What runs still when the test ends is killed.
func start(t *testing.T, name string, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{t: t, name: name, cmd: cmd, lines: make(chan string, 1000), done: make(chan struct{}), drained: make(chan struct{})}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := errors.Join(cmd.Start(), write.Close()); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the status is in cmd
		close(d.done)
	}()
	go func() {
		defer close(d.drained)
		for in := bufio.NewScanner(read); in.Scan(); {
			d.mu.Lock()
			d.said = append(d.said, in.Text())
			d.mu.Unlock()
			select {
			case d.lines <- in.Text():
			default: // nobody waits for a line any more
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-d.done
		// A child of the program may have the pipe still; it goes with its namespace.
		read.Close()
		<-d.drained
		if t.Failed() {
			t.Logf("%s said:\n%.20000s", name, strings.Join(d.text(), "\n"))
		}
	})
	return d
}

// output is all that a program without children said, once it has ended.
func (d *daemon) output() []string {
	<-d.drained
	return d.text()
}

func (d *daemon) text() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.said...)
}

// says waits for a line that contains a text.
func (d *daemon) says(text string) {
	d.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line := <-d.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-timeout:
			d.t.Fatalf("%s does not say %q", d.name, text)
		}
	}
}

// end sends a signal and waits for the program's end.
func (d *daemon) end(signal syscall.Signal) int {
	d.t.Helper()
	d.signal(signal)
	select {
	case <-d.done:
	case <-time.After(patience):
		d.t.Fatalf("%s does not end", d.name)
	}
	return d.cmd.ProcessState.ExitCode()
}

func (d *daemon) signal(signal syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
}
