package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/internal/process"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestEndWithoutLibvirt takes the daemon away as podnic is asked to end, as a container's stop does that is one signal for
// all in it. What podnic cannot ask libvirt, it asks the tap: a guest that is gone is over, one that lives is named, and
// ended where that is wanted.
func TestEndWithoutLibvirt(t *testing.T) {
	s := newSite(t, pod.PTP)
	for _, test := range []struct {
		name   string
		args   []string
		signal func(a *podtest.Process, qemu int) // after the daemon is gone
		status int
		says   []string // QEMU for the emulator's process
		lives  bool     // the guest has what it had, in the end
	}{
		{
			name:   "the guest goes too",
			signal: func(a *podtest.Process, qemu int) { s.end(qemu); a.Signal(syscall.SIGTERM) },
			status: 1, says: []string{"nobody holds tap0"},
		},
		{
			name:   "the guest goes after the signal",
			signal: func(a *podtest.Process, qemu int) { a.Signal(syscall.SIGTERM); a.Says("asking the guest"); s.end(qemu) },
			status: 1, says: []string{"nobody holds tap0"},
		},
		{
			name: "the guest stays",
			signal: func(a *podtest.Process, _ int) {
				a.Signal(syscall.SIGTERM)
				a.Says("has not ended")
				a.Signal(syscall.SIGTERM)
			},
			status: 3, says: []string{"tap0 is held by QEMU", "--kill-orphan"}, lives: true,
		},
		{
			name:   "the guest is ended",
			args:   []string{"--kill-orphan"},
			signal: func(a *podtest.Process, _ int) { a.Signal(syscall.SIGTERM) },
			status: 7, says: []string{"ended QEMU"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.T = t
			file, path := s.domain("podnic.deaf")
			console := podtest.Console(t, path)
			a := s.run(append([]string{"--domain", file, "--grace", "500ms"}, test.args...)...)
			podtest.Wait(t, console, "guest: ready")
			ids, err := s.libvirtd.QEMU()
			if err != nil || len(ids) != 1 {
				t.Fatalf("QEMU's processes: %v, %v", ids, err)
			}
			if err := s.libvirtd.Kill(); err != nil {
				t.Fatal(err)
			}
			test.signal(a, ids[0])
			a.Exits(test.status)
			for _, words := range test.says {
				words = strings.Replace(words, "QEMU", fmt.Sprintf("process %d (qemu-system-x86)", ids[0]), 1)
				if !strings.Contains(a.Output(), words) {
					t.Errorf("it does not say %q", words)
				}
			}
			if test.lives {
				if err := s.hello(); err != nil {
					t.Errorf("the guest has lost its network: %v", err)
				}
				s.end(ids[0])
				if out, errs, status := s.Run("restore"); status != 0 {
					t.Errorf("restore: exit status %d: %s%s", status, out, errs)
				}
			}
			if left, err := s.libvirtd.QEMU(); err != nil || len(left) > 0 {
				t.Errorf("QEMU still runs: %v, %v", left, err)
			}
			s.AsBefore()
			if err := s.libvirtd.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// end kills a process and returns when it is gone.
func (s *site) end(id int) {
	s.T.Helper()
	if err := process.End(s.T.Context(), id, syscall.SIGKILL); err != nil {
		s.T.Fatal(err)
	}
}

// TestSecondSignalHurriesAGuestThatWasBeingStarted sends the first signal while libvirt starts the guest, and holds that up
// by a hook of libvirt's. The second one must not be taken for the first.
func TestSecondSignalHurriesAGuestThatWasBeingStarted(t *testing.T) {
	s := newSite(t, pod.PTP)
	begun, open := s.holdUp()
	file, path := s.domain("podnic.deaf")
	console := podtest.Console(t, path)
	a := s.run("--domain", file, "--grace", "1h")
	s.pass(begun, os.O_RDONLY)
	a.Signal(syscall.SIGTERM)
	a.Says("asked to end")
	s.pass(open, os.O_WRONLY)
	podtest.Wait(t, console, "guest: up")
	a.Signal(syscall.SIGTERM)
	a.Exits(7)
	s.AsBefore()
}

// TestGuestOfALostStartKeepsItsNetwork takes the daemon away while it starts the guest, whose tap is held by then: nobody can
// say whether the guest runs, so its network is not taken away.
func TestGuestOfALostStartKeepsItsNetwork(t *testing.T) {
	s := newSite(t, pod.PTP)
	begun, _ := s.holdUp()
	file, _ := s.domain()
	a := s.run("--domain", file)
	s.pass(begun, os.O_RDONLY)
	tap := podtest.HoldTap(t, s.Pod.Namespace, "tap0")
	if err := s.libvirtd.Kill(); err != nil {
		t.Fatal(err)
	}
	a.Exits(3)
	if words := fmt.Sprintf("tap0 is held by process %d", os.Getpid()); !strings.Contains(a.Output(), words) && !strings.Contains(a.Output(), "tap0 is held by a process that") {
		t.Errorf("it does not say %q", words)
	}
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	if out, errs, status := s.Run("restore"); status != 0 {
		t.Errorf("restore: exit status %d: %s%s", status, out, errs)
	}
	s.AsBefore()
}

// holdUp has libvirt's hook wait before each start of a guest: it writes to one FIFO, and goes on when the other was written
// to.
func (s *site) holdUp() (begun, open string) {
	t := s.T
	t.Helper()
	gate := t.TempDir()
	begun, open = filepath.Join(gate, "begun"), filepath.Join(gate, "open")
	for _, fifo := range []string{begun, open} {
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf("#!/bin/sh\n[ \"$2\" = prepare ] || exit 0\necho >%s\ncat <%s\n", begun, open)
	install := s.libvirtd.Command(t.Context(), "sh", "-ec", `mkdir -p /etc/libvirt/hooks; cat >/etc/libvirt/hooks/qemu; chmod +x /etc/libvirt/hooks/qemu`)
	install.Stdin = strings.NewReader(script)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := s.libvirtd.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	return begun, open
}

// pass opens a FIFO, once the other side does, and closes it when that has said all.
func (s *site) pass(fifo string, mode int) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), podtest.Patience)
	defer cancel()
	opened := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(fifo, mode, 0)
		if err == nil && mode == os.O_RDONLY {
			_, err = io.Copy(io.Discard, f) // who writes must not lose its reader
		}
		if err == nil {
			err = f.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		if err != nil {
			s.T.Fatal(err)
		}
	case <-ctx.Done():
		s.T.Fatalf("nobody opens %s", fifo)
	}
}
