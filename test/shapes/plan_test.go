package shapes

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestDryRunSaysWhatPrepareThenDoes compares the two forms of a dry run, and both with what is done.
func TestDryRunSaysWhatPrepareThenDoes(t *testing.T) {
	s := newSite(t, "", plugin(pod.PTP))
	read := func(text string) (steps []map[string]string) {
		var plan struct{ Steps *[]map[string]string }
		if err := json.Unmarshal([]byte(text), &plan); err != nil || plan.Steps == nil {
			t.Fatalf("%v: %s", err, text)
		}
		return *plan.Steps
	}
	lines := strings.Split(strings.TrimSpace(s.must("prepare", "--dry-run")), "\n")
	steps := read(s.must("prepare", "--dry-run", "-o", "json"))
	if len(lines) != len(steps) || len(steps) < 20 {
		t.Fatalf("%d lines, %d steps", len(lines), len(steps))
	}
	for i, step := range steps {
		words := strings.Join(strings.Fields(lines[i]), " ")
		if want := strings.TrimSpace(step["do"] + " " + step["object"] + " " + step["detail"]); words != want {
			t.Errorf("step %d is %q as text and %q as JSON", i, words, want)
		}
	}
	if diff := s.before.Diff(podtest.State(t, s.pod.Namespace)); diff != "" {
		t.Errorf("a dry run touched the namespace:\n%s", diff)
	}
	if _, err := os.Stat(s.stateDir); err == nil {
		t.Error("a dry run made a state directory")
	}
	s.must("prepare")
	if out := s.must("prepare", "--dry-run"); !strings.Contains(out, "nothing to do") {
		t.Errorf("when all is done: %s", out)
	}
	if left := read(s.must("prepare", "--dry-run", "-o", "json")); len(left) > 0 {
		t.Errorf("when all is done: %v", left)
	}
	s.in(s.pod.Namespace, "ip link set tap0 down")
	if out := s.must("prepare"); !strings.Contains(out, "mended") || !strings.Contains(out, "tap0            up") {
		t.Errorf("a repair says: %s", out)
	}
	s.plug() // so that restored has something to unplug
	s.restored()
}
