// Package podtest ties the helpers under test/ to Go tests: what it makes goes when the test ends, and a failure to make
// it, or to remove it, fails the test.
//
// Tests that need root call [NeedRoot] first.
package podtest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/guest"
	"github.com/podnic/podnic/test/libvirtd"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/shapes/tap"
)

// NeedRoot skips a test that changes the network when it does not run as root, or when PODNIC_UNIT is set.
func NeedRoot(t testing.TB) {
	t.Helper()
	switch {
	case os.Getenv("PODNIC_UNIT") != "":
		t.Skip("needs root, and only unit tests are wanted")
	case os.Geteuid() != 0:
		t.Skip("needs root")
	}
}

// Program is the path of podnic as make builds it, for tests in packages right below test/. A test takes it from the directory
// PODNIC_PROGRAMS, when that is set, where scripts/run-tests puts programs that count what runs of them, and scripts/bench copies
// of those that users have.
func Program(t testing.TB) string {
	t.Helper()
	dir := cmp.Or(os.Getenv("PODNIC_PROGRAMS"), "../../bin")
	path, err := filepath.Abs(filepath.Join(dir, "podnic"))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run make build", err)
	}
	return path
}

// Executable writes a program that a test runs. What is open to be written cannot be run, and a child that another test starts
// meanwhile has it open for as long as it takes to run its own program: so none is started until it is closed.
func Executable(t testing.TB, path string, text []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, text, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}

// Until looks again and again, where nobody tells, until something is as it should be.
func Until(t testing.TB, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !reached(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// Files lists the files below a directory, hidden ones too, by their paths in it. A directory that is not there has none.
func Files(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !e.IsDir() {
			files = append(files, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// Recorded is the text of a file that podnic wrote elsewhere, as one of this boot and of a namespace: what a record says that
// it is of.
func Recorded(t testing.TB, n *pod.Namespace, text string) string {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	var cookie uint64
	err = n.Do(func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`"boot": "[^"]*"`).ReplaceAllString(text, fmt.Sprintf(`"boot": "%s"`, strings.TrimSpace(string(boot))))
	return regexp.MustCompile(`"cookie": \d+`).ReplaceAllString(text, fmt.Sprintf(`"cookie": %d`, cookie))
}

// Node makes a node for the length of the test.
func Node(t testing.TB) *pod.Node {
	t.Helper()
	node, err := pod.NewNode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Errorf("close the node: %v", err)
		}
		if left := node.Leftovers(); len(left) > 0 {
			t.Errorf("the node left: %s", strings.Join(left, ", "))
		}
	})
	return node
}

// Pod makes a pod that goes with its node.
func Pod(t testing.TB, node *pod.Node, spec pod.Spec) *pod.Pod {
	t.Helper()
	p, err := node.AddPod(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// State reads the state of a namespace.
func State(t testing.TB, n *pod.Namespace) pod.State {
	t.Helper()
	state, err := n.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// Listen opens a TCP socket in a namespace for the length of the test.
func Listen(t testing.TB, n *pod.Namespace, address netip.AddrPort) net.Listener {
	t.Helper()
	var listener *net.TCPListener
	err := n.Do(func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// HeldTap is a tap that an emulator would have open.
type HeldTap struct {
	*os.File
	t  testing.TB
	in *pod.Namespace
}

// HoldTap opens a tap in a namespace as an emulator does, for the length of the test.
func HoldTap(t testing.TB, n *pod.Namespace, name string) *HeldTap {
	t.Helper()
	held := &HeldTap{t: t, in: n}
	err := n.Do(func() (err error) {
		held.File, err = tap.Open(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	return held
}

// Close lets the tap go: when it returns, nobody holds it.
func (h *HeldTap) Close() error {
	err := tap.LetGo(h.File, h.in.Do)
	if errors.Is(err, tap.ErrHeld) {
		h.t.Error(err)
	}
	return err
}

// Libvirtd runs a libvirt daemon in a pod for the length of the test.
func Libvirtd(t testing.TB, p *pod.Pod) *libvirtd.Daemon {
	t.Helper()
	daemon, err := libvirtd.Start(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := daemon.Close(); err != nil {
			t.Errorf("close libvirtd: %v", err)
		}
	})
	return daemon
}

// Guest builds the guest's image, with programs of this machine, for the length of the test.
func Guest(t testing.TB, programs ...string) *guest.Image {
	t.Helper()
	image, err := guest.BuildWith(t.TempDir(), guest.Extra{Programs: programs})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// Console follows the console of a guest, and logs it when the test fails.
func Console(t testing.TB, path string) *guest.Console {
	t.Helper()
	console, err := guest.Follow(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		console.Close()
		if t.Failed() {
			t.Logf("the guest's console:\n%s", console.Text())
		}
	})
	return console
}
