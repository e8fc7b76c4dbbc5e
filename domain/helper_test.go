package domain

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/domain/internal/beside"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// roles are what the test binary is when a test starts it as another program.
var roles = map[string]func(){}

const roleVariable = "PODNIC_TEST_ROLE"

func TestMain(m *testing.M) {
	if play := roles[os.Getenv(roleVariable)]; play != nil {
		play()
		return
	}
	goleak.VerifyTestMain(m)
}

// script is a program of the shell, in the place of podnic-libvirt.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), helperName)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func helperAt(path string, log *zap.Logger) helper {
	return helper{func() (string, error) { return path, nil }, log}
}

// hello is the beginning of a helper, which answers a request for each word that it is given.
const hello = `echo '{"protocol":"podnic-libvirt protocol 4"}'
answer() { id=$((id + 1)); echo "{\"response\":{\"id\":$id$1}}"; }
`

// world is a helper in whose world vm runs, whoever comes: the second process knows of what the first did.
const world = hello + `while read -r request; do
	case $request in
	*'"call":"start"'*) answer ',"domain":{"uuid":"` + vmUUID + `"}' ;;
	*'"call":"look"'*) answer ',"domain":{"state":"running"}' ;;
	*'"call":"shutdown"'*) echo 'libvirt: what is this?' ;;
	*'"call":"destroy"'*)
		echo '{"event":{"uuid":"` + vmUUID + `","ended":true,"how":"other","reason":"the domain was destroyed"}}'
		answer
		;;
	*) answer ;;
	esac
done
`

func TestAHelperThatDoesNotServeIsAnErrorAtOnce(t *testing.T) {
	for name, test := range map[string]struct{ program, want string }{
		"another version": {`echo '{"protocol":"podnic-libvirt protocol 5"}'; exec cat >/dev/null`,
			`PATH speaks "podnic-libvirt protocol 5", this podnic speaks "podnic-libvirt protocol 4": install podnic and podnic-libvirt of the same version`},
		"another program": {`echo hello; exec cat >/dev/null`,
			"PATH is not podnic's helper: invalid character 'h' looking for beginning of value: install podnic and podnic-libvirt of the same version"},
		"says nothing": {`exit 0`,
			"PATH does not start: podnic-libvirt has ended: see what it says in the log, and install the podnic-libvirt that was built for this system"},
		"fails": {`exit 127`,
			"PATH does not start: podnic-libvirt has ended: exit status 127: see what it says in the log, and install the podnic-libvirt that was built for this system"},
	} {
		t.Run(name, func(t *testing.T) {
			path := script(t, test.program)
			start := time.Now()
			_, err := connect(t.Context(), helperAt(path, zap.NewNop()).dial, "qemu:///system", time.Hour, zap.NewNop())
			want := "connect to libvirt at qemu:///system: " + strings.ReplaceAll(test.want, "PATH", path)
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %s", took)
			}
		})
	}
	t.Run("not for this system", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), helperName)
		if err := os.WriteFile(path, []byte("\x7fELF"), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := helperAt(path, zap.NewNop()).dial(t.Context(), "", nil)
		if _, permanent := errors.AsType[permanentError](err); !permanent || !errors.Is(err.(permanentError).error, syscall.ENOEXEC) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheHelperIsLookedFor(t *testing.T) {
	root := t.TempDir()
	executable := filepath.Join(root, "bin", "podnic")
	t.Setenv("PATH", filepath.Join(root, "path"))
	_, err := missing(beside.LocateFrom(executable, helperName))
	want := "podnic's helper for libvirt is missing: there is no program " + root + "/bin/podnic-libvirt or " +
		root + "/libexec/podnic/podnic-libvirt, nor podnic-libvirt in the PATH"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	// From the last place to the first, since each goes before those before it here.
	for _, dir := range []string{"path", "libexec/podnic", "bin"} {
		path := filepath.Join(root, dir, helperName)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if found, _ := missing(beside.LocateFrom(executable, helperName)); found == path {
			t.Errorf("found %s, which cannot be executed", found)
		}
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if found, err := missing(beside.LocateFrom(executable, helperName)); found != path || err != nil {
			t.Errorf("found %q, %v, want %s", found, err, path)
		}
	}
}

func TestAMissingHelperIsAnErrorAtOnce(t *testing.T) {
	nowhere := func() (string, error) { return missing(beside.LocateFrom("/nonexistent/bin/podnic", helperName)) }
	t.Setenv("PATH", "")
	_, err := connect(t.Context(), helper{nowhere, zap.NewNop()}.dial, "", time.Hour, zap.NewNop())
	want := "connect to libvirt at libvirt's default URI: podnic's helper for libvirt is missing: " +
		"there is no program /nonexistent/bin/podnic-libvirt or /nonexistent/libexec/podnic/podnic-libvirt, nor podnic-libvirt in the PATH: " +
		"install podnic-libvirt beside podnic, or use the podnic-launcher image: podnic itself is built without libvirt"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFollowingGoesOnWithAnotherHelper(t *testing.T) {
	for name, test := range map[string]struct {
		fail func(*process)
		why  string
	}{
		"killed": {(*process).kill, "podnic-libvirt has ended: signal: killed"},
		// Asked to shut the guest down, this one says something that is no message.
		"babbling": {func(p *process) { _ = p.shutdown(vmUUID) }, "read what podnic-libvirt says: invalid character 'l' looking for beginning of value"},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zapcore.InfoLevel)
			again := make(chan struct{})
			log := zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
				if e.Message == "connected to libvirt again" {
					close(again)
				}
				return nil
			}))
			c, err := connect(t.Context(), helperAt(script(t, world), log).dial, "", time.Minute, log)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			g, err := c.Start([]byte(vmXML))
			if err != nil {
				t.Fatal(err)
			}
			f := follow(t, g)
			first := current(t, c)
			test.fail(first)
			<-again
			if current(t, c) == first {
				t.Error("the helper is the same")
			}
			if err := g.Stop(t.Context(), 0); err != nil {
				t.Error(err)
			}
			if got, want := f.wait(t), (Ending{DestroyedAfterGrace, "the domain was destroyed"}); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			if first.cmd.ProcessState == nil {
				t.Error("the helper was not reaped")
			}
			lost := logs.FilterMessageSnippet("is lost").All()
			if len(lost) != 1 || lost[0].ContextMap()["error"] != test.why {
				t.Errorf("logged %v", lost)
			}
		})
	}
}

