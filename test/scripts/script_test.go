// Package scripts tests the scripts of the directory scripts with stubs in the place of what they drive: programs of
// testdata that come first in PATH.
//
// A stub keeps what it has to remember in the directory STATE: its calls, a line each, and for the engine a directory for each
// container. What is in the directory's on/EVENT it runs when it comes to the event: a failure, another user's deed, or a
// wait until the test has done something.
package scripts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// reach is for an event: it tells the test, and waits there for long, but not as long as a test may take: a script that hears
// nothing then fails.
const reach = `echo reached >"$STATE/reached"; exec sleep 300`

// pause is for an event: it tells the test, and goes on when the test says so. A signal does not end it.
const pause = `trap '' TERM INT; echo reached >"$STATE/reached"; read -r _ <"$STATE/go"`

// script is one that is run with stubs.
type script struct {
	t       *testing.T
	state   string
	scratch string // where the script makes its temporary files
	cmd     *exec.Cmd
	out     output
	ended   chan struct{} // closed when err is the script's end
	err     error
}

// output is what a script says, on both its outputs.
type output struct {
	mu    sync.Mutex
	text  strings.Builder
	until string // what is waited for
	said  chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if o.until != "" && strings.Contains(o.text.String(), o.until) {
		o.until = ""
		close(o.said)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// newScript prepares a script with the stubs of a directory in testdata. on says what they do at an event.
func newScript(t *testing.T, path, stubs string, on map[string]string) *script {
	t.Helper()
	stubs, err := filepath.Abs(filepath.Join("testdata", stubs))
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, state: t.TempDir(), scratch: t.TempDir()}
	for _, dir := range []string{"on", "containers", "volumes"} {
		if err := os.Mkdir(filepath.Join(s.state, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for event, what := range on {
		s.write("on/"+event, what+"\n")
	}
	for _, name := range []string{"reached", "go"} {
		if err := syscall.Mkfifo(filepath.Join(s.state, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A shell cannot hear a signal that was ignored when it started, as SIGHUP is below nohup.
	s.cmd = exec.Command("env", "--default-signal", path)
	s.cmd.Env = []string{
		"PATH=" + stubs + ":" + os.Getenv("PATH"), "HOME=" + s.state, "TMPDIR=" + s.scratch,
		"STATE=" + s.state, "PODNIC_CACHE=" + filepath.Join(s.state, "cache"),
	}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	// A group of its own, as a shell's job has, which a terminal's keys reach as a whole.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return s
}

func (s *script) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.state, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) start() {
	s.t.Helper()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	s.t.Cleanup(func() { syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
}

// until waits for something that the script does before it ends.
func (s *script) until(done <-chan struct{}) {
	s.t.Helper()
	select {
	case <-done:
	case <-s.ended:
		s.t.Fatalf("it has ended: %v:\n%s", s.err, s.out.String())
	}
}

// untilReached waits for an event that is to reach or to pause.
func (s *script) untilReached() {
	s.t.Helper()
	reached := make(chan struct{})
	go func() {
		defer close(reached)
		if _, err := os.ReadFile(filepath.Join(s.state, "reached")); err != nil {
			s.t.Error(err)
		}
	}()
	s.until(reached)
}

// untilSaid waits for a line of the script's output.
func (s *script) untilSaid(line string) {
	s.t.Helper()
	s.out.mu.Lock()
	s.out.until, s.out.said = "\n"+line+"\n", make(chan struct{})
	s.out.mu.Unlock()
	s.out.Write(nil) // it may have been said already
	s.until(s.out.said)
}

// goOn lets an event go on that pauses.
func (s *script) goOn() { s.write("go", "go on\n") }

// signal is sent to the whole group, as a terminal does.
func (s *script) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, signal); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the script, and for all that it has started: what lives on has its output open. Its status has to be the one
// that is wanted, and what it said to hold each part.
func (s *script) end(status int, parts ...string) {
	s.t.Helper()
	<-s.ended
	var exit *exec.ExitError
	if s.err != nil && !errors.As(s.err, &exit) {
		s.t.Fatal(s.err)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != status {
		s.t.Errorf("exit status %d, want %d", got, status)
	}
	for _, part := range parts {
		if !strings.Contains(s.out.String(), part) {
			s.t.Errorf("it does not say %q", part)
		}
	}
	if s.t.Failed() {
		s.t.Logf("calls:\n%s\nit said:\n%s", strings.Join(s.calls(), "\n"), s.out.String())
	}
}

// calls are those of the stubs, in their order.
func (s *script) calls() []string {
	text, err := os.ReadFile(filepath.Join(s.state, "calls"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// called is whether a stub was called so, or with further arguments.
func (s *script) called(call string) bool {
	return strings.Contains("\n"+strings.Join(s.calls(), "\n"), "\n"+call)
}

// left are the temporary files that are there still.
func (s *script) left() []string {
	entries, err := os.ReadDir(s.scratch)
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// nothingIsLeft holds the script to it that neither its temporary files are left, nor what an engine made for it.
func (s *script) nothingIsLeft() {
	s.t.Helper()
	left := s.left()
	for _, kind := range []string{"containers", "volumes"} {
		found, err := filepath.Glob(filepath.Join(s.state, kind, "*"))
		if err != nil {
			s.t.Fatal(err)
		}
		left = append(left, found...)
	}
	if len(left) > 0 {
		s.t.Errorf("left: %v", left)
	}
}
