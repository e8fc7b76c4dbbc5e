package look

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// terminal opens a pseudo-terminal of 24 lines (pty(7)) and returns both of its ends.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx") // not blocking, so that its reads can be called back
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// onTerminal runs a command on a terminal until it ends, or, if it is to be interrupted, until the terminal shows a text.
func (s *site) onTerminal(cmd *exec.Cmd, until string) string {
	s.T.Helper()
	master, slave := terminal(s.T)
	cmd.Stdout = slave
	if err := cmd.Start(); err != nil {
		s.T.Fatal(err)
	}
	slave.Close() // the program has it
	if err := master.SetReadDeadline(time.Now().Add(podtest.Patience)); err != nil {
		s.T.Fatal(err)
	}
	var shown strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := master.Read(buffer) // EIO once nobody has the other end
		shown.Write(buffer[:n])
		if err != nil && err != io.EOF {
			break
		}
		if until != "" && strings.Contains(shown.String(), until) {
			until = ""
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				s.T.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || until != "" {
		s.T.Errorf("%v, %q is not shown: %q", err, until, shown.String())
	}
	return shown.String()
}

// TestColorsAreForTerminals, and for those who want them; --watch draws in one place there, and never more than there is
// room for.
func TestColorsAreForTerminals(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.Must("prepare")
	if out := s.Must("status"); strings.Contains(out, "\x1b") {
		t.Errorf("colours in a pipe: %q", out)
	}
	status := func(env string, args ...string) *exec.Cmd {
		cmd := s.Pod.Command(t.Context(), s.Podnic, append([]string{"status", "--state-dir", s.StateDir}, args...)...)
		cmd.Env = []string{"TERM=xterm", env}
		return cmd
	}
	if out := s.onTerminal(status("A=1"), ""); !strings.Contains(out, "\x1b[") || !strings.Contains(out, "eth0: wired") {
		t.Errorf("no colours on a terminal: %q", out)
	}
	for _, env := range []string{"NO_COLOR=1", "TERM=dumb"} {
		if out := s.onTerminal(status(env), ""); strings.Contains(out, "\x1b") {
			t.Errorf("colours with %s: %q", env, out)
		}
	}
	out := s.onTerminal(status("NO_COLOR=1", "--watch"), "more lines")
	if first, _, _ := strings.Cut(out, "\x1b[J"); !strings.HasPrefix(first, "\x1b[H") || strings.Count(first, "\n") > 23 {
		t.Errorf("%d lines on a terminal of 24: %q", strings.Count(first, "\n"), first)
	}
}

// TestPodNetworkThatWasTakenAwayIsNamed: without the pod's link there is nothing to draw.
func TestPodNetworkThatWasTakenAwayIsNamed(t *testing.T) {
	t.Parallel()
	s := newSite(t, pod.Plain)
	s.Must("prepare")
	s.In(s.Node.Namespace, "ip link delete "+s.Pod.HostLink)
	if out, errs, status := s.Run("status"); status != 2 || out != "" || !strings.Contains(errs, "the pod's network was taken away") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	s.finds("pod", "fail", "the pod's network was taken away")
	s.Must("restore")
}
