//go:build e2e

package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/pages"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// machine is where a reader is: a checkout, podman, and a network.
type machine struct {
	t        *testing.T
	node     *pod.Node
	mounts   *podtest.Process // has the namespace of them
	checkout string
	environ  []string
	run      map[string]bool
}

// directories are where podman and its network plugins keep what is not in its storage, and that of /dev/net/tun.
var directories = []string{"/run/libpod", "/var/lib/cni", "/var/lib/containers", "/dev/shm", "/dev/net"}

// own mounts empty ones over those: the machine's podman hears nothing of this one, and /dev/net/tun is open to everybody, as udev
// makes it. They last until standard input ends.
const own = `
for dir; do mount -t tmpfs -o mode=0755 tmpfs "$dir"; done
mknod -m 0666 /dev/net/tun c 10 200
echo ready
exec cat
`

// newMachine has podman with nothing in it.
func newMachine(t *testing.T) *machine {
	t.Helper()
	podtest.NeedRoot(t)
	for _, program := range []string{"podman", "mmdebstrap", "wget", "script"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("the documents' commands take %s: install it", program)
		}
	}
	m := &machine{t: t, node: podtest.Node(t), run: make(map[string]bool)}
	// Gigabytes; and podman takes a path of at most 50 characters.
	dir, err := os.MkdirTemp("/var/tmp", "podnic-")
	if err != nil {
		t.Fatal(err)
	}
	m.checkout = filepath.Join(dir, "podnic")
	m.environ = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+filepath.Join(dir, "storage.conf"))
	for _, path := range directories {
		switch err := os.Mkdir(path, 0o755); {
		case err == nil:
			t.Cleanup(func() {
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
			})
		case !errors.Is(err, os.ErrExist):
			t.Fatal(err)
		}
	}
	holder := exec.Command("unshare", append([]string{"--mount", "--", "sh", "-ec", own, "own"}, directories...)...)
	input, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close() })
	m.mounts = podtest.Start(t, "the machine's mounts", holder)
	m.mounts.Says("ready")
	t.Cleanup(func() { m.remove(dir) })

	cache, err := filepath.Abs("../../.cache")
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("PODNIC_CACHE") == "" {
		m.environ = append(m.environ, "PODNIC_CACHE="+cache)
	}
	storage := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", dir+"/graph", dir+"/run")
	if err := errors.Join(os.Mkdir(m.checkout, 0o755), os.Chmod(dir, 0o755), os.WriteFile(dir+"/storage.conf", []byte(storage), 0o644)); err != nil {
		t.Fatal(err)
	}
	podtest.Must(t, exec.CommandContext(t.Context(), "sh", "-ec", `cd ../..
		git -c "safe.directory=$PWD" ls-files -z --cached --others --exclude-standard |
			tar --create --null --ignore-failed-read --files-from - | tar --extract --no-same-owner --directory "$0"`, m.checkout))
	return m
}

// remove ends and removes all that podman made.
func (m *machine) remove(dir string) {
	clean := m.command(context.Background(), "podman rm --all --force --time 0 >/dev/null")
	if out, err := clean.CombinedOutput(); err != nil {
		m.t.Errorf("%v: %s", err, out)
	}
	m.mounts.End(syscall.SIGKILL)
	if err := os.RemoveAll(dir); err != nil {
		m.t.Error(err)
	}
}

// builds are the commands that take the machine's own network, for Debian's packages, and change nothing of it.
var builds = regexp.MustCompile(`^(make|mmdebstrap|podman (build|import|pull|tag)) `)

// command is a shell command of a reader's.
func (m *machine) command(ctx context.Context, script string) *exec.Cmd {
	args := []string{"--target", strconv.Itoa(m.mounts.PID()), "--mount"}
	if !builds.MatchString(script) {
		args = append(args, "--net="+m.node.Path)
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(args, "--", "sh", "-ec", "cd '"+m.checkout+"'\n"+script)...)
	cmd.Env = m.environ
	return cmd
}

// shell runs a command that is no document's.
func (m *machine) shell(script string) string {
	m.t.Helper()
	return podtest.Must(m.t, m.command(m.t.Context(), script))
}

// one runs a command of a page.
func (m *machine) one(c pages.Command) (said string) {
	m.t.Helper()
	m.run[c.At] = true
	out, errs, status := podtest.Run(m.t, m.command(m.t.Context(), c.Text))
	if status != 0 {
		m.t.Fatalf("%s: %s\nexit status %d: %.20000s%.20000s", c.At, c.Text, status, out, errs)
	}
	m.t.Logf("%s: %s\n%s%s", c.At, c.Text, out, errs)
	return out
}

// all runs the commands of blocks.
func (m *machine) all(blocks ...pages.Block) (said string) {
	m.t.Helper()
	for _, b := range blocks {
		for _, c := range b.Commands {
			said += m.one(c)
		}
	}
	return said
}

// terminal is a command of a page at a terminal.
type terminal struct {
	*podtest.Process
	m    *machine
	keys *os.File
}

// atTerminal starts a command of a page.
func (m *machine) atTerminal(c pages.Command) *terminal {
	m.t.Helper()
	m.run[c.At] = true
	m.t.Logf("%s: %s", c.At, c.Text)
	read, write, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { write.Close() })
	cmd := m.command(context.Background(), `exec script --quiet --return --command "$COMMAND" /dev/null`)
	cmd.Env = append(cmd.Env, "COMMAND="+c.Text, "SHELL=/bin/sh")
	cmd.Stdin = read
	p := podtest.Start(m.t, c.Text, cmd)
	read.Close()
	return &terminal{p, m, write}
}

// types types a command of a page into a shell, and waits for its end. The shell ends with one that fails.
func (t *terminal) types(c pages.Command) {
	t.m.t.Helper()
	t.m.run[c.At] = true
	// The terminal shows what is typed, too, and that is not what the shell says.
	if _, err := t.keys.WriteString(c.Text + "\n[ $? -eq 0 ] && echo it \"goes\" on || exit 1\n"); err != nil {
		t.m.t.Fatal(err)
	}
	t.Says("it goes on")
}

// ends waits for a command that ends by itself.
func (t *terminal) ends() {
	t.m.t.Helper()
	t.Exits(0)
	t.m.empty()
}

// empty holds podman to it that no container is left, and none's network.
func (m *machine) empty() {
	m.t.Helper()
	podtest.Until(m.t, "no container is left", func() bool { return m.shell("podman ps --all --quiet --external") == "" })
	if links := m.shell("ip -brief link show type veth"); links != "" {
		m.t.Errorf("of a container is left: %s", links)
	}
}

// kill ends what a command has become, of which podman knows.
func (m *machine) kill(signal syscall.Signal) {
	m.t.Helper()
	m.shell(fmt.Sprintf("podman kill --signal %d --latest", signal))
}
