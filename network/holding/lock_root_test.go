package holding

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestANumberIsNotAProcess has another process have the number of the one that took the lock.
func TestANumberIsNotAProcess(t *testing.T) {
	ns := newNamespace(t)
	if err := unix.Flock(int(ns.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	if h := OfLock(ns); len(h) != 1 || h[0].pid != os.Getpid() || h[0].Idle != "" {
		t.Errorf("the lock is held by %+v, and not by this process, which may be a podnic", h)
	}
	cmd := exec.Command("cat")
	input, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it ends with its input
	defer input.Close()
	if h := judge(ns, cmd.Process.Pid, Place(ns)); h.Idle != "it does not have what is locked" {
		t.Errorf("%s is taken for a podnic at work (%q)", h, h.Idle)
	}
}
