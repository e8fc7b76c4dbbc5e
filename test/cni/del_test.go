package cni

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podnic/podnic/cmd/cni"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/repeat"
)

// attach makes a pod's network by the chain of ptp and podnic, and returns what was there in between.
func (s *site) attach(plugin object) (both *libcni.NetworkConfigList, before view, result types.Result) {
	s.t.Helper()
	both = s.network("1.1.0", mains["ptp"], plugin)
	made := s.mustAdd(s.network("1.1.0", mains["ptp"]), s.pod)
	before = s.view(s.pod)
	return both, before, s.mustPodnic(call{command: "ADD", list: both, prev: made})
}

func TestDelTakesTheInterfaceFromAGuest(t *testing.T) {
	s := newSite(t)
	both, before, result := s.attach(podnic(nil))
	guest := podtest.HoldTap(t, s.pod, "tap0")
	s.mustPodnic(call{command: "DEL", list: both, prev: result})
	guest.Close()
	s.same(before, s.pod)
}

// TestDelWhateverBecameOfTheConfiguration deletes by a configuration that ADD would refuse.
func TestDelWhateverBecameOfTheConfiguration(t *testing.T) {
	s := newSite(t)
	_, before, result := s.attach(podnic(nil))
	changed := s.network("1.1.0", podnic(object{"binding": "managedTap"}))
	_, err := s.podnic(call{command: "ADD", list: s.network("1.1.0", object{"type": "podnic", "binding": "managedTap"}), prev: result})
	s.fails(err, cni.CodeRefused, "added with the binding bridge")
	_, err = s.podnic(call{command: "ADD", list: changed, prev: result})
	s.fails(err, types.ErrInvalidNetworkConfig)
	s.mustPodnic(call{command: "DEL", list: changed, prev: result})
	s.same(before, s.pod)
	s.mustPodnic(call{command: "ADD", list: s.network("1.1.0", podnic(nil)), prev: result})
	undecodable := s.network("1.1.0", podnic(object{"queues": "two", "podPorts": []string{"80/sctp"}}))
	_, err = s.podnic(call{command: "CHECK", list: undecodable, prev: result})
	s.fails(err, types.ErrDecodingFailure, "podPorts takes a list")
	s.mustPodnic(call{command: "DEL", list: undecodable, prev: result})
	s.same(before, s.pod)
	s.log = "/proc/nowhere" // no call fails for the lack of a log
	s.mustPodnic(call{command: "DEL", list: s.network("1.1.0", podnic(nil)), prev: result})
	s.log = ""
}

// TestDelWithoutTheNamespace deletes after the namespace is gone: by its old path, and without one, as runtimes do.
func TestDelWithoutTheNamespace(t *testing.T) {
	s := newSite(t)
	list := s.network("1.1.0", mains["ptp"], podnic(nil))
	for _, name := range []string{"by path", "without"} {
		n := s.addPod(strings.ReplaceAll(name, " ", "-"))
		s.mustAdd(list, n)
		rt := runtime(n)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if name == "without" {
			rt.NetNS = ""
		}
		s.mustDel(list, rt)
		s.nothingKept()
	}
}

// TestDelByTheNamespaceThatWasRecorded deletes without being told the namespace, which is there still.
func TestDelByTheNamespaceThatWasRecorded(t *testing.T) {
	s := newSite(t)
	both, before, result := s.attach(podnic(nil))
	rt := runtime(s.pod)
	rt.NetNS = ""
	s.mustPodnic(call{command: "DEL", list: both, prev: result, rt: rt})
	s.same(before, s.pod)
}

// TestDelWithoutUsableRecords takes the records away, or damages them: the namespace carries the original.
func TestDelWithoutUsableRecords(t *testing.T) {
	const notPutBack = "net.ipv4.ip_unprivileged_port_start = 0" // nobody knows what it was
	for name, harm := range map[string]struct {
		do       func(dir string) error
		settings bool // are put back
	}{
		"all gone":           {os.RemoveAll, false},
		"attachment damaged": {damage("attachment.json"), true},
		"record damaged":     {damage("eth0/record.json"), true},
		"records of version 1": {func(dir string) error {
			record, err := os.ReadFile(filepath.Join(dir, "eth0", "record.json"))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, "record.json"), bytes.Replace(record, []byte(`"version": 2`), []byte(`"version": 1`), 1), 0o600),
				os.Rename(filepath.Join(dir, "eth0", "provision.json"), filepath.Join(dir, "provision.json")), os.RemoveAll(filepath.Join(dir, "eth0")))
		}, true},
		"record gone":       {func(dir string) error { return os.Remove(filepath.Join(dir, "eth0", "record.json")) }, true},
		"provision damaged": {damage("eth0/provision.json"), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			both, before, result := s.attach(podnic(nil))
			if err := harm.do(filepath.Join(s.state, s.pod.Name+"@eth0")); err != nil {
				t.Fatal(err)
			}
			s.mustPodnic(call{command: "DEL", list: both, prev: result})
			if after := s.settings(s.pod); strings.Contains(after, notPutBack) == harm.settings {
				t.Errorf("the settings: %s", after)
			}
			podtest.In(s.t, s.pod, "sysctl -q -w net.ipv4.ip_unprivileged_port_start=1024 net.ipv4.conf.all.accept_local=0 net.ipv4.conf.default.rp_filter=2")
			s.same(before, s.pod)
			if left, err := os.ReadDir(s.state); err != nil || len(left) > 0 {
				t.Errorf("left in the state directory: %v, %v", left, err)
			}
		})
	}
}

