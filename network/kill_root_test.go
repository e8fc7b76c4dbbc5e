package network

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// A child process of the test binary does one operation and kills itself with SIGKILL: before the netlink request with a
// number, or, with a negative number, whenever its parent kills it. The environment says what and where.
const (
	childOperation = "PODNIC_TEST_OPERATION"
	childNamespace = "PODNIC_TEST_NAMESPACE"
	childStateDir  = "PODNIC_TEST_STATE_DIR"
	childDieAt     = "PODNIC_TEST_DIE_AT"
	childLock      = "PODNIC_TEST_LOCK_TIMEOUT" // 10s unless it is set
)

func TestMain(m *testing.M) {
	if operation := os.Getenv(childOperation); operation != "" {
		os.Exit(child(operation))
	}
	status := m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func child(operation string) int {
	dieAt, err := strconv.Atoi(os.Getenv(childDieAt))
	if err != nil {
		panic(err)
	}
	wait := 10 * time.Second
	if text := os.Getenv(childLock); text != "" {
		if wait, err = time.ParseDuration(text); err != nil {
			panic(err)
		}
	}
	requests := 0
	req := Request{
		Namespace:   os.Getenv(childNamespace),
		StateDir:    os.Getenv(childStateDir),
		LockTimeout: wait,
		beforeRequest: func() {
			if requests == dieAt {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			requests++
		},
	}
	if dieAt < 0 {
		fmt.Println("go") // the parent's clock starts
	}
	if operation == "prepare" {
		_, err = Prepare(context.Background(), req)
	} else {
		_, err = Restore(context.Background(), req, true)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child runs an operation in a process of its own and reports whether it was killed.
func (p *testPod) child(operation string, dieAt int, killAfter time.Duration) (killed bool) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childOperation+"="+operation, childNamespace+"="+p.request().Namespace,
		childStateDir+"="+p.dir, fmt.Sprintf("%s=%d", childDieAt, dieAt))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if dieAt < 0 {
		if _, err := stdout.Read(make([]byte, 8)); err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(killAfter) // where in its run this hits does not matter: everywhere has to be right
		_ = cmd.Process.Kill()
	}
	err = cmd.Wait()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err != nil && !(ok && status.Signaled()) {
		p.t.Fatalf("%s: %v: %s", operation, err, stderr.String())
	}
	return ok && status.Signaled()
}

// soak is how much more than usual is wanted: make soak sets it.
func soak(usual, much int) int {
	if os.Getenv("PODNIC_SOAK") != "" {
		return much
	}
	return usual
}

// TestKilledAnywhereNothingIsLost kills prepare and restore before each of their requests, lets restore or prepare follow
// in turn, and compares.
func TestKilledAnywhereNothingIsLost(t *testing.T) {
	for _, shape := range []string{"ptp", "much of everything"} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, shapes[shape]...)
			before := p.text()
			p.prepare()
			wired := p.wiredText()
			p.restore()
			for _, operation := range []string{"prepare", "restore"} {
				for n := 0; ; n++ {
					if operation == "restore" {
						p.prepare()
					}
					killed := p.child(operation, n, 0)
					if n%2 == 0 { // repair what is left before it is restored
						p.prepare()
						if diff := cmp.Diff(wired, p.wiredText()); diff != "" {
							t.Fatalf("%s killed before request %d, then prepare:\n%s", operation, n, diff)
						}
					}
					p.restore()
					p.noFiles()
					if diff := cmp.Diff(before, p.text()); diff != "" {
						t.Fatalf("%s killed before request %d, then restore:\n%s", operation, n, diff)
					}
					if !killed {
						if n < 10 {
							t.Fatalf("%s took %d requests", operation, n)
						}
						break
					}
				}
			}
		})
	}
}