func TestAHelperThatHangsIsEnded(t *testing.T) {
	t.Run("connecting", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := helperAt(script(t, hello+"exec sleep 1000"), zap.NewNop()).dial(ctx, "", nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("asked to end", func(t *testing.T) {
		s, err := helperAt(script(t, hello+"read -r request; answer; exec sleep 1000"), zap.NewNop()).dial(t.Context(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		s.close()
		if err := s.shutdown(vmUUID); err == nil {
			t.Error("a call succeeded")
		}
	})
	t.Run("written to", func(t *testing.T) {
		s, err := helperAt(script(t, hello+"read -r request; answer; exec sleep 1000"), zap.NewNop()).dial(t.Context(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		// More than a pipe holds, of which nothing is read.
		writing := make(chan error)
		go func() { _, err := s.start(make([]byte, domainxml.MaxSize)); writing <- err }()
		s.close()
		if err := <-writing; err == nil {
			t.Error("the call succeeded")
		}
	})
}

func TestWhatTheHelperComplainsOfIsLogged(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	program := "printf 'one\\ntwo, unfinished' >&2\n" + world
	s, err := helperAt(script(t, program), zap.New(core)).dial(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	var lines []string
	for _, e := range logs.All() {
		lines = append(lines, e.LoggerName+": "+e.Message)
	}
	if got, want := strings.Join(lines, "\n"), "podnic-libvirt: one\npodnic-libvirt: two, unfinished"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// current is the helper of a connection.
func current(t *testing.T, c *Connection) *process {
	t.Helper()
	s, err := c.conn()
	if err != nil {
		t.Fatal(err)
	}
	return s.(*process)
}
