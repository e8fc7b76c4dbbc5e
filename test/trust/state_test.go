package trust

import (
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// secret is what nobody but root may read, in a file that the attacker has podnic find.
const secret = "what is nobody's business"

// forge leaves a record of another address, as somebody could write it who knows podnic, where the attacker may read it, and
// the secret beside it.
func (s *site) forge() {
	s.T.Helper()
	record, err := os.ReadFile(filepath.Join(s.StateDir, "eth0", "record.json"))
	if err != nil {
		s.T.Fatal(err)
	}
	forged := strings.ReplaceAll(string(record), "10.244.1.5", "10.244.1.66")
	s.write("forged.json", forged, 0o644)
	s.write("first.json", strings.Replace(forged, `"version": 2`, `"version": 1`, 1), 0o644)
	s.write("secret", secret, 0o600)
}

func (s *site) write(name, text string, mode fs.FileMode) {
	s.T.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode); err != nil {
		s.T.Fatal(err)
	}
}

// tree is all that is below the directory: names, kinds, owners, modes, links, and what is in the files.
func (s *site) tree() string {
	s.T.Helper()
	var b strings.Builder
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d %d", strings.TrimPrefix(path, s.dir), info.Mode(), stat.Uid, stat.Nlink)
		switch {
		case info.Mode().IsRegular():
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, " %q %v", text, err)
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			fmt.Fprintf(&b, " %s %v", to, err)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return b.String()
}

func (s *site) untouched(before string) {
	s.T.Helper()
	if after := s.tree(); after != before {
		s.T.Errorf("what is not podnic's was touched; it was\n%s\nand is\n%s", before, after)
	}
}

const away = "mv state/eth0 state/gone\n"

