package run

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// TestGuestOutlivesAnUpgrade follows docs/upgrading.md under a running guest: podnic alone is ended, its files are replaced by
// those of another version, and that one is run. The guest is not started again and keeps its lease, which the new version
// renews; in the end the new version gives back what the old one took.
func TestGuestOutlivesAnUpgrade(t *testing.T) {
	s := newSite(t, pod.PTP)
	installed := t.TempDir()
	older := filepath.Dir(s.Podnic)
	s.Podnic = filepath.Join(installed, "podnic")
	install(t, installed, filepath.Join(older, "podnic"), filepath.Join(older, "podnic-libvirt"))
	file, path := s.domain()
	console := podtest.Console(t, path)
	first := s.run("--domain", file)
	before := s.Ready().Interfaces[0].Lease
	podtest.Wait(t, console, "guest: ready")
	old := versionOf(t, first)
	first.Signal(syscall.SIGKILL)
	<-first.Done

	const version = "v999.0.0"
	install(t, installed, build(t, version), filepath.Join(older, "podnic-libvirt"))
	second := s.run("--domain", file)
	after := s.Ready().Interfaces[0].Lease
	if now := versionOf(t, second); now == old || !strings.Contains(now, version) {
		t.Fatalf("before, %q ran, and now %q", old, now)
	}
	if after.State != "bound" || after.Address != before.Address || !after.Since.Equal(before.Since) {
		t.Errorf("the lease was %+v, and is %+v", before, after)
	}
	if _, err := s.client().Run(t.Context(), "killall -USR1 udhcpc"); err != nil {
		t.Fatal(err)
	}
	if renewed := podtest.Wait(t, console, "guest: renewed"); !strings.Contains(renewed, "address="+s.Pod.Address.Addr().String()+" ") {
		t.Errorf("the new version has renewed: %s", renewed)
	}
	if err := s.hello(); err != nil {
		t.Errorf("from another pod: %v", err)
	}
	if n := strings.Count(console.Text(), "guest: up"); n != 1 {
		t.Errorf("the guest was started %d times", n)
	}
	second.Signal(syscall.SIGTERM)
	second.Exits(0)
	s.AsBefore()
}

// build builds podnic as make does, as another version.
func build(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "podnic")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-tags=libvirt_dlopen,libvirt_without_lxc",
		"-ldflags", "-s -w -X main.version="+version, "-o", path, "./cmd/podnic")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	podtest.Must(t, cmd)
	return path
}

// install replaces files of a directory by renaming, as package managers do.
func install(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, from := range files {
		b, err := os.ReadFile(from)
		to := filepath.Join(dir, filepath.Base(from))
		if err == nil {
			err = errors.Join(os.WriteFile(to+".new", b, 0o755), os.Rename(to+".new", to))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// versionOf asks the very program that a process runs.
func versionOf(t *testing.T, p *podtest.Process) string {
	t.Helper()
	return podtest.Must(t, exec.Command(fmt.Sprintf("/proc/%d/exe", p.PID()), "version"))
}
