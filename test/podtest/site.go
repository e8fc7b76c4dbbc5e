package podtest

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/shapes/tap"
)

// Site is a pod whose interface a guest gets, and podnic in it. Packages embed it and add what is their own.
type Site struct {
	T      *testing.T
	Node   *pod.Node
	Pod    *pod.Pod
	Podnic string
	// MAC is that of the pod's interface before anything changes it.
	MAC net.HardwareAddr
	// StateDir is the state directory of podnic's commands. Nothing has made it.
	StateDir string
	// Prepare makes a command of podnic; nil is root in the pod, who sees the machine's files.
	Prepare func(ctx context.Context, args []string) *exec.Cmd
	// Environ is added to what podnic's commands have in their environment, such as [WithoutForward].
	Environ []string
	// Before is what AsBefore compares with, once it is remembered.
	Before pod.State
}

// NewSite makes the pod on a node.
func NewSite(t *testing.T, node *pod.Node, network pod.Network) *Site {
	t.Helper()
	s := &Site{T: t, Node: node, Podnic: Program(t), StateDir: filepath.Join(t.TempDir(), "state")}
	s.Pod = Pod(t, node, pod.Spec{Name: "vm", Hostname: "vm-0", Network: network})
	s.MAC = Link(t, s.Pod.Namespace, pod.Interface).HardwareAddr
	return s
}

// For is the same site for a subtest.
func (s *Site) For(t *testing.T) *Site {
	c := *s
	c.T = t
	return &c
}

// Link is a link of a namespace.
func Link(t testing.TB, n *pod.Namespace, name string) (link *net.Interface) {
	t.Helper()
	err := n.Do(func() (err error) {
		link, err = net.InterfaceByName(name)
		return err
	})
	if err != nil {
		t.Fatalf("%s in %s: %v", name, n.Name, err)
	}
	return link
}

// In runs a shell script in a namespace, whose links it sees in /sys, and returns what it prints.
func In(t testing.TB, n *pod.Namespace, script string) string {
	t.Helper()
	out, err := n.Output(t.Context(), "unshare", "--mount", "sh", "-e", "-c", "mount -t sysfs sysfs /sys\n"+script)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// In runs a shell script in a namespace.
func (s *Site) In(n *pod.Namespace, script string) string {
	s.T.Helper()
	return In(s.T, n, script)
}

// Remember notes the state of the pod's namespace that AsBefore compares with.
func (s *Site) Remember() {
	s.T.Helper()
	s.Before = State(s.T, s.Pod.Namespace)
}

// AsBefore fails the test unless the pod's namespace is what it was.
func (s *Site) AsBefore() {
	s.T.Helper()
	if diff := s.Before.Diff(State(s.T, s.Pod.Namespace)); diff != "" {
		s.T.Errorf("the namespace is not as before:\n%s", diff)
	}
}

// WithoutForward has podnic take the kernel for one whose nftables cannot forward, so that tc redirects.
const WithoutForward = "PODNIC_TEST_WITHOUT=fwd"

// ByTC is what tests call the binding redirect where tc does it.
const ByTC = "redirect by tc"

// Bind is the flag of a binding as tests call it. That by tc takes an environment, too.
func (s *Site) Bind(binding string) string {
	if binding == ByTC {
		s.Environ = append(s.Environ, WithoutForward)
		binding = "redirect"
	}
	return "--binding=" + binding
}

// Command makes a command of podnic that is killed with the context. The arguments may name another state directory.
func (s *Site) Command(ctx context.Context, args ...string) *exec.Cmd {
	s.T.Helper()
	cmd := s.command(ctx, args)
	if len(s.Environ) > 0 {
		cmd.Env = append(cmd.Environ(), s.Environ...)
	}
	return cmd
}

func (s *Site) command(ctx context.Context, args []string) *exec.Cmd {
	if s.Prepare != nil {
		return s.Prepare(ctx, args)
	}
	if !slices.Contains(args, "--state-dir") {
		at := slices.Index(args, "--") // what follows is not podnic's
		if at < 0 {
			at = len(args)
		}
		args = slices.Insert(slices.Clone(args), at, "--state-dir", s.StateDir)
	}
	return s.Pod.Command(ctx, s.Podnic, args...)
}

// Run runs a command of podnic.
func (s *Site) Run(args ...string) (stdout, stderr string, status int) {
	s.T.Helper()
	return Run(s.T, s.Command(s.T.Context(), args...))
}

// Must runs a command of podnic that has to succeed.
func (s *Site) Must(args ...string) string {
	s.T.Helper()
	return Must(s.T, s.Command(s.T.Context(), args...))
}

// Start starts a command of podnic.
func (s *Site) Start(args ...string) *Process {
	s.T.Helper()
	return Start(s.T, "podnic "+args[0], s.Command(context.Background(), args...))
}

// Serve starts the server and waits until it hears the guest.
func (s *Site) Serve(args ...string) *Process {
	s.T.Helper()
	p := s.Start(append([]string{"serve", "--log-format", "json"}, args...)...)
	p.Says(`"msg":"serving"`)
	return p
}

// Status is the status now.
func (s *Site) Status(args ...string) Report {
	s.T.Helper()
	return ReadReport(s.T, s.Must(append([]string{"status", "-o", "json"}, args...)...))
}

// Ready waits until the guest has its address.
func (s *Site) Ready() Report {
	s.T.Helper()
	return s.Status("--wait", "ready", "--timeout", Patience.String())
}

// Guest makes a namespace that plays the guest, and has nothing yet.
func (s *Site) Guest() *pod.Namespace {
	s.T.Helper()
	guest, err := s.Node.AddNamespace("guest")
	if err != nil {
		s.T.Fatal(err)
	}
	return guest
}

// Taps opens the pod's tap and the guest's card, which has the pod's MAC and is up.
func (s *Site) Taps(guest *pod.Namespace) (pods, card *HeldTap) {
	s.T.Helper()
	pods, card = HoldTap(s.T, s.Pod.Namespace, "tap0"), HoldTap(s.T, guest, pod.Interface)
	s.In(guest, "ip link set "+pod.Interface+" address "+s.MAC.String()+" up")
	return pods, card
}

// Plug puts a guest on the tap until it is unplugged or the test ends. Frames are carried as an emulator carries them.
func (s *Site) Plug(guest *pod.Namespace) (unplug func()) {
	s.T.Helper()
	pods, card := s.Taps(guest)
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		tap.Pump(pods, card)
	}()
	unplug = sync.OnceFunc(func() {
		pods.Close()
		card.Close()
		<-pumped
	})
	s.T.Cleanup(unplug)
	return unplug
}