// TestLostRecordIsNotTakenFromOthers has the emulator's user put something else in the place of a record.
func TestLostRecordIsNotTakenFromOthers(t *testing.T) {
	pod := newSite(t)
	for _, attack := range []struct {
		name, script string
		words        []string // what restore says
	}{
		{"a directory that everybody can write", away + "mkdir state/eth0; cp forged.json state/eth0/record.json",
			[]string{"state/eth0 is not podnic's own: user 107 owns it (mode drwxrwxrwx)"}},
		{"a directory of another owner", away + "umask 022; mkdir state/eth0; cp forged.json state/eth0/record.json",
			[]string{"user 107 owns it (mode drwxr-xr-x)"}},
		{"a link to another's directory", away + "mkdir evil; cp forged.json evil/record.json; ln -s ../evil state/eth0", []string{"not a directory"}},
		{"a link to podnic's own directory", away + "ln -s gone state/eth0", []string{"not a directory"}},
		{"a fifo", away + "mkfifo state/eth0", []string{"not a directory"}},
		{"a socket", away + squatName + "=$PWD/state/eth0 " + squatter, []string{"not a directory"}},
		{"a file", away + "cp forged.json state/eth0", []string{"not a directory"}},
		{"a fifo as the record", away + "umask 022; mkdir state/eth0; mkfifo state/eth0/record.json", []string{"user 107 owns it"}},
		{"a link as the record", away + "umask 022; mkdir state/eth0; ln -s ../../secret state/eth0/record.json", []string{"user 107 owns it"}},
		{"another name", "mv state/eth0 state/net1", nil},
		{"podnic's own record of another interface", away + "mv state/net1 state/eth0", []string{"state/eth0/record.json", "of the interface net1"}},
		{"a record of version 1", away + "cp first.json state/record.json", []string{"state is not podnic's own: user 0 owns it (mode drwxrwxrwx)"}},
		{"a fifo in the place of version 1", away + "mkfifo state/record.json", []string{"state is not podnic's own"}},
		{"another state directory", "mv state gone; mkdir state state/eth0; cp forged.json state/eth0/record.json; cp first.json state/record.json",
			[]string{"user 107 owns it"}},
		{"a link to another state directory", "mv state gone; mkdir evil evil/eth0; cp forged.json evil/eth0/record.json; ln -s evil state",
			[]string{"symbolic link that user 107 made"}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			s := pod.in(t)
			s.run(0, nil, "prepare")
			s.forge()
			if strings.Contains(attack.script, "state/net1") { // of an interface that podnic had, in an earlier life
				own, err := os.ReadFile(filepath.Join(s.dir, "forged.json"))
				if err == nil {
					err = os.Mkdir(filepath.Join(s.StateDir, "net1"), 0o755)
				}
				if err == nil && strings.Contains(attack.script, "state/net1 state/eth0") {
					s.write("state/net1/record.json", strings.ReplaceAll(string(own), `"eth0"`, `"net1"`), 0o600)
				} else if err == nil {
					err = os.Remove(filepath.Join(s.StateDir, "net1"))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			s.attack(attack.script)
			before := s.tree()
			if out := s.run(0, attack.words, "status"); strings.Contains(out, "10.244.1.66") {
				t.Errorf("status believes the forged record: %s", out)
			}
			s.run(0, append(attack.words, "the original was rebuilt"), "restore")
			s.AsBefore()
			s.untouched(before)
		})
	}
}

// TestNothingIsWrittenWhereOthersCan has the directories be there before podnic.
func TestNothingIsWrittenWhereOthersCan(t *testing.T) {
	pod := newSite(t)
	for _, squat := range []struct{ name, script, word string }{
		{"a directory", "mkdir state/eth0", "user 107 owns it (mode drwxrwxrwx)"},
		{"a directory of another owner", "umask 022; mkdir state/eth0", "user 107 owns it (mode drwxr-xr-x)"},
		{"a link", "mkdir evil; ln -s ../evil state/eth0", "not a directory"},
		{"a link to nothing", "ln -s /nowhere/at/all state/eth0", "not a directory"},
		{"a fifo", "mkfifo state/eth0", "not a directory"},
		{"a link as the state directory", "rmdir state; mkdir evil; ln -s evil state", "symbolic link that user 107 made"},
	} {
		t.Run(squat.name, func(t *testing.T) {
			s := pod.in(t)
			s.attack(squat.script)
			before := s.tree()
			s.run(2, []string{squat.word, "--state-dir"}, "prepare")
			s.run(1, []string{squat.word}, "doctor", "--only", "state-dir")
			s.run(0, nil, "status")
			s.AsBefore()
			s.untouched(before)
		})
	}
	t.Run("while it is served", func(t *testing.T) {
		s := pod.in(t)
		s.run(0, nil, "prepare")
		s.attack(away + "umask 022; mkdir state/eth0; echo '{}' >state/eth0/state.json")
		before := s.tree()
		server := s.Serve()
		if status := server.End(syscall.SIGTERM); status != 0 || !strings.Contains(server.Output(), "user 107 owns it") {
			t.Errorf("serve: exit status %d: %s", status, server.Output())
		}
		s.run(0, nil, "restore")
		s.AsBefore()
		s.untouched(before)
	})
	// A server goes on writing into the directory that it opened, wherever that is moved.
	t.Run("when it is moved", func(t *testing.T) {
		s := pod.in(t)
		s.run(0, nil, "prepare")
		server := s.Serve()
		s.attack(away + "mkdir evil; ln -s ../evil state/eth0")
		if status := server.End(syscall.SIGTERM); status != 0 {
			t.Errorf("serve: exit status %d", status)
		}
		if left, err := os.ReadDir(filepath.Join(s.dir, "evil")); err != nil || len(left) > 0 {
			t.Errorf("the server wrote into another's directory: %v, %v", left, err)
		}
		s.run(0, nil, "restore")
		s.AsBefore()
	})
}

// TestGroupMayNotWriteEither has somebody give root's directory away.
func TestGroupMayNotWriteEither(t *testing.T) {
	s := newSite(t).in(t)
	s.run(0, nil, "prepare")
	if err := os.Chmod(filepath.Join(s.StateDir, "eth0"), 0o775); err != nil {
		t.Fatal(err)
	}
	s.run(2, []string{"user 0 owns it (mode drwxrwxr-x)"}, "prepare")
	s.run(0, []string{"user 0 owns it (mode drwxrwxr-x)", "rebuilt"}, "restore")
	s.AsBefore()
}

// TestLogsAreNotLinksOfOthers has links to a file of root's where the logs and the lock of the hook are, or were.
func TestLogsAreNotLinksOfOthers(t *testing.T) {
	pod := newSite(t)
	files := "for f in hook.log serve.log hook.lock; do ln -s \"$PWD/secret\" $1/$f; done\n"
	t.Run("in the directory of what has no interface", func(t *testing.T) {
		s := pod.in(t)
		s.write("secret", secret, 0o600)
		s.attack("umask 022; mkdir state/.podnic\nset -- state/.podnic\n" + files)
		before := s.tree()
		s.says(2, []string{".podnic is not podnic's own: user 107 owns it"}, s.hook("prepare"))
		s.says(0, nil, s.hook("release"))
		s.run(1, []string{".podnic is not podnic's own"}, "doctor", "--only", "state-dir")
		s.AsBefore()
		s.untouched(before)
	})
	t.Run("where older podnics had them", func(t *testing.T) {
		s := pod.in(t)
		s.write("secret", secret, 0o600)
		s.attack("set -- state\n" + files)
		s.says(0, nil, s.hook("prepare"))
		s.says(0, nil, s.hook("release"))
		s.AsBefore()
		if text, err := os.ReadFile(filepath.Join(s.dir, "secret")); err != nil || string(text) != secret {
			t.Errorf("root wrote into the file: %q, %v", text, err)
		}
	})
	// Taken away while a guest runs, neither keeps the pod from its interface.
	t.Run("once the guest has ended", func(t *testing.T) {
		s := pod.in(t)
		s.says(0, nil, s.hook("prepare"))
		s.attack("mv state/.podnic state/gone; mkdir state/.podnic; mkfifo state/.podnic/hook.lock state/.podnic/hook.log")
		s.says(0, nil, s.hook("release"))
		s.AsBefore()
	})
}

// TestBundleHoldsNothingOfLinks has links to a file that only root may read where a bundle takes files from.
func TestBundleHoldsNothingOfLinks(t *testing.T) {
	s := newSite(t).in(t)
	s.write("secret", secret, 0o600)
	s.attack(`umask 022; mkdir state/eth0 state/.podnic
for f in eth0/record.json eth0/state.json .podnic/hook.log .podnic/x.log x.log hook.log record.json state.json; do ln -s "$PWD/secret" state/$f; done`)
	out, errs, status := podtest.Run(s.T, s.command("doctor", "bundle", "-"))
	archive, err := gzip.NewReader(strings.NewReader(out))
	if status != 0 || err != nil {
		t.Fatalf("status %d, %v: %s", status, err, errs)
	}
	text, err := io.ReadAll(archive)
	if err != nil || strings.Contains(string(text), secret) || !strings.Contains(string(text), "is not podnic's own") {
		t.Errorf("%v; the bundle holds the secret, or does not say what it leaves out:\n%s", err, text)
	}
}

// as is a command of podnic that a user runs with the capability to listen, and no other.
func (s *site) as(user string, args ...string) *exec.Cmd {
	options := []string{"--reuid", user, "--clear-groups", "--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw", s.Podnic}
	return s.Pod.Command(s.T.Context(), "setpriv", append(append(options, args...), "--state-dir", s.StateDir)...)
}

// TestStatusIsOfWhoServes has nobody serve, as in a pod that the CNI plugin wires, and others ask.
func TestStatusIsOfWhoServes(t *testing.T) {
	s := newSite(t).in(t)
	s.run(0, nil, "prepare")
	if err := os.Rename(filepath.Join(s.StateDir, "eth0"), filepath.Join(s.dir, "away")); err != nil { // the record is not in the pod
		t.Fatal(err)
	}
	server := podtest.Start(t, "podnic serve", s.as("65534", "serve"))
	const told = `"event": "serving"`
	podtest.Until(s.T, "the server's state", func() bool {
		out, _, _ := podtest.Run(s.T, s.as("65534", "status", "-o", "json"))
		return strings.Contains(out, told)
	})
	for _, user := range []string{"0", "107"} {
		if out := s.says(0, []string{told}, s.as(user, "status", "-o", "json")); strings.Contains(out, "own: user") {
			t.Errorf("status warns of the server's directory: %s", out)
		}
		if out := s.says(0, nil, s.as(user, "doctor", "--only", "state-dir,wiring", "--ignore", "wiring")); strings.Contains(out, "own: user") {
			t.Errorf("so does doctor: %s", out)
		}
	}
	// Not of somebody else than that one.
	s.attack("mkdir -m 755 evil; cp state/eth0/state.json evil/; mv state/eth0 state/gone; mv evil state/eth0")
	if out := s.says(0, []string{"user 107 owns it"}, s.as("0", "status", "-o", "json")); strings.Contains(out, told) {
		t.Errorf("status believes another than who serves: %s", out)
	}
	server.End(syscall.SIGTERM)
	s.run(0, nil, "restore")
	s.AsBefore()
}

// TestServerOfAnotherUserHasADirectoryBeside that of root, who has prepared in the same state directory. It goes on where it was,
// and restore forgets it.
func TestServerOfAnotherUserHasADirectoryBeside(t *testing.T) {
	s := newSite(t).in(t)
	s.run(0, nil, "prepare")
	before := podtest.Files(t, s.StateDir)
	server := podtest.Start(t, "podnic serve", s.as("65534", "serve"))
	const told = `"event": "serving"`
	podtest.Until(s.T, "the server's state", func() bool {
		out, _, _ := podtest.Run(s.T, s.command("status", "-o", "json"))
		return strings.Contains(out, told) && strings.Contains(out, `"event": "wired"`)
	})
	if after := podtest.Files(t, s.StateDir); len(after) != len(before)+1 || after[0] != ".eth0.65534/state.json" {
		t.Errorf("there are %v", after)
	}
	// A directory that has another's name is not that user's.
	s.attack("mv state/.eth0.65534 state/gone; mkdir -m 755 state/.eth0.65534; cp state/gone/state.json state/.eth0.65534")
	if out := s.run(0, nil, "status", "-o", "json"); strings.Contains(out, told) {
		t.Errorf("status believes another than who serves: %s", out)
	}
	s.attack("rm -r state/.eth0.65534; mv state/gone state/.eth0.65534")
	server.End(syscall.SIGTERM)
	s.run(0, nil, "restore")
	s.AsBefore()
	if left := podtest.Files(t, s.StateDir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// bystander is a process of root's that nobody may end.
func (s *site) bystander() *podtest.Process {
	s.T.Helper()
	return podtest.Start(s.T, "a bystander", exec.Command("sleep", "600"))
}

// lives fails the test if a process has ended.
func (s *site) lives(what string, p *podtest.Process) {
	s.T.Helper()
	if !p.Lives() {
		s.T.Errorf("%s was ended", what)
	}
}

// forgedState writes the state of a detached server that is another process, where the attacker may read it.
func (s *site) forgedState(pid int) {
	s.T.Helper()
	state, err := os.ReadFile(filepath.Join(s.StateDir, "eth0", "state.json"))
	stat, statErr := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || statErr != nil {
		s.T.Fatal(err, statErr)
	}
	start := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[22-3]
	server := fmt.Sprintf("{\n  \"server\": {\"pid\": %d, \"start\": %s, \"detached\": true},", pid, start)
	s.write("state-forged.json", strings.Replace(strings.Replace(string(state), `"server":`, `"was":`, 1), "{", server, 1), 0o644)
}

// takeForgedState has the attacker put it in the place of podnic's.
func (s *site) takeForgedState(pid int) {
	s.T.Helper()
	s.forgedState(pid)
	s.attack(away + "umask 022; mkdir state/eth0; cp state-forged.json state/eth0/state.json")
}

// TestHookEndsItsServerAlone has a forged state file name a process that is none.
func TestHookEndsItsServerAlone(t *testing.T) {
	pod := newSite(t)
	const nobody = -1
	for _, test := range []struct {
		name     string
		squatter int  // the user whose process is in the server's place
		own      bool // the file is podnic's own
		served   bool // the server is in its place
	}{
		{name: "with the server's place empty", squatter: nobody},
		{name: "with a squatter in the server's place", squatter: 107},
		// As when a server was killed, and its process id is another's by now: that the file is podnic's own is not enough.
		{name: "with a file of podnic's that is out of date", squatter: 0, own: true},
		{name: "with the server in its place", squatter: nobody, served: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := pod.in(t)
			other := s.bystander()
			if test.served {
				s.says(0, nil, s.hook("prepare"))
			} else {
				s.run(0, nil, "prepare")
			}
			var squatter *podtest.Process
			if test.squatter != nobody {
				squatter = s.squat(test.squatter)
			}
			if test.own {
				s.forgedState(other.PID())
				if err := os.Rename(filepath.Join(s.dir, "state-forged.json"), filepath.Join(s.StateDir, "eth0", "state.json")); err != nil {
					t.Fatal(err)
				}
			} else {
				s.takeForgedState(other.PID())
			}
			s.says(0, nil, s.hook("release"))
			s.lives("a bystander", other)
			if squatter != nil {
				s.lives("who has the server's place", squatter)
				squatter.End(syscall.SIGKILL)
			}
			if out := s.run(0, nil, "status"); test.served && strings.Contains(out, "serving") {
				t.Errorf("the server has not ended: %s", out)
			}
			if !test.served {
				s.run(0, nil, "restore")
			}
			s.AsBefore()
		})
	}
}

// TestSquatterIsNoServer takes the name of who serves, which needs no privilege.
func TestSquatterIsNoServer(t *testing.T) {
	pod := newSite(t)
	for name, user := range map[string]int{"the emulator": 107, "a program of root": 0} {
		t.Run(name, func(t *testing.T) {
			s := pod.in(t)
			squatter := s.squat(user)
			who := []string{fmt.Sprintf("process %d", squatter.PID()), fmt.Sprintf("user %d", user)}
			s.says(2, who, s.hook("prepare"))
			s.AsBefore()
			s.run(0, nil, "prepare")
			s.run(2, who, "serve")
			s.says(2, who, s.hook("prepare"))
			squatter.End(syscall.SIGKILL)
			s.run(0, nil, "restore")
			s.says(0, nil, s.hook("prepare"))
			s.says(0, nil, s.hook("release"))
			s.AsBefore()
		})
	}
}
