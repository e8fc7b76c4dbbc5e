package trust

import (
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// What podnic wrote before interfaces had directories (at 351c315, prepare and serve in this pod), with the ids of a
// namespace, a link and a process that are no more.
//
//go:embed testdata/record.json
var recordOfVersion1 string

//go:embed testdata/state.json
var stateOfVersion1 string

// first puts files of version 1 into a state directory that is root's own, for a namespace that is wired, in the place of
// those that are there. pid is who serves.
func (s *site) first(pid int) {
	s.T.Helper()
	if err := os.Chmod(s.StateDir, 0o755); err != nil {
		s.T.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.StateDir, "eth0")); err != nil {
		s.T.Fatal(err)
	}
	adapt := func(text string) string {
		for pattern, with := range map[string]string{
			`"index": \d+`: fmt.Sprintf(`"index": %d`, s.index), `"pid": \d+`: fmt.Sprintf(`"pid": %d`, pid),
			`0a:58:0a:f4:01:05`: s.MAC.String(), `fe80::858:aff:fef4:105`: s.linkLocal(),
		} {
			text = regexp.MustCompile(pattern).ReplaceAllString(text, with)
		}
		return podtest.Recorded(s.T, s.Pod.Namespace, text)
	}
	s.write("state/record.json", adapt(recordOfVersion1), 0o600)
	s.write("state/state.json", adapt(stateOfVersion1), 0o644)
}

// linkLocal is the address that the kernel makes of the MAC (RFC 4291, appendix A).
func (s *site) linkLocal() string {
	m := s.MAC
	ip := net.IP{0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}
	return ip.String()
}

// TestVersion1IsReadAndMoves when the wiring is changed, and what stays in its place keeps an older podnic off.
func TestVersion1IsReadAndMoves(t *testing.T) {
	pod := newSite(t)
	t.Run("restore", func(t *testing.T) {
		s := pod.in(t)
		s.run(0, nil, "prepare")
		s.first(1)
		if out := s.run(0, nil, "restore"); strings.Contains(out, "warning") {
			t.Errorf("restore warns: %s", out)
		}
		s.AsBefore()
		if left := podtest.Files(t, s.StateDir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	t.Run("prepare", func(t *testing.T) {
		s := pod.in(t)
		s.run(0, nil, "prepare")
		s.first(1)
		s.run(0, nil, "status") // changes nothing
		if left := podtest.Files(t, s.StateDir); strings.Join(left, " ") != "record.json state.json" {
			t.Errorf("after status there are %v", left)
		}
		if out := s.run(0, []string{"wired already"}, "prepare"); strings.Contains(out, "rebuilt") {
			t.Errorf("the record was lost: %s", out)
		}
		// An older podnic refuses a record of which the version is above 1.
		if text, err := os.ReadFile(filepath.Join(s.StateDir, "record.json")); err != nil || string(text) != "{\"version\":2}\n" {
			t.Errorf("in the place of version 1 there is %q, %v", text, err)
		}
		if text, err := os.ReadFile(filepath.Join(s.StateDir, "eth0", "record.json")); err != nil || !strings.Contains(string(text), `"version": 2`) {
			t.Errorf("the record is %q, %v", text, err)
		}
		s.run(0, nil, "restore")
		s.AsBefore()
		if left := podtest.Files(t, s.StateDir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	t.Run("in a directory that others can write", func(t *testing.T) {
		s := pod.in(t)
		s.run(0, nil, "prepare")
		s.first(1)
		if err := os.Chmod(s.StateDir, 0o777); err != nil {
			t.Fatal(err)
		}
		s.run(0, []string{"user 0 owns it (mode drwxrwxrwx)", "rebuilt"}, "restore")
		s.AsBefore()
	})
}

// TestOlderServerKeepsItsFiles while it serves. It has the socket of who serves, as one of today has.
func TestOlderServerKeepsItsFiles(t *testing.T) {
	s := newSite(t).in(t)
	s.run(0, nil, "prepare")
	older := s.squat(0)
	s.first(older.PID())
	s.run(0, []string{"serving"}, "status") // is an event of its timeline
	process := []string{fmt.Sprintf("process %d", older.PID()), "older"}
	s.run(2, process, "restore", "--force")
	s.run(2, process, "restore")
	s.run(2, []string{fmt.Sprintf("process %d", older.PID())}, "serve")
	s.run(0, nil, "prepare")
	if left := podtest.Files(t, s.StateDir); strings.Join(left, " ") != "record.json state.json" {
		t.Errorf("with an older server there are %v", left)
	}
	older.End(syscall.SIGKILL)
	s.run(0, nil, "prepare")
	s.run(0, nil, "restore", "--force")
	s.AsBefore()
	if left := podtest.Files(t, s.StateDir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
