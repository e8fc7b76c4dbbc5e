package scripts

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// freshMakefile is that of a checkout to be tried. STATE is the machine's, which the new root does not have.
const freshMakefile = `
look:
	@test ! -e /etc/hosts
	@test ! -e STATE
	@test -s /etc/resolv.conf
	@test "$$(stat -c %u . .git Makefile | uniq)" = 1000
	@cat changed added; test ! -e ignored && test ! -e deleted
	@go env GOROOT GOPROXY; go version
	@touch /usr/local/go/made 2>/dev/null || echo 'Go is read-only'
	@echo "ok  	example.com/tests	0.1s, CI=$$CI"
fail:
	@echo '--- FAIL: TestThis'; exit 1
hang:
	@sleep 300 & (trap '' INT; sleep 300) & echo hanging; wait
later:
	@echo "this comes later"
`

// newFresh prepares scripts/fresh in a checkout of its own.
func newFresh(t *testing.T, on map[string]string, args ...string) *script {
	t.Helper()
	podtest.NeedRoot(t)
	checkout := t.TempDir()
	text, err := os.ReadFile("../../scripts/fresh")
	if err != nil {
		t.Fatal(err)
	}
	s := newScript(t, filepath.Join(checkout, "scripts", "fresh"), "fresh", on)
	s.cmd.Args = append(s.cmd.Args, args...)
	s.cmd.Env = append(s.cmd.Env, "CI=true")
	files := map[string]string{
		"scripts/fresh": string(text), "Makefile": strings.ReplaceAll(freshMakefile, "STATE", s.state),
		"changed": "not yet\n", "deleted": "", ".gitignore": "ignored\n", "ignored": "",
	}
	for name, text := range files {
		path := filepath.Join(checkout, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		podtest.Executable(t, path, []byte(text))
	}
	commit(t, checkout)
	err = errors.Join(
		os.WriteFile(filepath.Join(checkout, "changed"), []byte("changed since\n"), 0o644),
		os.WriteFile(filepath.Join(checkout, "added"), []byte("added since\n"), 0o644),
		os.Remove(filepath.Join(checkout, "deleted")),
	)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nothingIsMounted looks for what the script may have mounted on this machine.
func (s *script) nothingIsMounted() {
	s.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		s.t.Fatal(err)
	}
	if strings.Contains(string(mounts), s.scratch) {
		s.t.Errorf("mounts are left:\n%s", mounts)
	}
}

func TestFreshRootHasNothingButTheCheckout(t *testing.T) {
	t.Parallel()
	s := newFresh(t, nil, "--release", "trixie", "look", "later")
	s.start()
	s.end(0, "changed since\nadded since\n", "/usr/local/go\nfile:///modules,", "go version go", "Go is read-only",
		"\nok  \texample.com/tests\t0.1s, CI=true\n", "this comes later")
	if !strings.Contains(s.calls()[0], " trixie "+s.scratch) {
		t.Errorf("no root of the release that was named: %s", s.calls())
	}
	s.nothingIsLeft()
	s.nothingIsMounted()
}

func TestFreshFailureIsSeenAndLeavesNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		on     map[string]string
		args   []string
		status int
		says   []string
	}{
		{"a target", nil, []string{"fail", "later"}, 2, []string{"--- FAIL: TestThis", "fresh: make fail failed"}},
		{"the root", map[string]string{"mmdebstrap": "echo 'no such release' >&2; exit 1"}, []string{"later"}, 1,
			[]string{"no such release", "mmdebstrap could not make a root of bookworm"}},
		{"no target", nil, nil, 1, []string{"usage"}},
		{"an option", nil, []string{"--releases", "trixie", "later"}, 1, []string{"unknown option --releases", "usage"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newFresh(t, test.on, test.args...)
			s.start()
			s.end(test.status, test.says...)
			if strings.Contains(s.out.String(), "this comes later") {
				t.Error("it went on")
			}
			s.nothingIsLeft()
			s.nothingIsMounted()
		})
	}
}

func TestFreshSignalsLeaveNothing(t *testing.T) {
	for signal, status := range map[syscall.Signal]int{syscall.SIGHUP: 129, syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		for _, during := range []string{"mmdebstrap", "hang"} {
			t.Run(signal.String()+" during "+during, func(t *testing.T) {
				t.Parallel()
				on := map[string]string{}
				if during == "mmdebstrap" {
					on[during] = reach
				}
				s := newFresh(t, on, "hang")
				s.start()
				if during == "mmdebstrap" {
					s.untilReached()
				} else {
					s.untilSaid("hanging")
				}
				s.signal(signal)
				s.signal(signal)
				s.end(status)
				s.nothingIsLeft()
				s.nothingIsMounted()
			})
		}
	}
	// Then it cannot clean up, and yet nothing of it runs on, and nothing is mounted.
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		s := newFresh(t, nil, "hang")
		s.start()
		s.untilSaid("hanging")
		if err := s.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		s.end(-1)
		s.nothingIsMounted()
	})
}
