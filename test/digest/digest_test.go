package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/report.txt")

// TestWhatFailedComesLastAndShort of what the real go test says of a module with tests that pass, fail, panic, do not end and
// do not build, some of them beside each other.
func TestWhatFailedComesLastAndShort(t *testing.T) {
	t.Parallel()
	module := t.TempDir()
	if err := os.CopyFS(module, os.DirFS("testdata/module")); err != nil {
		t.Fatal(err)
	}
	// Without the name that would make it a module of its own here, or a test of this one.
	err := filepath.WalkDir(module, func(path string, _ os.DirEntry, err error) error {
		if name, is := strings.CutSuffix(path, ".txt"); is && err == nil {
			return os.Rename(path, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-json", "-count=1", "-p=1", "./...")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath", "GOWORK=off") // with what is built already of Go's own packages
	out, err := cmd.Output()
	if err == nil {
		t.Fatalf("go test found nothing: %s", out)
	}

	var told []string
	l := log{root: module, tell: func(line string) { told = append(told, line) }}
	if err := l.read(strings.NewReader(string(out) + "a line of the linker's\n")); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(strings.Join(told, "\n") + "\n")
	if l.report(&b, true) {
		t.Error("the report calls it well")
	}
	got := b.String()
	for _, changing := range [][2]string{
		{`\d+\.\d+s`, "0.0s"}, {`(?m)^goroutine \d+.*\n(?:[\t\w].*\n)*`, "GOROUTINES\n"},
		{`… \d+ more lines`, "… more lines"},
	} {
		got = regexp.MustCompile(changing[0]).ReplaceAllString(got, changing[1])
	}
	const golden = "testdata/report.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestSkippedIsAFailureWhereNothingMayBe skipped.
func TestSkippedIsAFailureWhereNothingMayBe(t *testing.T) {
	t.Parallel()
	const text = `{"Action":"run","Package":"github.com/podnic/podnic/dhcp","Test":"TestA"}
{"Action":"skip","Package":"github.com/podnic/podnic/dhcp","Test":"TestA"}
{"Action":"pass","Package":"github.com/podnic/podnic/dhcp"}
`
	for _, test := range []struct {
		text     string
		noSkip   bool
		want     bool
		contains string
	}{
		{text, false, true, "left out (run as root for all):\ndhcp TestA\n"},
		{text, true, false, "nothing may be:\ndhcp TestA\n"},
		{strings.ReplaceAll(text, `"skip"`, `"pass"`), true, true, "test: ok, nothing skipped\n"},
		{"go: no such module\n", false, false, "go: no such module"},
	} {
		var l log
		var b strings.Builder
		if err := l.read(strings.NewReader(test.text)); err != nil {
			t.Fatal(err)
		}
		if got := l.report(&b, test.noSkip); got != test.want || !strings.Contains(b.String(), test.contains) {
			t.Errorf("%v and %q, want %v and %q", got, b.String(), test.want, test.contains)
		}
	}
}
