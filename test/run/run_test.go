// Package run tests `podnic run` as its users run it: the built program, in pods made by real CNI plugins, with real
// guests under a real libvirtd.
package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
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

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// patience bounds each wait for something that takes seconds on a quiet machine.
const patience = 90 * time.Second

// site is a pod with libvirtd in it and a second pod beside it.
type site struct {
	t        *testing.T
	podnic   string
	pod      *pod.Pod
	other    *pod.Pod
	libvirtd *libvirtd.Daemon
	image    *guest.Image
	stateDir string
	before   pod.State
}

func newSite(t *testing.T, network pod.Network) *site {
	t.Helper()
	podtest.NeedRoot(t)
	s := &site{t: t, podnic: podtest.Program(t)}
	node := podtest.Node(t)
	s.pod = podtest.Pod(t, node, pod.Spec{Name: "vm", Hostname: "vm-0", Network: network})
	s.other = podtest.Pod(t, node, pod.Spec{Name: "other", Network: network})
	s.libvirtd = podtest.Libvirtd(t, s.pod)
	s.image = podtest.Guest(t)
	s.stateDir = filepath.Join(t.TempDir(), "state")
	s.before = podtest.State(t, s.pod.Namespace)
	return s
}

// asBefore fails the test unless the pod's namespace is what it was.
func (s *site) asBefore() {
	s.t.Helper()
	if diff := s.before.Diff(podtest.State(s.t, s.pod.Namespace)); diff != "" {
		s.t.Errorf("the namespace is not as before:\n%s", diff)
	}
}

// domain writes a domain's XML and returns its file and its console.
func (s *site) domain(arguments ...string) (file, console string) {
	s.t.Helper()
	dir := s.t.TempDir()
	file, console = filepath.Join(dir, "domain.xml"), filepath.Join(dir, "console")
	xml, err := guest.Domain{Name: "vm", Image: s.image, KVM: s.libvirtd.KVM, Console: console, Arguments: arguments}.XML()
	if err == nil {
		err = os.WriteFile(file, []byte(xml), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return file, console
}

// agent is a running `podnic run`.
type agent struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	log  bytes.Buffer
}

func (a *agent) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.Write(b)
}

func (a *agent) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.String()
}

// run starts `podnic run` in the pod. What runs still when the test ends is killed.
func (s *site) run(args ...string) *agent {
	s.t.Helper()
	a := &agent{t: s.t, done: make(chan struct{})}
	args = append([]string{"run", "--connect", s.libvirtd.URI, "--state-dir", s.stateDir}, args...)
	a.cmd = s.pod.Command(context.Background(), s.podnic, args...)
	a.start()
	return a
}

func (a *agent) start() {
	a.t.Helper()
	a.cmd.Stderr = a
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	go func() {
		_ = a.cmd.Wait()
		close(a.done)
	}()
	a.t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.done
		if a.t.Failed() {
			a.t.Logf("podnic run said:\n%s", a.text())
		}
	})
}

func (a *agent) signal(sig syscall.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil {
		a.t.Fatal(err)
	}
}

// exit waits for the program's end and checks its status.
func (a *agent) exit(status int) {
	a.t.Helper()
	select {
	case <-a.done:
	case <-time.After(patience):
		a.t.Fatal("podnic run does not end")
	}
	if got := a.cmd.ProcessState.ExitCode(); got != status {
		a.t.Errorf("podnic run: exit status %d, want %d", got, status)
	}
}

// podnicIn runs another podnic command in the pod.
func (s *site) command(args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	cmd := s.pod.Command(s.t.Context(), s.podnic, append(args, "--state-dir", s.stateDir)...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// report is the part of status that the tests read.
type report struct {
	Phase      string
	Interfaces []struct {
		Warnings []string
		Lease    struct {
			State   string
			Address netip.Addr
		}
	}
}

// ready waits until the guest has its address.
func (s *site) ready() report {
	s.t.Helper()
	out, errs, status := s.command("status", "-o", "json", "--wait", "ready", "--timeout", patience.String())
	if status != 0 {
		s.t.Fatalf("status --wait ready: %d: %s", status, errs)
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// hello asks the guest's web server, on the pod's address, from the other pod.
func (s *site) hello() error {
	_, err := s.client().Hello(s.t.Context())
	return err
}

func (s *site) client() guest.Client {
	return guest.Client{Address: s.pod.Address.Addr(), Dial: s.other.DialContext}
}

// scrape asks for the metrics at a unix socket.
func scrape(t *testing.T, path string) string {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Write([]byte("GET /metrics HTTP/1.1\r\nHost: podnic\r\n\r\n"))
	text, readErr := io.ReadAll(conn)
	if err := errors.Join(err, readErr); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func wait(t *testing.T, console *guest.Console, prefix string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	line, err := console.Wait(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// execHere runs a program in the namespace that the test itself is in.
func execHere(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err
}
