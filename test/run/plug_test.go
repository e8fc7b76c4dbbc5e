package run

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// further adds veths to a pod, without addresses.
func further(s *podtest.Site, names ...string) {
	s.T.Helper()
	for _, name := range names {
		s.In(s.Pod.Namespace, "ip link add "+name+" type veth peer name peer-"+name+" netns "+s.Node.Name+"\nip link set "+name+" up")
		s.In(s.Node.Namespace, "ip link set peer-"+name+" up")
	}
}

// TestAttachThatFailsLeavesWhatWasThere has a libvirt that can plug nothing: an interface that was not wired is the pod's again, and
// one that was is as it was, without a server, and nobody's.
func TestAttachThatFailsLeavesWhatWasThere(t *testing.T) {
	podtest.NeedRoot(t)
	s := podtest.NewSite(t, podtest.Node(t), pod.PTP)
	further(s, "net1")
	s.Remember()
	attach := func() {
		t.Helper()
		_, stderr, status := s.Run("attach", "net1", "--connect", "test:///default", "--domain", "test")
		if status != 1 || !strings.Contains(stderr, "everything was put back") {
			t.Errorf("exit status %d: %s", status, stderr)
		}
		if held := holders(t, s); held != "" {
			t.Errorf("a server is left: %s", held)
		}
	}
	attach()
	s.AsBefore()
	if files := podtest.Files(t, filepath.Join(s.StateDir, "net1")); len(files) > 0 {
		t.Errorf("left of net1: %q", files)
	}

	s.Must("prepare", "--interface", "net1")
	file := filepath.Join(s.StateDir, "net1", "record.json")
	before := podtest.Read(t, file)
	attach()
	if after := podtest.Read(t, file); after != before {
		t.Errorf("the record is now %s, and was %s", after, before)
	}
	if out := s.Must("status"); !strings.HasPrefix(out, "net1: wired, and nobody serves it") || strings.Contains(out, "✗") {
		t.Errorf("the wiring is not as it was:\n%s", out)
	}
	s.Must("restore")
	s.AsBefore()
}