// TestKilledAtAnyMomentNothingIsLost does the same by the clock, which also hits between the requests.
func TestKilledAtAnyMomentNothingIsLost(t *testing.T) {
	p := newTestPod(t, shapes["dual stack"]...)
	before := p.text()
	// How long each takes; a new process takes somewhat longer than one that has done it before.
	run := make(map[string]time.Duration)
	began := time.Now()
	p.prepare()
	run["prepare"] = time.Since(began) * 2
	began = time.Now()
	p.restore()
	run["restore"] = time.Since(began) * 2
	t.Logf("killed within %v", run)
	killed := make(map[string]int)
	points := soak(50, 500)
	for i := range points {
		for _, operation := range []string{"prepare", "restore"} {
			if operation == "restore" {
				p.prepare()
			}
			if p.child(operation, -1, run[operation]*time.Duration(i)/time.Duration(points)) {
				killed[operation]++
			}
			if i%2 == 0 {
				p.prepare()
			}
			p.restore()
			if diff := cmp.Diff(before, p.text()); diff != "" {
				t.Fatalf("%s killed at point %d of %d:\n%s", operation, i, points, diff)
			}
		}
	}
	t.Logf("killed: %v", killed)
	if killed["prepare"] == 0 || killed["restore"] == 0 {
		t.Error("none was killed in its run")
	}
}

// TestAThousandRoundsReadAsTheFirst wires, kills, restores and wires again.
func TestAThousandRoundsReadAsTheFirst(t *testing.T) {
	p := newTestPod(t, shapes["ptp"]...)
	before := p.text()
	p.prepare()
	wired := p.wiredText()
	p.restore()
	for i := range soak(50, 1000) {
		p.child("prepare", i%40, 0)
		p.restore()
		p.prepare()
		if diff := cmp.Diff(wired, p.wiredText()); diff != "" {
			t.Fatalf("round %d:\n%s", i, diff)
		}
		p.restore()
	}
	p.same(before)
}

// TestRoundsLeaveNothingInTheProcess counts descriptors and threads after many rounds in one process, and looks that every
// thread is back from the pod's namespace.
func TestRoundsLeaveNothingInTheProcess(t *testing.T) {
	p := newTestPod(t, shapes["ptp"]...)
	round := func() {
		p.prepare()
		p.restore()
	}
	round()
	files, threads := processCounts(t)
	rounds := soak(500, 2000)
	for range rounds {
		round()
	}
	if f, th := processCounts(t); f > files || th > threads+4 {
		t.Errorf("after %d rounds: %d descriptors (%d before), %d threads (%d before)", rounds, f, files, th, threads)
	}
	own, err := os.Readlink(ownNamespace)
	if err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if in, err := os.Readlink(link); err == nil && in != own { // a thread may have ended
			t.Errorf("%s is left in %s", link, in)
		}
	}
}

func processCounts(t *testing.T) (files, threads int) {
	t.Helper()
	for path, n := range map[string]*int{"/proc/self/fd": &files, "/proc/self/task": &threads} {
		entries, err := os.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		*n = len(entries)
	}
	return files, threads
}

// TestRepairKilledAnywhereKeepsTheGuestsNetwork kills a second prepare, under a guest and with something to mend, before
// each of its requests and then by the clock. The guest pings its gateway all the while.
func TestRepairKilledAnywhereKeepsTheGuestsNetwork(t *testing.T) {
	p := newTestPod(t, append(shapes["bridge"], "node:addr add 10.244.1.1/24 dev host0",
		"node:neigh add 10.244.1.5 lladdr "+podMAC.String()+" dev host0 nud permanent")...)
	p.prepare()
	guest, node := p.ends()
	node.Close()
	pings := ping(t, guest)
	attempt := func(when string, dieAt int, after time.Duration) (killed bool) {
		t.Helper()
		p.ip("link set eth0-br mtu 1400")
		p.ip("link set eth0-br arp on")
		p.ip("addr flush dev eth0")
		killed = p.child("prepare", dieAt, after)
		if out := p.ip("-o link show tap0"); !strings.Contains(out, "LOWER_UP") || !strings.Contains(out, "master eth0-br") {
			t.Fatalf("killed %s: %s", when, out)
		}
		if !pings.answered() {
			t.Fatalf("killed %s: no ping of the guest is answered", when)
		}
		return killed
	}
	for n := 0; attempt(fmt.Sprintf("before request %d", n), n, 0); n++ {
	}
	points := soak(100, 1000)
	for i := range points {
		attempt(fmt.Sprintf("at point %d", i), -1, 10*time.Millisecond*time.Duration(i)/time.Duration(points))
	}
	sent, lost := pings.end()
	t.Logf("%d pings, at most %d lost in a row", sent, lost)
	if time.Duration(lost)*pingInterval >= time.Second {
		t.Errorf("%d pings in a row were lost, one every %v", lost, pingInterval)
	}
}
