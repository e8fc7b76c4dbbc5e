package network

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/podnic/podnic/network/holding"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// TestGuestMayAttachWithoutAHeader attaches to the tap as an emulator does that wants no virtio header. The tap is then one
// without, until somebody attaches who wants it: it is none that was made anew, and nothing to mend.
func TestGuestMayAttachWithoutAHeader(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	p.prepare()
	detach := p.attachWith(unix.IFF_TAP | unix.IFF_NO_PI)
	asItShouldBe := func(when string) {
		t.Helper()
		seen, err := Inspect(p.request())
		if err != nil || len(seen.Deviations) > 0 || len(seen.Repairs) > 0 {
			t.Errorf("%s: %v, %v", when, seen.Deviations, err)
		}
		if r := p.prepare(); len(r.Steps) > 0 || len(r.Warnings) > 0 {
			t.Errorf("%s: prepare did %v and warns %v", when, r.Steps, r.Warnings)
		}
	}
	asItShouldBe("attached")
	detach()
	asItShouldBe("detached")
	p.restore()
}

// attachWith opens the tap with flags of TUNSETIFF.
func (p *testPod) attachWith(flags uint16) (detach func()) {
	p.t.Helper()
	var file *os.File
	err := p.pod.Do(func(ns.NetNS) (err error) {
		file, err = attachTap(flags)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return func() { _ = letGo(file, p.pod) }
}

// attachTap attaches to the tap in the calling thread's namespace.
func attachTap(flags uint16) (*os.File, error) {
	file, err := os.OpenFile(rtnl.TunDevice, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(plan.DefaultTap)
	if err != nil {
		return nil, err
	}
	request.SetUint16(flags)
	return file, unix.IoctlIfreq(int(file.Fd()), unix.TUNSETIFF, request)
}

// TestHolderOfATapIsNamed has processes hold taps of one name in two pods, and finds the one of each. It is ended for the pod
// that is meant, and only while it holds the tap.
func TestHolderOfATapIsNamed(t *testing.T) {
	p, other := newTestPod(t, shapes["bridge"]...), newTestPod(t, shapes["ptp"]...)
	p.prepare()
	other.prepare()
	if held, err := InspectTap(p.request(), plan.DefaultTap); err != nil || held.Held {
		t.Errorf("nobody holds it: %+v, %v", held, err)
	}
	mine, theirs := p.hold(), other.hold()
	for _, pair := range []struct {
		pod *testPod
		cmd *exec.Cmd
	}{{p, mine}, {other, theirs}} {
		want := []holding.Tap{{ID: pair.cmd.Process.Pid, Name: filepath.Base(os.Args[0])}}
		if held, err := InspectTap(pair.pod.request(), plan.DefaultTap); err != nil || !held.Held || !slices.Equal(held.Holders, want) {
			t.Errorf("it is held by %v: %+v, %v", want, held, err)
		}
	}
	if err := EndHolder(context.Background(), p.request(), holding.Tap{ID: theirs.Process.Pid}, plan.DefaultTap); err != nil || theirs.Process.Signal(unix.Signal(0)) != nil {
		t.Errorf("it holds another pod's: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- mine.Wait() }()
	if err := EndHolder(context.Background(), p.request(), holding.Tap{ID: mine.Process.Pid}, plan.DefaultTap); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("it ended with %v", err)
	}
	if held, err := InspectTap(p.request(), plan.DefaultTap); err != nil || held.Held {
		t.Errorf("nobody holds it any more: %+v, %v", held, err)
	}
}

// holdTap is set in a process that does nothing but hold a tap, until its standard input ends.
const holdTap = "PODNIC_TEST_HOLD_TAP"

func init() {
	if os.Getenv(holdTap) == "" {
		return
	}
	if _, err := attachTap(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("holds")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// hold starts a process in the pod that holds the tap.
func (p *testPod) hold() *exec.Cmd {
	p.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdTap+"=1")
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		_, err = cmd.StdinPipe()
	}
	if err == nil {
		err = p.pod.Do(func(ns.NetNS) error { return cmd.Start() })
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if said, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || said != "holds\n" {
		p.t.Fatalf("%q, %v", said, err)
	}
	return cmd
}

// TestRestoreWithoutAWritableDirectory gives the interface back where the record cannot be removed, and says both.
func TestRestoreWithoutAWritableDirectory(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, shapes["bridge"]...)
	before := p.text()
	p.prepare()
	record, err := os.ReadFile(p.recordPath())
	if err != nil {
		t.Fatal(err)
	}
	// What root may write is read-only where it is mounted so.
	frozen := t.TempDir()
	if err := unix.Mount(p.dir, frozen, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(frozen, unix.MNT_DETACH) })
	if err := unix.Mount("", frozen, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	req := p.request()
	req.StateDir = frozen
	for _, steps := range []bool{true, false} {
		r, err := Restore(context.Background(), req, false)
		if err != nil || len(r.Steps) > 0 != steps || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], frozen) {
			t.Errorf("%+v, %v", r, err)
		}
	}
	p.same(before)
	if left, err := os.ReadFile(p.recordPath()); err != nil || string(left) != string(record) {
		t.Errorf("the record: %v", err)
	}
	p.prepare() // the record that stays is of no harm
	p.restore()
	p.same(before)
}
