// Package look tests the commands that look and change nothing, status and doctor, as they run in a pod: the built program,
// in real namespaces that are broken by the tools that people break them with.
package look

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// patience is what a wait is bounded by, as status takes it.
const patience = "40s"

// TestMain lets all tests run at once: most of their time they wait for the kernel to settle.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "100"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// making bounds how many pods are made at once: all of them take one lock in the kernel.
var making = make(chan struct{}, 6)

// network gives a pod one address, always the same MAC, and a gateway.
var network = pod.Network{Scripts: pod.Scripts{
	Address: netip.MustParseAddr("10.244.1.5"),
	Node:    "ip address add 10.244.1.1/24 dev $LINK\nip link set $LINK up",
	Pod:     "ip address add $ADDRESS/24 brd + dev eth0\nip link set eth0 up\nip route add default via 10.244.1.1",
}}

// site is a pod whose interface a guest may get.
type site struct {
	t      *testing.T
	podnic string
	node   *pod.Node
	pod    *pod.Pod
	guest  *pod.Namespace
	state  string // the state directory
	server *exec.Cmd
	unplug func() // takes the guest off its tap
}

func newSite(t *testing.T, network pod.Network) *site {
	t.Helper()
	podtest.NeedRoot(t)
	making <- struct{}{}
	defer func() { <-making }()
	s := &site{t: t, podnic: podtest.Program(t), node: podtest.Node(t), state: filepath.Join(t.TempDir(), "state")}
	s.pod = podtest.Pod(t, s.node, pod.Spec{Name: "vm", Hostname: "vm-0", Network: network})
	return s
}

// in runs a shell script in a namespace.
func (s *site) in(n *pod.Namespace, script string) string {
	s.t.Helper()
	out, err := n.Output(s.t.Context(), "sh", "-e", "-c", script)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// run runs a command of podnic in the pod.
func (s *site) run(args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	return s.output(s.pod.Command(s.t.Context(), s.podnic, append(args, "--state-dir", s.state)...))
}

func (s *site) output(cmd *exec.Cmd) (stdout, stderr string, status int) {
	s.t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that has to succeed.
func (s *site) must(args ...string) string {
	s.t.Helper()
	out, errs, status := s.run(args...)
	if status != 0 {
		s.t.Fatalf("podnic %s: status %d: %s", args[0], status, errs)
	}
	return out
}

// serve wires the pod, serves it, and gives the guest its lease.
func (s *site) serve() {
	s.t.Helper()
	s.must("prepare")
	s.startServer()
	s.plug()
	s.in(s.guest, "busybox udhcpc -f -q -n -t 40 -T 1 -i eth0 -s /bin/true 2>/dev/null")
	s.must("status", "--wait", "ready", "--timeout", patience)
}

func (s *site) startServer() {
	s.t.Helper()
	s.server = s.pod.Command(context.Background(), s.podnic, "serve", "--state-dir", s.state)
	if err := s.server.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.killServer)
}

func (s *site) killServer() {
	if s.server.ProcessState == nil {
		_ = s.server.Process.Signal(syscall.SIGKILL)
		_ = s.server.Wait() // its status says what was done to it
	}
}

// plug puts a guest on the tap.
func (s *site) plug() {
	s.t.Helper()
	var err error
	if s.guest, err = s.node.AddNamespace("guest"); err != nil {
		s.t.Fatal(err)
	}
	open := func(in *pod.Namespace, name string) (file *os.File) {
		if err := in.Do(func() (err error) { file, err = tap.Open(name); return err }); err != nil {
			s.t.Fatal(err)
		}
		return file
	}
	pods, guests := open(s.pod.Namespace, "tap0"), open(s.guest, "eth0")
	s.in(s.guest, "ip link set eth0 address 0a:58:0a:f4:01:05 up")
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		tap.Pump(pods, guests)
	}()
	s.unplug = sync.OnceFunc(func() {
		pods.Close()
		guests.Close()
		<-pumped
	})
	s.t.Cleanup(s.unplug)
}