func damage(file string) func(string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, file), []byte("{"), 0o600) }
}

// TestDelLeavesWhatIsNotOfTheAttachment deletes an attachment that never was, in a namespace that is wired for another.
func TestDelLeavesWhatIsNotOfTheAttachment(t *testing.T) {
	s := newSite(t)
	both, _, result := s.attach(podnic(nil))
	wired := s.wired(s.pod)
	rt := runtime(s.pod)
	rt.IfName = "net1"
	s.mustPodnic(call{command: "DEL", list: both, prev: result, rt: rt})
	if after := s.wired(s.pod); after != wired {
		t.Errorf("was\n%s\nand is\n%s", wired, after)
	}
}

// TestContainerOfTheSameNameIsAnother adds a container whose id was that of one which has gone without a DEL.
func TestContainerOfTheSameNameIsAnother(t *testing.T) {
	s := newSite(t)
	list := s.network("1.1.0", mains["ptp"], podnic(nil))
	s.mustAdd(list, s.pod)
	rt := runtime(s.pod)
	if err := s.pod.Close(); err != nil {
		t.Fatal(err)
	}
	s.pod = s.addPod("again")
	rt.NetNS = s.pod.Path
	made := s.mustAdd(s.network("1.1.0", object{"type": "ptp", "ipam": object{
		"type": "host-local", "ranges": []any{[]any{object{"subnet": "10.244.2.0/24"}}}, "routes": []any{object{"dst": "0.0.0.0/0"}},
	}}), s.pod)
	before := s.view(s.pod)
	s.mustPodnic(call{command: "ADD", list: list, prev: made, rt: rt})
	if phase, text := s.status(s.pod); phase != "wired" {
		t.Errorf("status: %s", text)
	}
	s.mustPodnic(call{command: "DEL", list: list, rt: rt})
	s.same(before, s.pod)
}

// TestKilledAtAnyMomentThenDeleted kills ADD, and then DEL, at moments spread over their time, and deletes then.
func TestKilledAtAnyMomentThenDeleted(t *testing.T) {
	s := newSite(t)
	made := s.mustAdd(s.network("1.1.0", mains["ptp"]), s.pod)
	both := s.network("1.1.0", mains["ptp"], podnic(nil))
	before := s.view(s.pod)
	moments := func(yield func(repeat.Moment) bool) {
		for i := range 12 {
			if !yield(repeat.After([]string{"ADD", "DEL"}[i%2], time.Duration(i)*5*time.Millisecond)) {
				return
			}
		}
	}
	for moment := range repeat.Moments(t, moments) {
		if moment.Operation == "DEL" {
			s.mustPodnic(call{command: "ADD", list: both, prev: made})
		}
		s.killed(call{command: moment.Operation, list: both, prev: made}, moment.After)
		s.mustPodnic(call{command: "DEL", list: both, prev: made})
		s.same(before, s.pod)
	}
	if left, err := os.ReadDir(s.state); err != nil || len(left) > 0 {
		t.Errorf("left in the state directory: %v, %v", left, err)
	}
}

// TestGarbageIsCollected has three attachments of which one is valid, one has lost its namespace, one has it still, and one
// of another network.
func TestGarbageIsCollected(t *testing.T) {
	s := newSite(t)
	list := s.network("1.1.0", mains["ptp"], podnic(nil))
	valid, gone, stale, other := s.addPod("valid"), s.addPod("gone"), s.pod, s.addPod("other")
	for _, n := range []*pod.Namespace{valid, gone} {
		s.mustAdd(list, n)
	}
	_, before, _ := s.attach(podnic(nil))
	another := s.network("1.1.0", mains["ptp"], podnic(nil))
	another.Name = "another"
	s.mustAdd(another, other)
	keep := map[*pod.Namespace]string{valid: s.wired(valid), other: s.wired(other)}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}

	// A runtime that remembers nothing: all it does is to call the plugins.
	forgetful := *s
	forgetful.cni = libcni.NewCNIConfigWithCacheDir(s.path, t.TempDir(), nil)
	err := s.node.Do(func() error {
		return forgetful.cni.GCNetworkList(t.Context(), list, &libcni.GCArgs{
			ValidAttachments: []types.GCAttachment{{ContainerID: valid.Name, IfName: pod.Interface}},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	s.same(before, stale)
	for n, want := range keep {
		if after := s.wired(n); after != want {
			t.Errorf("%s was\n%s\nand is\n%s", n.Name, want, after)
		}
	}
	left, err := filepath.Glob(filepath.Join(s.state, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("records of %v are left, %v", left, err)
	}

	// Nothing is valid any more; and without the list nothing is garbage.
	_, err = s.podnic(call{command: "GC", list: list})
	s.fails(err, types.ErrInvalidNetworkConfig, "cni.dev/valid-attachments")
	s.mustPodnic(call{command: "GC", list: list, keys: object{"cni.dev/valid-attachments": []any{}}})
	left, err = filepath.Glob(filepath.Join(s.state, "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("records of %v are left, %v", left, err)
	}
}

// killed begins a call of podnic and kills it after a while.
func (s *site) killed(c call, after time.Duration) {
	s.t.Helper()
	cmd := s.command(c)
	if err := s.node.Do(cmd.Start); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(after) // the moment of the murder
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
}
