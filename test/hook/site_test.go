// Package hook tests `podnic hook` as libvirt calls it: the built program, installed as the hook of a real libvirtd in a
// pod, with real guests.
package hook

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/internal/process"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// metadata marks a domain as podnic's.
const metadata = `<metadata><podnic:pod xmlns:podnic="urn:podnic:domain:1" interface="eth0"/></metadata>`

// place is a pod, and podnic in it.
type place struct{ *podtest.Site }

func newPlace(t *testing.T, node *pod.Node) place {
	t.Helper()
	p := place{podtest.NewSite(t, node, pod.PTP)}
	p.Remember()
	return p
}

// asBefore fails the test unless the pod's namespace is what it was, and nobody serves in it.
func (p *place) asBefore() {
	p.T.Helper()
	p.AsBefore()
	if left := processes(p.T, p.Pod); len(left) > 0 {
		p.T.Errorf("processes of podnic are left: %v", left)
	}
}

// server is the process that serves.
func (p *place) server() int {
	p.T.Helper()
	ids := processes(p.T, p.Pod)
	if len(ids) != 1 {
		p.T.Fatalf("podnic's processes are %v, want one, the server", ids)
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

func newSite(t *testing.T) *site {
	t.Helper()
	podtest.NeedRoot(t)
	node := podtest.Node(t)
	s := &site{place: newPlace(t, node)}
	s.other = podtest.Pod(t, node, pod.Spec{Name: "other", Network: pod.PTP})
	s.image = podtest.Guest(t)
	s.libvirtd = podtest.Libvirtd(t, s.Pod)
	return s
}

// run runs a program beside the daemon and returns what it said.
func (s *site) run(name string, args ...string) (stdout, stderr string, status int) {
	s.T.Helper()
	return podtest.Run(s.T, s.libvirtd.Command(s.T.Context(), name, args...))
}

// must is run for what has to succeed.
func (s *site) must(name string, args ...string) string {
	s.T.Helper()
	stdout, stderr, status := s.run(name, args...)
	if status != 0 {
		s.T.Fatalf("%s %s: exit status %d: %s%s", name, strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

func (s *site) virsh(args ...string) string {
	s.T.Helper()
	out, err := s.libvirtd.Virsh(s.T.Context(), args...)
	if err != nil {
		s.T.Fatal(err)
	}
	return out
}

func (s *site) restart() {
	s.T.Helper()
	if err := s.libvirtd.Restart(s.T.Context()); err != nil {
		s.T.Fatal(err)
	}
}

// define defines a domain called vm, podnic's, and follows its console. change edits its XML.
func (s *site) define(change ...string) *guest.Console {
	s.T.Helper()
	dir := s.T.TempDir()
	path := filepath.Join(dir, "console")
	xml, err := guest.Domain{
		Name: "vm", Image: s.image, KVM: s.libvirtd.KVM, Console: path, Metadata: metadata, Interface: nic(s.MAC.String()),
	}.XML()
	if err != nil {
		s.T.Fatal(err)
	}
	// With a UUID of its own it takes the place of one that was defined before.
	xml = strings.Replace(xml, "</name>", "</name><uuid>11111111-2222-3333-4444-555555555555</uuid>", 1)
	s.defineXML(strings.NewReplacer(change...).Replace(xml))
	s.T.Cleanup(func() { _, _ = s.libvirtd.Virsh(context.Background(), "destroy", "vm") })
	return podtest.Console(s.T, path)
}

func (s *site) defineXML(xml string) {
	s.T.Helper()
	file := filepath.Join(s.T.TempDir(), "domain.xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		s.T.Fatal(err)
	}
	s.virsh("define", file)
}

// nic is the interface of a domain that podnic's hook takes.
func nic(mac string) string {
	return fmt.Sprintf("<interface type='ethernet'><mac address='%s'/><target dev='tap0' managed='no'/><model type='virtio'/></interface>", mac)
}

// ready waits until the guest has its address.
func (s *site) ready() {
	s.T.Helper()
	s.must(s.Podnic, "status", "--wait", "ready", "--timeout", podtest.Patience.String())
}

// hello asks the guest's web server, on the pod's address, from the other pod.
func (s *site) hello() {
	s.T.Helper()
	if _, err := s.client().Hello(s.T.Context()); err != nil {
		s.T.Error(err)
	}
}

func (s *site) client() guest.Client {
	return guest.Client{Address: s.Pod.Address.Addr(), Dial: s.other.DialContext}
}

// calls are the lines of the hook's log for an operation, as status shows them.
func (s *site) calls(operation string) (calls []podtest.Call) {
	s.T.Helper()
	for _, e := range podtest.ReadReport(s.T, s.must(s.Podnic, "status", "--log", "-o", "json")).Log {
		if e.Operation == operation {
			calls = append(calls, e)
		}
	}
	return calls
}

// last is the latest of them.
func (s *site) last(operation string) podtest.Call {
	s.T.Helper()
	calls := s.calls(operation)
	if len(calls) == 0 {
		s.T.Fatalf("the log has no %s", operation)
	}
	return calls[len(calls)-1]
}

// kill ends a process and waits for its end.
func (s *site) kill(id int) {
	s.T.Helper()
	if err := process.End(s.T.Context(), id, syscall.SIGKILL); err != nil {
		s.T.Fatal(err)
	}
}

// qemu is the process id of the only guest that runs.
func (s *site) qemu() int {
	s.T.Helper()
	ids, err := s.libvirtd.QEMU()
	if err != nil || len(ids) != 1 {
		s.T.Fatalf("QEMU's processes: %v, %v", ids, err)
	}
	return ids[0]
}