// holders are the names of the sockets by which servers are known, in the pod's namespace.
func holders(t *testing.T, s *podtest.Site) string {
	t.Helper()
	var names []string
	for line := range strings.Lines(podtest.In(t, s.Pod.Namespace, "cat /proc/self/net/unix")) {
		if _, name, ok := strings.Cut(strings.TrimSpace(line), "@podnic/serve/"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestDetachWhileTheGuestEnds: a guest that does not answer is asked for its card, and ends; `podnic run` gives its interfaces back
// before detach comes to it. That is what was asked for, and an interface that nobody asked for stays as it is.
func TestDetachWhileTheGuestEnds(t *testing.T) {
	s := newSite(t, pod.PTP)
	further(s.Site, "net1", "net2")
	s.Remember()
	s.Must("prepare", "--interface", "net2")
	file, _ := s.domain()
	a := s.run("--domain", file, "--interface", "eth0", "--interface", "net1")
	a.Says("guest started")
	s.virsh("suspend", "vm")
	detach := s.Start("detach", "net1", "--connect", s.libvirtd.URI, "--timeout", "1h")
	detach.Says("waiting for the guest to give up its card")
	detach.Signal(syscall.SIGSTOP)
	s.virsh("destroy", "vm")
	a.Exits(6)
	detach.Signal(syscall.SIGCONT)
	detach.Exits(0)
	if text := detach.Output(); !strings.Contains(text, "net1 is the pod's again") {
		t.Errorf("detach says %s", text)
	}
	if wired := s.wired(); wired != "net2 bridge tap0" && wired != "net2 bridge tap2" {
		t.Errorf("wired: %s", wired)
	}
	s.Must("restore")
	s.AsBefore()
}

func (s *site) virsh(args ...string) {
	s.T.Helper()
	if out, err := s.libvirtd.Virsh(s.T.Context(), args...); err != nil {
		s.T.Fatalf("virsh %v: %v: %s", args, err, out)
	}
}

// TestUpgradeUnderAGuest has a guest whose agent was killed, and whose record is of version 1. Another interface is attached: the
// record stays where it is and is believed, and beside a server of eth0 alone one is started that is configured as its attach was. A
// `podnic run` that is refused does not end that one, and the one that is not takes over all.
func TestUpgradeUnderAGuest(t *testing.T) {
	s := newSite(t, pod.PTP)
	if _, err := s.Pod.Attach(t.Context(), "net1", map[string]any{"type": "bridge", "bridge": "cni1", "isGateway": true, "ipam": ipam("10.245.1.0/24")}); err != nil {
		t.Fatal(err)
	}
	s.Remember()
	mac := podtest.Link(t, s.Pod.Namespace, "net1").HardwareAddr.String()
	file, path := s.domain("podnic.cards")
	edit(t, file, "<memballoon", "<controller type='pci' index='0' model='pcie-root'/>"+strings.Repeat("<controller type='pci' model='pcie-root-port'/>", 6)+"<memballoon")
	console := podtest.Console(t, path)
	first := s.run("--domain", file)
	s.Ready()
	podtest.Wait(t, console, "guest: ready")
	first.Signal(syscall.SIGKILL)
	<-first.Done
	s.toVersion1()

	other := s.Start("serve", "--interface", "eth0", "--log-format", "json")
	other.Says(`"msg":"serving"`)
	config := filepath.Join(t.TempDir(), "podnic.yaml")
	if err := os.WriteFile(config, []byte("lease-time: 17m\ndomain: "+file+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	record := podtest.Read(t, filepath.Join(s.StateDir, "record.json"))
	pinging := s.ping()
	s.Must("attach", "net1", "--connect", s.libvirtd.URI, "--config", config)
	podtest.Until(s.T, "net1 has its lease", func() bool { return strings.Contains(console.Text(), "lease=1020 interface=eth1") })
	if lost := pinging(); lost != "" {
		t.Errorf("eth0 lost pings: %s", lost)
	}
	if now := podtest.Read(t, filepath.Join(s.StateDir, "record.json")); now != record {
		t.Errorf("the record of version 1 is now %s", now)
	}
	s.guest("ping -c 1 -W 90 -I " + s.cards(map[string]string{"net1": mac})[mac] + " 10.245.1.1")

	refused := s.run("--domain", file)
	refused.Exits(2)
	if held := holders(t, s.Site); held != "eth0 net1" {
		t.Errorf("after a run that was refused, served are %q", held)
	}
	other.End(syscall.SIGTERM)
	refused = s.run("--domain", file, "--metrics-listen", ":9100")
	refused.Exits(2)
	if held := holders(t, s.Site); held != "net1" {
		t.Errorf("after a run whose metrics would be at the guest's address, served are %q", held)
	}

	second := s.run("--domain", file)
	second.Says("adopting the guest")
	second.Says(`"msg":"serving"`)
	second.Says(`"msg":"serving"`)
	s.Ready()
	if want := "eth0 bridge tap0, net1 bridge tap1"; s.wired() != want {
		t.Errorf("wired: %s, want %s", s.wired(), want)
	}
	if err := s.hello(); err != nil {
		t.Errorf("the guest did not survive the upgrade: %v", err)
	}
	second.Signal(syscall.SIGTERM)
	second.Exits(0)
	s.AsBefore()
	if files := podtest.Files(t, s.StateDir); slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, ".json") }) {
		t.Errorf("left in the state directory: %q", files)
	}
}

// toVersion1 makes of what lies in eth0's directory what a podnic that had one interface would have left.
func (s *site) toVersion1() {
	s.T.Helper()
	dir := filepath.Join(s.StateDir, pod.Interface)
	var record map[string]any
	err := json.Unmarshal([]byte(podtest.Read(s.T, filepath.Join(dir, "record.json"))), &record)
	record["version"] = 1
	text, failed := json.Marshal(record)
	err = errors.Join(err, failed, os.WriteFile(filepath.Join(s.StateDir, "record.json"), text, 0o600),
		os.Rename(filepath.Join(dir, "state.json"), filepath.Join(s.StateDir, "state.json")), os.RemoveAll(dir))
	if err != nil {
		s.T.Fatal(err)
	}
}
