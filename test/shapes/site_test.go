// Package shapes tests podnic in every kind of pod network: the built program gives a pod's identity to a real DHCP
// client behind the tap, traffic passes as it did for the pod, and restore brings all of it back.
package shapes

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
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
	"github.com/podnic/podnic/test/shapes/tap"
)

// patience bounds each wait for something that takes a second on a quiet machine.
const patience = 30 * time.Second

// site is a pod whose interface a guest gets, the guest, and a second pod beside them.
type site struct {
	t     *testing.T
	node  *pod.Node
	pod   *pod.Pod
	other *pod.Pod
	guest *pod.Namespace

	podnic   string
	stateDir string
	// as has the privileges of each command of podnic; nil is root.
	as func(verb string) *privileges

	before pod.State
	wire   *sniffer // what leaves the pod
	card   *sniffer // the guest's side
	mac    net.HardwareAddr
	pumped chan struct{}
	unplug func()
	// guestEtc is the directory that the guest has as /etc.
	guestEtc string
}

// newSite makes the pods and runs the set-up script, if there is one, in the node's namespace before that.
func newSite(t *testing.T, setUp string, network func(number int) pod.Network) *site {
	t.Helper()
	podtest.NeedRoot(t)
	s := &site{t: t, podnic: podtest.Program(t), node: podtest.Node(t), as: func(string) *privileges { return nil }}
	s.in(s.node.Namespace, setUp)
	s.pod = podtest.Pod(t, s.node, pod.Spec{Name: "vm", Hostname: "vm-0", Network: network(5)})
	s.other = podtest.Pod(t, s.node, pod.Spec{Name: "other", Network: network(6)})
	var err error
	if s.guest, err = s.node.AddNamespace("guest"); err != nil {
		t.Fatal(err)
	}
	s.stateDir = filepath.Join(t.TempDir(), "state")
	s.mac = macOf(t, s.pod.Namespace, pod.Interface)
	s.before = podtest.State(t, s.pod.Namespace)
	s.wire = sniff(t, s.node.Namespace, s.pod.HostLink)
	return s
}

func macOf(t *testing.T, n *pod.Namespace, name string) net.HardwareAddr {
	t.Helper()
	var mac net.HardwareAddr
	err := n.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err == nil {
			mac = link.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return mac
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
func (s *site) run(verb string, args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	cmd := s.command(s.t.Context(), verb, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (s *site) command(ctx context.Context, verb string, args ...string) *exec.Cmd {
	if p := s.as(verb); p != nil {
		args = append([]string{p.uid, p.capabilities, s.podnic, s.stateDir, verb}, args...)
		return s.pod.Command(ctx, testdata(s.t, "contained"), args...)
	}
	return s.pod.Command(ctx, s.podnic, append([]string{verb, "--state-dir", s.stateDir}, args...)...)
}

// must runs a command that has to succeed.
func (s *site) must(verb string, args ...string) string {
	s.t.Helper()
	out, errs, status := s.run(verb, args...)
	if status != 0 {
		s.t.Fatalf("podnic %s: status %d: %s", verb, status, errs)
	}
	return out
}

// report is the part of prepare's and status's JSON that the tests read.
type report struct {
	Phase      string
	Interfaces []struct {
		MAC       string
		Addresses []netip.Prefix
		Offer     *struct {
			Address netip.Prefix
			ARP     []struct {
				Destination netip.Prefix
				MAC         string
			}
		}
		Lease struct {
			State   string
			Address netip.Addr
		}
		Warnings []string
	}
}

func (s *site) report(text string) report {
	s.t.Helper()
	var r report
	if err := json.Unmarshal([]byte(text), &r); err != nil || len(r.Interfaces) != 1 {
		s.t.Fatalf("%v: %s", err, text)
	}
	return r
}

// ready waits until the guest has its address.
func (s *site) ready() report {
	s.t.Helper()
	return s.report(s.must("status", "-o", "json", "--wait", "ready", "--timeout", patience.String()))
}

// daemon is a program that runs until the test ends it.
type daemon struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	lines chan string
	done  chan struct{}
	said  strings.Builder
	mu    sync.Mutex
}

// start starts a program. What runs still when the test ends is killed.
func start(t *testing.T, name string, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{t: t, name: name, cmd: cmd, lines: make(chan string, 1000), done: make(chan struct{})}
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
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for in := bufio.NewScanner(read); in.Scan(); {
			d.mu.Lock()
			fmt.Fprintln(&d.said, in.Text())
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
		<-drained
		if t.Failed() {
			t.Logf("%s said:\n%s", name, d.text())
		}
	})
	return d
}

func (d *daemon) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.String()
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
		case <-d.done:
			if !strings.Contains(d.text(), text) {
				d.t.Fatalf("%s ended and did not say %q", d.name, text)
			}
			return
		case <-timeout:
			d.t.Fatalf("%s does not say %q", d.name, text)
		}
	}
}

// end asks the program to end and returns its exit status.
func (d *daemon) end() int {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatalf("%s: %v", d.name, err)
	}
	select {
	case <-d.done:
	case <-time.After(patience):
		d.t.Fatalf("%s does not end", d.name)
	}
	return d.cmd.ProcessState.ExitCode()
}

// serve starts the server and waits until it hears the guest.
func (s *site) serve(args ...string) *daemon {
	s.t.Helper()
	d := start(s.t, "podnic serve", s.command(context.Background(), "serve", append(args, "--log-format", "json")...))
	d.says(`"msg":"serving"`)
	return d
}

// plug puts the guest on the tap: its eth0 has the pod's MAC, and frames are carried as an emulator carries them.
func (s *site) plug() {
	s.t.Helper()
	var pods, guests *os.File
	open := func(in *pod.Namespace, name string, file **os.File) {
		s.t.Helper()
		err := in.Do(func() (err error) {
			*file, err = tap.Open(name)
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { (*file).Close() })
	}
	open(s.pod.Namespace, "tap0", &pods)
	open(s.guest, "eth0", &guests)
	s.in(s.guest, "ip link set eth0 address "+s.mac.String()+" up")
	s.card = sniff(s.t, s.guest, "eth0")
	s.pumped = make(chan struct{})
	go func() {
		defer close(s.pumped)
		tap.Pump(pods, guests)
	}()
	s.unplug = sync.OnceFunc(func() {
		pods.Close()
		guests.Close()
		<-s.pumped
	})
	s.t.Cleanup(s.unplug)
}

// restored takes the interface back and compares the namespace with what it was.
func (s *site) restored() {
	s.t.Helper()
	s.unplug()
	s.must("restore")
	if diff := s.before.Diff(podtest.State(s.t, s.pod.Namespace)); diff != "" {
		s.t.Errorf("the namespace is not as before:\n%s", diff)
	}
	if left := podtest.Files(s.t, s.stateDir); len(left) > 0 {
		s.t.Errorf("left in the state directory: %v", left)
	}
}
