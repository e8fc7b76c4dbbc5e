package network

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// A child process of the test binary does one operation and kills itself with SIGKILL: before the netlink request with a
// number, or, with a negative number, whenever its parent kills it. The environment says what and where.
const (
	childOperation = "PODNIC_TEST_OPERATION"
	childNamespace = "PODNIC_TEST_NAMESPACE"
	childStateDir  = "PODNIC_TEST_STATE_DIR"
	childDieAt     = "PODNIC_TEST_DIE_AT"
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
	requests := 0
	req := Request{
		Namespace:   os.Getenv(childNamespace),
		StateDir:    os.Getenv(childStateDir),
		LockTimeout: 10 * time.Second,
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
	began := time.Now()
	p.child("prepare", -1, time.Second)
	run := 8 * time.Millisecond // a prepare takes about that long; its restore longer, in grace periods at its end
	t.Logf("one round: %v", time.Since(began))
	p.restore()
	points := soak(50, 500)
	for i := range points {
		for _, operation := range []string{"prepare", "restore"} {
			if operation == "restore" {
				p.prepare()
			}
			p.child(operation, -1, run*time.Duration(i)/time.Duration(points))
			if i%2 == 0 {
				p.prepare()
			}
			p.restore()
			if diff := cmp.Diff(before, p.text()); diff != "" {
				t.Fatalf("%s killed at point %d of %d:\n%s", operation, i, points, diff)
			}
		}
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

// TestRoundsLeaveNothingInTheProcess counts descriptors and threads after many rounds in one process.
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

// TestRepairKilledAnywhereKeepsTheGuestsNetwork kills a repair under a guest before each of its requests. Frames pass
// before and after each, and the guest's end of the tap stays.
func TestRepairKilledAnywhereKeepsTheGuestsNetwork(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	p.prepare()
	guest, node := p.ends()
	frame := ethernet(broadcast, podMAC, unix.ETH_P_ARP, arp(1, podMAC, podIP, gatewayIP))
	for n := 0; ; n++ {
		p.ip("link set eth0-br mtu 1400")
		p.ip("link set eth0-br arp on")
		p.ip("addr flush dev eth0")
		killed := p.child("prepare", n, 0)
		if out := p.ip("-o link show tap0"); !strings.Contains(out, "LOWER_UP") || !strings.Contains(out, "master eth0-br") {
			t.Fatalf("killed before request %d: %s", n, out)
		}
		if !crosses(t, guest, node, frame) {
			t.Fatalf("killed before request %d: no frame of the guest passes", n)
		}
		if !killed {
			return
		}
	}
}
