package podtest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience bounds each wait for something that takes seconds on a quiet machine, and a minute where that one is emulated.
const Patience = 3 * time.Minute

// Process is a program that runs until it ends by itself, the test ends it, or the test ends.
type Process struct {
	Cmd *exec.Cmd
	// Done is closed when the program has ended; its status is in Cmd then.
	Done <-chan struct{}

	t    testing.TB
	name string
	// drained is closed when all that the program and its children said was read.
	drained chan struct{}

	mu     sync.Mutex
	lines  []string
	waited int           // the lines up to the last one that was waited for
	news   chan struct{} // closed and replaced with each line
}

// Start starts a program whose output, both streams but for one that the command has already, is collected line by line. A
// test that fails shows it under the name.
func Start(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	done := make(chan struct{})
	p := &Process{Cmd: cmd, Done: done, t: t, name: name, drained: make(chan struct{}), news: make(chan struct{})}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// A file, and not a writer: Wait would wait for the children that have it.
	if cmd.Stdout == nil {
		cmd.Stdout = write
	}
	if cmd.Stderr == nil {
		cmd.Stderr = write
	}
	if err := errors.Join(cmd.Start(), write.Close()); err != nil {
		read.Close()
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		_ = cmd.Wait() // the status is in cmd
		close(done)
	}()
	go p.listen(read)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		// A child of the program may have the pipe still; it goes with its namespace.
		read.Close()
		<-p.drained
		if t.Failed() {
			t.Logf("%s said:\n%.20000s", name, p.Text())
		}
	})
	return p
}

func (p *Process) listen(read *os.File) {
	defer close(p.drained)
	in := bufio.NewScanner(read)
	const longest = 1 << 20 // a line of JSON
	for in.Buffer(nil, longest); in.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, in.Text())
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
	}
}

// PID is the id of the process.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Lives tells whether the program has not ended. One that was killed a moment ago may not have been waited for yet.
func (p *Process) Lives() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	after := strings.LastIndexByte(string(stat), ')') // the program's name may have anything in it
	return err == nil && !strings.HasPrefix(string(stat[after+1:]), " Z")
}

// Lines are what the program has said so far.
func (p *Process) Lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

// Text is what the program has said so far.
func (p *Process) Text() string { return strings.Join(p.Lines(), "\n") }

// Output is all that a program has said, once it and those of its children that have its output have ended.
func (p *Process) Output() string {
	p.t.Helper()
	select {
	case <-p.drained:
	case <-time.After(Patience):
		p.t.Fatalf("%s or a child of it does not end", p.name)
	}
	return p.Text()
}

// next looks for a text in the lines that come after the last one that was waited for.
func (p *Process) next(text string) (found bool, news <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, line := range p.lines[p.waited:] {
		if strings.Contains(line, text) {
			p.waited += i + 1
			return true, nil
		}
	}
	return false, p.news
}

// Says waits for a line that contains a text, after the one that was waited for before.
func (p *Process) Says(text string) {
	p.t.Helper()
	if !p.SaysOrEnds(text) {
		p.t.Fatalf("%s ended and did not say %q", p.name, text)
	}
}

// SaysOrEnds is Says for a program that may end without saying it.
func (p *Process) SaysOrEnds(text string) bool {
	p.t.Helper()
	timeout := time.After(Patience)
	for {
		found, news := p.next(text)
		if found {
			return true
		}
		select {
		case <-news:
		case <-p.drained:
			found, _ := p.next(text)
			return found
		case <-timeout:
			p.t.Fatalf("%s does not say %q", p.name, text)
		}
	}
}

// Skip has Says wait for lines that come from now on.
func (p *Process) Skip() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waited = len(p.lines)
}

// Signal sends a signal.
func (p *Process) Signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.Cmd.Process.Signal(signal); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// Wait waits for the program's end and returns its exit status, -1 if a signal ended it.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.Done:
	case <-time.After(Patience):
		p.t.Fatalf("%s does not end", p.name)
	}
	return p.Cmd.ProcessState.ExitCode()
}

// End sends a signal, unless the program has ended, and waits for its end.
func (p *Process) End(signal syscall.Signal) int {
	p.t.Helper()
	if err := p.Cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return p.Wait()
}

// Exits waits for the program's end and checks its status.
func (p *Process) Exits(status int) {
	p.t.Helper()
	if got := p.Wait(); got != status {
		p.t.Errorf("%s: exit status %d, want %d", p.name, got, status)
	}
}

// Run runs a program to its end.
func Run(t testing.TB, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Must runs a program that has to succeed, and returns what it prints on standard output.
func Must(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, errs, status := Run(t, cmd)
	if status != 0 {
		t.Fatalf("%s: exit status %d: %s%s", strings.Join(cmd.Args[max(0, len(cmd.Args)-6):], " "), status, out, errs)
	}
	return out
}
