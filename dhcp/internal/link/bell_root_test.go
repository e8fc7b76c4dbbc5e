package link

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOnlyTheEndOfALinkRingsTheBell changes a link in every way that wakes whoever listens to links.
func TestOnlyTheEndOfALinkRingsTheBell(t *testing.T) {
	if os.Geteuid() != 0 || os.Getenv("PODNIC_UNIT") != "" {
		t.Skip("needs root: it makes a network namespace")
	}
	t.Parallel()
	b, err := ringing()
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	// br0 is deleted, and tap0 is taken out of it.
	rings := 0
	if err := b.conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for b.wait() == nil {
		rings++
	}
	if rings == 0 || rings > 2 {
		t.Errorf("the bell rang %d times", rings)
	}
}

// ringing hangs up a bell in a new network namespace and changes links there. The namespace lives as long as the bell.
func ringing() (b bell, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and is never unlocked, so that the thread ends with the goroutine
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if b, err = listenLinks(); err != nil {
			return
		}
		for _, line := range []string{"link add br0 type bridge", "tuntap add tap0 mode tap", "link set tap0 master br0", "link set br0 up",
			"link set tap0 up", "link set tap0 mtu 1400", "link set tap0 down", "link delete br0"} {
			if err = exec.Command("ip", strings.Fields(line)...).Run(); err != nil {
				return
			}
		}
	}()
	<-done
	return b, err
}
