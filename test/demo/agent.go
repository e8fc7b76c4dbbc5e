package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/pod"
)

// grace is what podnic gives the guest to shut down when the demo is interrupted; patience is what the demo gives podnic.
const (
	grace    = 10 * time.Second
	patience = 20 * time.Second
)

// agent is a running `podnic run`.
type agent struct {
	podnic   string
	pod      *pod.Pod
	stateDir string
	began    time.Time
	events   *os.File      // inotify on the state directory
	news     chan struct{} // holds one when there is something new to see
	exited   chan struct{}
	err      error // how it exited; valid once exited is closed
	end      func()

	mu   sync.Mutex
	said bytes.Buffer // its log
}

// timelineEvent is one of the steps that status reports.
type timelineEvent struct {
	Event        string    `json:"event"`
	At           time.Time `json:"at"`
	Milliseconds float64   `json:"milliseconds"`
}

// report is what the demo needs of `podnic status -o json`.
type report struct {
	Phase    string          `json:"phase"`
	Timeline []timelineEvent `json:"timeline"`
}

// startAgent starts podnic run for a guest that the arguments name.
func startAgent(ctx context.Context, podnic string, p *pod.Pod, args ...string) (*agent, error) {
	a := &agent{
		podnic:   podnic,
		pod:      p,
		stateDir: filepath.Join(p.Dir, "state"),
		news:     make(chan struct{}, 1),
		exited:   make(chan struct{}),
	}
	if err := os.MkdirAll(filepath.Join(a.stateDir, "eth0"), 0o755); err != nil {
		return nil, err
	}
	if err := a.watchState(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := p.Command(ctx, podnic, append([]string{"run", "--state-dir", a.stateDir, "--grace", grace.String(), "--log-format", "console"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C reaches it once, through the context
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	// A writer and not a pipe: Wait then gives up on it, too, should a child of podnic hold it open.
	cmd.Stderr = a
	a.began = time.Now()
	if err := cmd.Start(); err != nil {
		cancel()
		a.events.Close()
		return nil, fmt.Errorf("start podnic run: %w", err)
	}
	a.end = func() {
		cancel()
		<-a.exited
	}
	go func() {
		a.err = cmd.Wait()
		a.events.Close()
		close(a.exited)
	}()
	return a, nil
}

// Write takes what the program says on its standard error.
func (a *agent) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tell()
	return a.said.Write(p)
}

// watchState tells of each change in the interface's part of the state directory, where podnic replaces a file at each event.
func (a *agent) watchState() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	a.events = os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, filepath.Join(a.stateDir, "eth0"), unix.IN_CREATE|unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_DELETE); err != nil {
		a.events.Close()
		return fmt.Errorf("watch %s: %w", a.stateDir, err)
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			if _, err := a.events.Read(buffer); err != nil {
				return // closed
			}
			a.tell()
		}
	}()
	return nil
}

func (a *agent) tell() {
	select {
	case a.news <- struct{}{}:
	default: // there is something to see already
	}
}

// untilReady shows each event of the timeline once, until the guest has taken its lease.
func (a *agent) untilReady(ctx context.Context, show func(timelineEvent, time.Duration)) error {
	shown := 0
	for {
		select {
		case <-a.news:
		case <-a.exited:
			return fmt.Errorf("podnic run ended before the guest was ready: %w", a.exit())
		case <-ctx.Done():
			return fmt.Errorf("wait for the guest to be ready: %w", ctx.Err())
		}
		out, err := a.status(ctx, "-o", "json")
		if err != nil {
			continue // there may be nothing to report yet; podnic's end and the context's are noticed above
		}
		var r report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return fmt.Errorf("podnic status -o json: %w", err)
		}
		for ; shown < len(r.Timeline); shown++ {
			show(r.Timeline[shown], r.Timeline[shown].At.Sub(a.began))
		}
		if r.Phase == "ready" {
			return nil
		}
	}
}

// status runs `podnic status` in the pod.
func (a *agent) status(ctx context.Context, args ...string) (string, error) {
	cmd := a.pod.Command(ctx, a.podnic, append([]string{"status", "--state-dir", a.stateDir}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("podnic status: %w", err)
	}
	return string(out), nil
}

// wait returns when the program has ended, with an error unless its status is 0.
func (a *agent) wait() error {
	<-a.exited
	if a.err != nil {
		return fmt.Errorf("podnic run: %w", a.err)
	}
	return nil
}

// exit is how the program ended, also when it claims success.
func (a *agent) exit() error {
	if a.err != nil {
		return a.err
	}
	return errors.New("exit status 0")
}

// log is what the program said so far.
func (a *agent) log() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said.String()
}
