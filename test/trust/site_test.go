// Package trust tests what a process of the pod without any privilege can make of a state directory that it can write, as
// it can write an emptyDir, and of the name by which podnic knows who serves: the built program against attacks by the
// emulator's user.
package trust

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// squatName in the environment has the test's own binary bind the socket of that name, say so, and wait if it is an abstract
// one, whose name begins with @.
const squatName = "PODNIC_TEST_SQUAT"

func TestMain(m *testing.M) {
	if name := os.Getenv(squatName); name != "" {
		if _, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("bound")
		if name[0] == '/' {
			os.Exit(0) // the file stays
		}
		select {}
	}
	os.Exit(run(m))
}

// squatter is a copy of the test's binary that everybody may run. It is made before anything else runs: who forks while a file
// is open to write has it open too, and it cannot be run then.
var squatter string

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "squatter")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	squatter = filepath.Join(dir, "squatter")
	text, err := os.ReadFile("/proc/self/exe")
	if err = errors.Join(err, os.WriteFile(squatter, text, 0o755), os.Chmod(dir, 0o755)); err != nil {
		panic(err)
	}
	return m.Run()
}

// site is a pod, and a state directory in it that everybody can write.
type site struct {
	*podtest.Site
	index int
	// dir is what everybody may enter, and holds the state directory and what is the attacker's.
	dir string
}

func newSite(t *testing.T) *site {
	t.Helper()
	podtest.NeedRoot(t)
	t.Parallel()
	s := &site{Site: podtest.NewSite(t, podtest.Node(t), pod.Plain)}
	s.Remember()
	s.index = podtest.Link(t, s.Pod.Namespace, pod.Interface).Index
	return s
}

// in is the same site with a new state directory, for a subtest.
func (s *site) in(t *testing.T) *site {
	t.Helper()
	c := *s
	c.Site, c.dir = s.For(t), t.TempDir()
	c.StateDir = filepath.Join(c.dir, "state")
	err := errors.Join(os.Chmod(filepath.Dir(c.dir), 0o755), os.Chmod(c.dir, 0o777), os.Mkdir(c.StateDir, 0o777), os.Chmod(c.StateDir, 0o777))
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

// attacker is the beginning of a command line that runs the rest as the emulator's user, without any capability.
var attacker = []string{"--reuid", "107", "--regid", "107", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"}

// attack runs a script as the emulator's user, in the directory of the state directory. It has to succeed: an attack that
// does not take place shows nothing.
func (s *site) attack(script string) {
	s.T.Helper()
	args := append(attacker, "sh", "-e", "-c", "umask 0; cd \"$1\"; PODNIC=$2\n"+script, "sh", s.dir, s.Podnic)
	if out, err := s.Pod.Command(s.T.Context(), "setpriv", args...).CombinedOutput(); err != nil {
		s.T.Fatalf("the attack did not take place: %v: %s", err, out)
	}
}

func (s *site) command(args ...string) *exec.Cmd { return s.Command(s.T.Context(), args...) }

// run runs a command of podnic as root, checks its exit status, and that what it says has the words.
func (s *site) run(status int, words []string, args ...string) string {
	s.T.Helper()
	return s.says(status, words, s.command(args...))
}

func (s *site) says(status int, words []string, cmd *exec.Cmd) string {
	s.T.Helper()
	out, errs, got := podtest.Run(s.T, cmd)
	if got != status {
		s.T.Errorf("%v: exit status %d, want %d: %s%s", cmd.Args[len(cmd.Args)-4:], got, status, out, errs)
	}
	said := strings.Join(strings.Fields(out+errs), " ") // lines are wrapped
	for _, word := range words {
		if !strings.Contains(strings.ReplaceAll(said, "/ ", "/"), word) {
			s.T.Errorf("%v does not say %q: %s%s", cmd.Args[len(cmd.Args)-4:], word, out, errs)
		}
	}
	return said
}

// hook is a call of the hook for a domain of podnic's.
func (s *site) hook(operation string) *exec.Cmd {
	sub := map[string]string{"stopped": "end", "release": "end"}[operation]
	if sub == "" {
		sub = "begin"
	}
	cmd := s.Pod.Command(s.T.Context(), s.Podnic, "hook", "vm", operation, sub, "-")
	cmd.Env = append(os.Environ(), "PODNIC_STATE_DIR="+s.StateDir)
	cmd.Stdin = strings.NewReader(`<domain type='qemu'><name>vm</name><uuid>11111111-2222-3333-4444-555555555555</uuid>
<metadata><podnic:pod xmlns:podnic="urn:podnic:domain:1" interface="eth0"/></metadata>
<devices><interface type='ethernet'><mac address='` + s.MAC.String() + `'/><target dev='tap0' managed='no'/></interface></devices></domain>`)
	return cmd
}

// squat has a process of a user take the name of who serves eth0, until the test ends or it is ended.
func (s *site) squat(user int) *podtest.Process {
	s.T.Helper()
	cmd := s.Pod.Command(context.Background(), "setpriv", "--reuid", fmt.Sprint(user), "--clear-groups", squatter)
	cmd.Env = append(os.Environ(), squatName+"=@podnic/serve/eth0")
	p := podtest.Start(s.T, "the squatter", cmd)
	p.Says("bound")
	return p
}
