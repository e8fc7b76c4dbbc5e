// Package hook tests `podnic hook` as libvirt calls it: the built program, installed as the hook of a real libvirtd in a
// pod, with real guests.
package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/internal/process"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// patience bounds each wait for something that takes seconds on a quiet machine.
const patience = 90 * time.Second

// metadata marks a domain as podnic's.
const metadata = `<metadata><podnic:pod xmlns:podnic="urn:podnic:domain:1" interface="eth0"/></metadata>`

// place is a pod, and podnic in it.
type place struct {
	t      *testing.T
	podnic string
	pod    *pod.Pod
	mac    string // the pod's
	before pod.State
}

func newPlace(t *testing.T, node *pod.Node) place {
	t.Helper()
	p := place{t: t, podnic: podtest.Program(t)}
	p.pod = podtest.Pod(t, node, pod.Spec{Name: "vm", Hostname: "vm-0", Network: pod.PTP})
	p.before = podtest.State(t, p.pod.Namespace)
	for _, i := range p.pod.Result.Interfaces {
		if i.Sandbox != "" {
			p.mac = i.Mac
		}
	}
	return p
}

// asBefore fails the test unless the pod's namespace is what it was, and nobody serves in it.
func (p *place) asBefore() {
	p.t.Helper()
	if diff := p.before.Diff(podtest.State(p.t, p.pod.Namespace)); diff != "" {
		p.t.Errorf("the namespace is not as before:\n%s", diff)
	}
	if left := processes(p.t, p.pod); len(left) > 0 {
		p.t.Errorf("processes of podnic are left: %v", left)
	}
}

// server is the process that serves.
func (p *place) server() int {
	p.t.Helper()
	ids := processes(p.t, p.pod)
	if len(ids) != 1 {
		p.t.Fatalf("podnic's processes are %v, want one, the server", ids)
	}
	return ids[0]
}

// processes are those of podnic in a pod.
func processes(t *testing.T, p *pod.Pod) (ids []int) {
	t.Helper()
	inside, err := process.Inside(process.Network, p.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range inside {
		if i.Name == "podnic" {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// site is a place with libvirtd in the pod, and a second pod beside it.
type site struct {
	place
	other    *pod.Pod
	libvirtd *libvirtd.Daemon
	image    *guest.Image
}

// newSite has the daemon started by start.
func newSite(t *testing.T, start func(testing.TB, *pod.Pod) *libvirtd.Daemon) *site {
	t.Helper()
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	s := &site{place: newPlace(t, node)}
	s.other = podtest.Pod(t, node, pod.Spec{Name: "other", Network: pod.PTP})
	s.image = podtest.Guest(t)
	s.libvirtd = start(t, s.pod)
	return s
}

// run runs a program beside the daemon and returns what it said.
func (s *site) run(name string, args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	return output(s.t, s.libvirtd.Command(s.t.Context(), name, args...))
}

func output(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must is run for what has to succeed.
func (s *site) must(name string, args ...string) string {
	s.t.Helper()
	stdout, stderr, status := s.run(name, args...)
	if status != 0 {
		s.t.Fatalf("%s %s: exit status %d: %s%s", name, strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

func (s *site) virsh(args ...string) string {
	s.t.Helper()
	out, err := s.libvirtd.Virsh(s.t.Context(), args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) restart() {
	s.t.Helper()
	if err := s.libvirtd.Restart(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// define defines a domain called vm, podnic's, and follows its console. change edits its XML.
func (s *site) define(change ...string) *guest.Console {
	s.t.Helper()
	dir := s.t.TempDir()
	path := filepath.Join(dir, "console")
	xml, err := guest.Domain{
		Name: "vm", Image: s.image, KVM: s.libvirtd.KVM, Console: path, Metadata: metadata, Interface: nic(s.mac),
	}.XML()
	if err != nil {
		s.t.Fatal(err)
	}
	// With a UUID of its own it takes the place of one that was defined before.
	xml = strings.Replace(xml, "</name>", "</name><uuid>11111111-2222-3333-4444-555555555555</uuid>", 1)
	s.defineXML(strings.NewReplacer(change...).Replace(xml))
	s.t.Cleanup(func() { _, _ = s.libvirtd.Virsh(context.Background(), "destroy", "vm") })
	return podtest.Console(s.t, path)
}

func (s *site) defineXML(xml string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.virsh("define", file)
}

// nic is the interface of a domain that podnic's hook takes.
func nic(mac string) string {
	return fmt.Sprintf("<interface type='ethernet'><mac address='%s'/><target dev='tap0' managed='no'/><model type='virtio'/></interface>", mac)
}

// ready waits until the guest has its address.
func (s *site) ready() {
	s.t.Helper()
	s.must(s.podnic, "status", "--wait", "ready", "--timeout", patience.String())
}

// hello asks the guest's web server, on the pod's address, from the other pod.
func (s *site) hello() {
	s.t.Helper()
	if _, err := s.client().Hello(s.t.Context()); err != nil {
		s.t.Error(err)
	}
}

func (s *site) client() guest.Client {
	return guest.Client{Address: s.pod.Address.Addr(), Dial: s.other.DialContext}
}

// wait waits for so many lines with the prefix on the console.
func (s *site) wait(console *guest.Console, prefix string, times int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if _, err := console.WaitTimes(ctx, prefix, times); err != nil {
		s.t.Fatal(err)
	}
}

// entry is a line of the hook's log.
type entry struct {
	Guest, Operation, Reason, Outcome, Error string
	Did                                      []string
}

// calls are the lines of the hook's log for an operation, as status shows them.
func (s *site) calls(operation string) (calls []entry) {
	s.t.Helper()
	var report struct{ Log []entry }
	if err := json.Unmarshal([]byte(s.must(s.podnic, "status", "--log", "-o", "json")), &report); err != nil {
		s.t.Fatal(err)
	}
	for _, e := range report.Log {
		if e.Operation == operation {
			calls = append(calls, e)
		}
	}
	return calls
}

// last is the latest of them.
func (s *site) last(operation string) entry {
	s.t.Helper()
	calls := s.calls(operation)
	if len(calls) == 0 {
		s.t.Fatalf("the log has no %s", operation)
	}
	return calls[len(calls)-1]
}

// kill ends a process and waits for its end.
func (s *site) kill(id int) {
	s.t.Helper()
	if err := process.End(s.t.Context(), id, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// qemu is the process id of the only guest that runs.
func (s *site) qemu() int {
	s.t.Helper()
	ids, err := s.libvirtd.QEMU()
	if err != nil || len(ids) != 1 {
		s.t.Fatalf("QEMU's processes: %v, %v", ids, err)
	}
	return ids[0]
}
