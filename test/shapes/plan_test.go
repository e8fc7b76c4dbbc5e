package shapes

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/pod"
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
	binding, text, _ := strings.Cut(s.Must("prepare", "--dry-run"), "\n")
	if want := "binding bridge (--binding auto: bridge takes eth0)"; binding != want {
		t.Errorf("the choice is said as %q", binding)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	steps := read(s.Must("prepare", "--dry-run", "-o", "json"))
	if len(lines) != len(steps) || len(steps) < 20 {
		t.Fatalf("%d lines, %d steps", len(lines), len(steps))
	}
	for i, step := range steps {
		words := strings.Join(strings.Fields(lines[i]), " ")
		if want := strings.TrimSpace(step["do"] + " " + step["object"] + " " + step["detail"]); words != want {
			t.Errorf("step %d is %q as text and %q as JSON", i, words, want)
		}
	}
	s.AsBefore()
	if _, err := os.Stat(s.StateDir); err == nil {
		t.Error("a dry run made a state directory")
	}
	s.Must("prepare")
	if out := s.Must("prepare", "--dry-run"); !strings.Contains(out, "nothing to do") {
		t.Errorf("when all is done: %s", out)
	}
	if left := read(s.Must("prepare", "--dry-run", "-o", "json")); len(left) > 0 {
		t.Errorf("when all is done: %v", left)
	}
	s.In(s.Pod.Namespace, "ip link set tap0 down")
	if out := s.Must("prepare"); !strings.Contains(out, "mended") || !strings.Contains(out, "tap0            up") {
		t.Errorf("a repair says: %s", out)
	}
	s.plug() // so that restored has something to unplug
	s.restored()
}
