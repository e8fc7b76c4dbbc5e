package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podnic/podnic/cmd/agent/trace"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"golang.org/x/sys/unix"
)

// TestTraceTellsThatItsCaptureCouldNotBeClosed: some file systems say only at close that what was written is lost. Here the
// descriptor is closed behind the program's back.
func TestTraceTellsThatItsCaptureCouldNotBeClosed(t *testing.T) {
	podtest.NeedRoot(t)
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: pod.PTP})
	req := network.Request{Namespace: p.Path, StateDir: t.TempDir(), LockTimeout: 10 * time.Second, Options: plan.Options{Tap: "tap0"}}
	if _, err := network.Prepare(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "capture.pcapng")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := &app{started: time.Now(), out: &bytes.Buffer{}, err: closer{t, file}}
	err := a.trace(ctx, req, trace.Limits{}, file, false)
	if err == nil || !strings.Contains(err.Error(), "capture") {
		t.Errorf("the error is %v", err)
	}
}

// closer closes each descriptor of a file as soon as it is told something.
type closer struct {
	t    *testing.T
	file string
}

func (c closer) Write(b []byte) (int, error) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		c.t.Error(err)
	}
	for _, fd := range fds {
		if path, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && path == c.file {
			n, _ := strconv.Atoi(fd.Name())
			if err := unix.Close(n); err != nil {
				c.t.Error(err)
			}
		}
	}
	return len(b), nil
}
