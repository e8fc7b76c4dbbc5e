package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/statedir"
)

func hookLogPath(dir string) string { return filepath.Join(dir, statedir.Own, hookLog) }

// TestHookLogIsReadAsItWasWritten also when a line of it was cut short, and shown one call a line.
func TestHookLogIsReadAsItWasWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	started := time.Now()
	outcomes := map[string]error{"done": nil, "failed": errors.New("two\nlines"), "refused": network.Refuse("change <mac address='x'/>")}
	for _, outcome := range []string{"done", "failed", "refused"} {
		e := &HookEntry{Guest: outcome, Operation: "prepare", SubOperation: "begin", Did: []string{"wired eth0"}}
		e.finish(outcomes[outcome], started)
		if err := appendHookLog(dir, e); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(hookLogPath(dir))
	if err != nil || strings.Count(string(text), "\n") != 3 || !strings.Contains(string(text), "<mac") {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := os.WriteFile(hookLogPath(dir), append([]byte("{\"guest\": \"cut sh\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	entries, err := HookLog(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if e.Outcome != e.Guest || e.Time.Before(started) || (e.Error == "") != (e.Outcome == "done") {
			t.Errorf("%+v", e)
		}
	}
	var drawn strings.Builder
	if err := DrawHookLog(&drawn, entries[:1]); err != nil || strings.Count(drawn.String(), "\n") != 2 || !strings.Contains(drawn.String(), "wired eth0") {
		t.Errorf("%v\n%s", err, drawn.String())
	}
	if entries, err := HookLog(t.TempDir()); len(entries) > 0 || err != nil {
		t.Errorf("where there is no log: %v, %v", entries, err)
	}
}

func TestLongLogIsPutAside(t *testing.T) {
	dir := t.TempDir()
	path := hookLogPath(dir)
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		size  int
		aside bool
	}{{statedir.MaxLog, false}, {statedir.MaxLog + 1, true}} {
		if err := os.WriteFile(path, make([]byte, test.size), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openLog(dir, hookLog)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		info, err := os.Stat(path)
		if err != nil || (info.Size() == 0) != test.aside {
			t.Errorf("after %d bytes the log has %d: %v", test.size, info.Size(), err)
		}
	}
	if info, err := os.Stat(path + ".1"); err != nil || info.Size() != statedir.MaxLog+1 {
		t.Errorf("what was put aside: %v", err)
	}
}

// TestStartTimeIsOfTheProcess whatever its program is called.
func TestStartTimeIsOfTheProcess(t *testing.T) {
	p, err := thisProcess()
	if err != nil || p.ID != os.Getpid() || p.Start == 0 || p.Detached {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := startTime(1 << 30); err == nil {
		t.Error("a process that cannot be has a start time")
	}
}
