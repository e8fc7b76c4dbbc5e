package look

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// newPair is a pod with eth0, and net1 of a range of its own.
func newPair(t *testing.T) *site {
	t.Helper()
	s := newSite(t, pod.Plain)
	s.In(s.Pod.Namespace, `ip link add net1 type veth peer name peer-net1 netns `+s.Node.Name+`
ip address add 198.51.100.7/24 dev net1
ip link set net1 up`)
	s.In(s.Node.Namespace, "ip link set peer-net1 up")
	return s
}

// TestLostInterfaceIsReportedAsItself where another is wired: status, its drawing, its graph and doctor say at the one that is gone
// what is wrong, and nothing at the other; nobody waits for it; and a bundle has what is recorded of it.
func TestLostInterfaceIsReportedAsItself(t *testing.T) {
	t.Parallel()
	s := newPair(t)
	s.Must("prepare", "--interface", "all")
	before := s.Status().Interfaces[0].Warnings
	s.In(s.Pod.Namespace, "ip link delete net1-nic")
	r := s.Status("--wait", "wired", "--timeout", podtest.Patience.String())
	if len(r.Interfaces) != 2 || r.Phase != "wired" || r.Interfaces[0].Name != "eth0" || r.Interfaces[1].Name != "net1" {
		t.Fatalf("status is %+v", r)
	}
	if now := r.Interfaces[0].Warnings; strings.Join(now, "\n") != strings.Join(before, "\n") {
		t.Errorf("eth0 has the warnings %q, and had %q", now, before)
	}
	const gone = "net1, which was wired, is gone"
	if lost := r.Interfaces[1].Warnings; len(lost) != 1 || !strings.Contains(lost[0], gone) {
		t.Errorf("net1 has the warnings %q", lost)
	}
	if _, drawn, found := strings.Cut(s.Must("status"), "net1: lost"); !found || !strings.Contains(drawn, gone) {
		t.Errorf("the drawing of net1 is %q", drawn)
	}
	s.graph()
	graph := s.Must("status", "-o", "dot")
	if !strings.Contains(graph, `label="eth0: wired`) || !strings.Contains(graph, `label="net1: lost"`) || !strings.Contains(graph, `i1_lost [label="`+gone) {
		t.Errorf("the graph is %s", graph)
	}
	var found struct {
		Findings []struct{ Interface, Status, Reason string }
	}
	out, _, _ := s.Run("doctor", "-o", "json", "--only", "wiring")
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if f := found.Findings; len(f) != 2 || f[0].Interface != "eth0" || f[0].Status != "ok" || f[1].Interface != "net1" || f[1].Status != "fail" || f[1].Reason != gone {
		t.Errorf("doctor finds %+v", f)
	}
	bundled := func() map[string]string {
		t.Helper()
		archive, errs, status := s.Run("doctor", "bundle", "-")
		if status != 0 {
			t.Fatalf("status %d: %s", status, errs)
		}
		return unpack(t, strings.NewReader(archive))
	}
	files := bundled()
	for name, says := range map[string]string{
		"status.txt": "net1: lost", "status.json": gone, "doctor.txt": gone,
		"interfaces/eth0/record.json": `"original"`, "interfaces/net1/record.json": `"original"`, "interfaces/net1/state.json": `"timeline"`,
	} {
		if !strings.Contains(files[name], says) {
			t.Errorf("%s of the bundle does not say %q:\n%s", name, says, files[name])
		}
	}
	s.Must("restore", "--interface", "eth0")
	if record := bundled()["interfaces/net1/record.json"]; !strings.Contains(record, `"original"`) {
		t.Errorf("where nothing else is wired, the bundle has the record %q", record)
	}
	s.Must("restore")
}

// TestJSONIsByInterface: a dry run has one shape, however many interfaces there are, and restore says which step was of which.
// The fields that there were before are there still.
func TestJSONIsByInterface(t *testing.T) {
	t.Parallel()
	s := newPair(t)
	s.Remember()
	type step struct{ Do, Object string }
	type planned struct {
		Interface, Binding string
		Steps              []step
	}
	var one, two struct {
		planned
		APIVersion string
		Interfaces []planned
	}
	read := func(text string, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	read(s.Must("prepare", "--dry-run", "-o", "json"), &one)
	read(s.Must("prepare", "--dry-run", "-o", "json", "--interface", "all"), &two)
	if one.APIVersion != "podnic/v1" || len(one.Interfaces) != 1 || len(one.Interfaces[0].Steps) == 0 ||
		one.Interface != "eth0" || one.Binding != one.Interfaces[0].Binding || len(one.Steps) != len(one.Interfaces[0].Steps) {
		t.Errorf("of one interface: %+v", one)
	}
	if two.APIVersion != "podnic/v1" || len(two.Interfaces) != 2 || two.Interfaces[1].Interface != "net1" || two.Interface != "" || two.Steps != nil {
		t.Errorf("of two: %+v", two)
	}
	s.Must("prepare", "--interface", "all")
	var restored struct {
		Phase    string
		Restored []struct {
			Name     string
			Steps    []step
			Warnings []string
		}
		Interfaces []string
		Steps      []step
	}
	read(s.Must("restore", "-o", "json"), &restored)
	if restored.Phase != "original" || strings.Join(restored.Interfaces, " ") != "eth0 net1" || len(restored.Restored) != 2 {
		t.Fatalf("restore says %+v", restored)
	}
	var all []step
	for i, r := range restored.Restored {
		if r.Name != restored.Interfaces[i] || len(r.Steps) == 0 || r.Warnings == nil {
			t.Errorf("of %s: %+v", restored.Interfaces[i], r)
		}
		all = append(all, r.Steps...)
	}
	if len(all) != len(restored.Steps) {
		t.Errorf("%d steps of all, and %d by interface", len(restored.Steps), len(all))
	}
	s.AsBefore()
	restored.Restored = nil
	read(s.Must("restore", "-o", "json"), &restored)
	if restored.Restored == nil || len(restored.Restored) > 0 {
		t.Errorf("where nothing is wired, restore says %+v", restored)
	}
}
