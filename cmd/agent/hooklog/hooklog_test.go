package hooklog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/cmd/agent/logs"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
)

func hookLogPath(dir string) string { return filepath.Join(dir, statedir.Own, hookLog) }

// TestHookLogIsReadAsItWasWritten also when a line of it was cut short, and shown one call a line.
func TestHookLogIsReadAsItWasWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	started := time.Now()
	outcomes := map[string]error{"done": nil, "failed": errors.New("two\nlines"), "refused": plan.Refuse("change <mac address='x'/>")}
	for _, outcome := range []string{"done", "failed", "refused"} {
		e := &Entry{Guest: outcome, Operation: "prepare", SubOperation: "begin", Did: []string{"wired eth0"}}
		e.Finish(outcomes[outcome], started)
		if err := Append(dir, e); err != nil {
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
	entries, err := Read(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if e.Outcome != e.Guest || e.Time.Before(started) || (e.Error == "") != (e.Outcome == "done") {
			t.Errorf("%+v", e)
		}
	}
	var drawn strings.Builder
	if err := Draw(&drawn, entries[:1]); err != nil || strings.Count(drawn.String(), "\n") != 2 || !strings.Contains(drawn.String(), "wired eth0") {
		t.Errorf("%v\n%s", err, drawn.String())
	}
	if entries, err := Read(t.TempDir()); len(entries) > 0 || err != nil {
		t.Errorf("where there is no log: %v, %v", entries, err)
	}
}

// TestALongLineOfTheHookLogIsNotTheEnd writes an entry of which everything is too long, and reads one that another podnic
// wrote without a bound.
func TestALongLineOfTheHookLogIsNotTheEnd(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("\x1b€", 1<<16)
	e := &Entry{Guest: long, UUID: long, Operation: long, SubOperation: long, Reason: long}
	for range 40 {
		e.Did, e.Warnings = append(e.Did, long), append(e.Warnings, long)
	}
	e.Finish(errors.New(long), time.Now())
	if err := Append(dir, e); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(hookLogPath(dir))
	if err != nil || len(text) > maxHookLine {
		t.Errorf("the line has %d bytes, %v", len(text), err)
	}
	text = append(text, `{"time":"2026-11-27T12:00:00Z","guest":"vm","operation":"prepare","outcome":"failed","error":"`+strings.Repeat("x", 3<<20)+`"}`+"\n"...)
	text = append(text, `{"guest":"`+strings.Repeat("x", 3<<20)+"\n"...)
	text = append(text, strings.Repeat("no JSON", 1<<20)+"\n"...)
	text = append(text, `{"guest":"last","operation":"release"}`...) // and no end of the line
	if err := os.WriteFile(hookLogPath(dir), text, 0o600); err != nil {
		t.Fatal(err)
	}
	entries, err := Read(dir)
	if err != nil || len(entries) != 4 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	if first := entries[0]; !strings.Contains(first.Error, "bytes more") || len(first.Did) != maxHookList+1 || first.Did[maxHookList] != "(24 more)" {
		t.Errorf("%.100q, %d", first.Error, len(first.Did))
	}
	if cut := entries[1]; cut.Guest != "vm" || cut.Outcome != "failed" || cut.Time.IsZero() || !strings.Contains(strings.Join(cut.Warnings, ""), "too long") {
		t.Errorf("%.300v", cut)
	}
	if last := entries[3]; last.Guest != "last" {
		t.Errorf("%v", last)
	}
	var drawn strings.Builder
	if err := Draw(&drawn, entries); err != nil || strings.Count(drawn.String(), "\n") != 5 || strings.Contains(drawn.String(), "\x1b") {
		t.Errorf("%v, %d lines", err, strings.Count(drawn.String(), "\n"))
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
		f, err := logs.Open(dir, hookLog)
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
