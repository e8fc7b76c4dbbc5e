package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit statuses of a command that cannot be run, as POSIX has them for a shell (XCU 2.8.2).
const (
	NotExecutable = 126
	NotFound      = 127
)

// StartError is that of a command that did not run.
type StartError struct {
	// Status is NotExecutable or NotFound.
	Status int
	Cause  error
}

func (e *StartError) Error() string { return e.Cause.Error() }

func (e *StartError) Unwrap() error { return e.Cause }

// Find is the path of a program, which is searched for in $PATH unless its name has a slash. The error is a [StartError].
func Find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", startError(name, err)
	}
	return path, nil
}

func startError(name string, err error) error {
	cause := err
	if of, ok := errors.AsType[*exec.Error](err); ok {
		cause = of.Err
	}
	if of, ok := errors.AsType[*fs.PathError](cause); ok {
		cause = of.Err
	}
	status := NotExecutable
	if errors.Is(cause, exec.ErrNotFound) || errors.Is(cause, fs.ErrNotExist) {
		status = NotFound
	}
	return &StartError{status, fmt.Errorf("run %s: %w", name, cause)}
}

// Process is a command that runs.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has been reaped; then ending is how it ended
	Ending
}

// Ending is how a command ended.
type Ending struct {
	// Status is what it exited with, unless Signal ended it.
	Status int
	Signal syscall.Signal
}

// ExitStatus is that of a program that ends as the command did, as shells have it: 128 and the signal's number.
func (e Ending) ExitStatus() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Status
}

func (e Ending) String() string {
	if e.Signal != 0 {
		return "ended by " + unix.SignalName(e.Signal)
	}
	return fmt.Sprintf("exited with status %d", e.Status)
}

// Start runs the program at path with the arguments, the first of which is its name, and with this process' standard input,
// output and error. Placeholders in the arguments are replaced; the same values are in its environment. start calls what
// it is given in the network namespace that the command is to have. The error is a [StartError].
func Start(path string, arguments []string, interfaces []Interface, start func(func() error) error) (*Process, error) {
	values := Values(interfaces)
	cmd := exec.Command(path) //nolint:gosec // that is what it is for
	cmd.Args = nil
	for _, a := range arguments {
		cmd.Args = append(cmd.Args, Expand(a, values))
	}
	cmd.Env = os.Environ()
	for name, value := range values {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	slices.Sort(cmd.Env[len(cmd.Env)-len(values):])
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	for _, i := range interfaces {
		cmd.ExtraFiles = append(cmd.ExtraFiles, i.Files...)
	}
	if err := start(cmd.Start); err != nil {
		return nil, startError(arguments[0], err)
	}
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	go p.reap()
	return p, nil
}

func (p *Process) reap() {
	defer close(p.ended)
	_ = p.cmd.Wait() // its error is the status
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		p.Signal = status.Signal()
	} else {
		p.Status = status.ExitStatus()
	}
}

// PID is the process' id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the command has ended; from then on Ending says how.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Pass sends the command a signal. One that has ended gets none.
func (p *Process) Pass(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("pass %s on to process %d: %w", s, p.PID(), err)
	}
	return nil
}
