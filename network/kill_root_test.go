package network

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/repeat"
)

// A child process of the test binary does one operation and kills itself with SIGKILL: before the netlink request with a
// number, or, with a negative number, whenever its parent kills it. The environment says what and where.
const (
	childOperation = "PODNIC_TEST_OPERATION"
	childNamespace = "PODNIC_TEST_NAMESPACE"
	childStateDir  = "PODNIC_TEST_STATE_DIR"
	childDieAt     = "PODNIC_TEST_DIE_AT"
	childBinding   = "PODNIC_TEST_BINDING"
	childSocket    = "PODNIC_TEST_SOCKET"
	childNames     = "PODNIC_TEST_INTERFACES"   // of several interfaces, with commas between them
	childRounds    = "rounds"                   // an operation: many rounds, and what is left in the process
	childLock      = "PODNIC_TEST_LOCK_TIMEOUT" // podtest.Patience unless it is set
)

func TestMain(m *testing.M) {
	if operation := os.Getenv(childOperation); operation != "" {
		os.Exit(child(operation))
	}
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) { // nobody asked for a number
		// What takes long here is the kernel, which waits for its grace periods, and not the processors.
		if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
			panic(err)
		}
	}
	status := m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func child(operation string) int {
	if operation == childRounds {
		return manyRounds()
	}
	dieAt, err := strconv.Atoi(os.Getenv(childDieAt))
	if err != nil {
		panic(err)
	}
	wait := podtest.Patience
	if text := os.Getenv(childLock); text != "" {
		if wait, err = time.ParseDuration(text); err != nil {
			panic(err)
		}
	}
	requests := 0
	req := Request{
		Namespace:   os.Getenv(childNamespace),
		StateDir:    os.Getenv(childStateDir),
		LockTimeout: wait, settled: true,
		Options: sharing(plan.Options{Binding: os.Getenv(childBinding), Socket: os.Getenv(childSocket)}),
		beforeRequest: func() {
			if requests == dieAt {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			requests++
		},
	}
	for name := range strings.FieldsFuncSeq(os.Getenv(childNames), func(r rune) bool { return r == ',' }) {
		req.Interfaces = append(req.Interfaces, plan.Options{Interface: name})
	}
	if dieAt < 0 {
		fmt.Println("go") // the parent's clock starts
	}
	switch {
	case operation == "prepare":
		_, err = PrepareAll(context.Background(), req)
	case len(req.Interfaces) > 0:
		_, err = RestoreAll(context.Background(), req, true)
	default:
		_, err = Restore(context.Background(), req, true)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child runs an operation, of one interface or those that are named, in a process of its own and reports whether it was killed.
func (p *testPod) child(operation string, at repeat.Moment, names ...string) (killed bool) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childOperation+"="+operation, childNamespace+"="+p.request().Namespace,
		childStateDir+"="+p.dir, childBinding+"="+p.binding, childSocket+"="+p.socket, childNames+"="+strings.Join(names, ","), withoutEnvironment+"="+strings.Join(p.without, ","),
		fmt.Sprintf("%s=%d", childDieAt, at.Step))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if at.Step < 0 {
		if _, err := stdout.Read(make([]byte, 8)); err != nil {
			p.t.Fatal(err)
		}
		time.Sleep(at.After) // where in its run this hits does not matter: everywhere has to be right
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

// repairs follows the name of an operation after which what is left is repaired before it is restored.
const repairs = ",prepare"

// repaired is every second time.
func repaired(operation string, n int) string {
	if n%2 == 0 {
		return operation + repairs
	}
	return operation
}

// TestKilledAnywhereNothingIsLost kills prepare and restore before each of their requests, lets restore or prepare follow
// in turn, and compares.
func TestKilledAnywhereNothingIsLost(t *testing.T) {
	forEachJoint(t, func(t *testing.T, joint joint) {
		for _, shape := range []string{"ptp", "much of everything"} {
			t.Run(shape, func(t *testing.T) {
				t.Parallel()
				p := newTestPod(t, shapes[shape]...)
				p.joint = joint
				before := p.text()
				p.prepare()
				wired := p.wiredText()
				p.restore()
				killed := true
				requests := func(yield func(repeat.Moment) bool) {
					for _, operation := range []string{"prepare", "restore"} {
						n := 0
						for killed = true; killed; n++ {
							if !yield(repeat.Before(repaired(operation, n), n)) {
								return
							}
						}
						if n <= p.fewest(10, 2) {
							t.Fatalf("%s took %d requests", operation, n-1)
						}
					}
				}
				for moment := range repeat.Moments(t, requests) {
					operation, repair := strings.CutSuffix(moment.Operation, repairs)
					if operation == "restore" {
						p.prepare()
					}
					killed = p.child(operation, moment)
					if repair {
						p.prepare()
						if diff := cmp.Diff(wired, p.wiredText()); diff != "" {
							t.Fatalf("killed, then prepared:\n%s", diff)
						}
					}
					p.restore()
					p.noFiles()
					if diff := cmp.Diff(before, p.text()); diff != "" {
						t.Fatalf("killed, then restored:\n%s", diff)
					}
				}
			})
		}
	})
}

// TestKilledAtAnyMomentNothingIsLost does the same by the clock, which also hits between the requests.
func TestKilledAtAnyMomentNothingIsLost(t *testing.T) {
	forEachJoint(t, func(t *testing.T, joint joint) {
		p := newTestPod(t, shapes["dual stack"]...)
		p.joint = joint
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
		points := soak(joint.times(50), 500)
		moments := func(yield func(repeat.Moment) bool) {
			for i := range points {
				for _, operation := range []string{"prepare", "restore"} {
					if !yield(repeat.After(repaired(operation, i), run[operation]*time.Duration(i)/time.Duration(points))) {
						return
					}
				}
			}
		}
		for moment := range repeat.Moments(t, moments) {
			operation, repair := strings.CutSuffix(moment.Operation, repairs)
			if operation == "restore" {
				p.prepare()
			}
			if p.child(operation, moment) {
				killed[operation]++
			}
			if repair {
				p.prepare()
			}
			p.restore()
			if diff := cmp.Diff(before, p.text()); diff != "" {
				t.Fatalf("%s was killed:\n%s", operation, diff)
			}
		}
		t.Logf("killed: %v", killed)
		if !repeat.Wanted() && (killed["prepare"] == 0 || killed["restore"] == 0) {
			t.Error("none was killed in its run")
		}
	})
}

// TestAThousandRoundsReadAsTheFirst wires, kills, restores and wires again.
func TestAThousandRoundsReadAsTheFirst(t *testing.T) {
	forEachJoint(t, func(t *testing.T, joint joint) {
		p := newTestPod(t, shapes["ptp"]...)
		p.joint = joint
		before := p.text()
		p.prepare()
		wired := p.wiredText()
		p.restore()
		for i := range soak(joint.times(50), 1000) {
			p.child("prepare", repeat.Before("prepare", i%40))
			p.restore()
			p.prepare()
			if diff := cmp.Diff(wired, p.wiredText()); diff != "" {
				t.Fatalf("round %d:\n%s", i, diff)
			}
			p.restore()
		}
		p.same(before)
	})
}

// TestNexthopObjectsOutliveRoundsAndKills compares a pod that a bridge refuses, and whose link a redirect must leave exactly as
// it is: with nexthop objects and permanent neighbours of both families. It goes through rounds, and is killed before each
// request in turn.
func TestNexthopObjectsOutliveRoundsAndKills(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"redirect", "redirect by tc"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, "addr add 10.244.1.5/24 brd + dev eth0", "addr add 2001:db8::5/64 dev eth0 nodad", "link set eth0 up",
				"node:link set host0 up", "nexthop add id 7 via 10.244.1.1 dev eth0", "nexthop add id 8 via 2001:db8::1 dev eth0",
				"nexthop add id 9 group 7", "route add default nhid 7", "-6 route add default nhid 8", "route add 198.51.100.0/24 nhid 9",
				"neigh add 10.244.1.1 lladdr 0e:11:22:33:44:01 dev eth0 nud permanent",
				"neigh add 2001:db8::1 lladdr 0e:11:22:33:44:02 dev eth0 nud permanent router")
			p.joint = joint{plan.BindingAuto, "", joints[by].without}
			whole := func() string { return p.text() + p.ip("-d nexthop") }
			before := whole()
			same := func(what string, n int) {
				t.Helper()
				p.noFiles()
				if diff := cmp.Diff(before, whole()); diff != "" {
					t.Fatalf("after %s %d:\n%s", what, n, diff)
				}
			}
			requests := make(map[string]int) // of each operation
			for i := range soak(3, 1000) {
				req, count := p.request(), 0
				req.beforeRequest = func() { count++ }
				r, err := Prepare(context.Background(), req)
				if err != nil || r.Record.Options.Binding != plan.BindingRedirect || r.Record.Options.TC != (by != "redirect") {
					t.Fatalf("wired with %+v: %v", r, err)
				}
				requests["prepare"], count = count, 0
				if text := p.text(); !strings.Contains(text, "nhid 7") || !strings.Contains(text, "0e:11:22:33:44:02") {
					t.Fatalf("wired, the pod has not what it had:\n%s", text)
				}
				if _, err := Restore(context.Background(), req, false); err != nil {
					t.Fatal(err)
				}
				requests["restore"] = count
				same("round", i)
			}
			t.Logf("killed before each of %v", requests)
			for i := range soak(8, 1000) {
				operation := "prepare"
				if i%2 == 1 {
					operation = "restore"
					p.prepare()
				}
				if step := i / 2 * 5 % requests[operation]; !p.child(operation, repeat.Before(operation, step)) {
					t.Errorf("%s was not killed before its request %d", operation, step)
				}
				p.restore()
				same("kill", i)
			}
		})
	}
}

// TestRoundsLeaveNothingInTheProcess counts descriptors and threads after many rounds in one process, and looks that every
// thread is back from the pods' namespaces. The process is one of its own, beside which other tests go on.
func TestRoundsLeaveNothingInTheProcess(t *testing.T) {
	t.Parallel()
	var namespaces, stateDirs []string
	for range 4 {
		p := newTestPod(t, shapes["ptp"]...)
		namespaces, stateDirs = append(namespaces, p.request().Namespace), append(stateDirs, p.dir)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childOperation+"="+childRounds, childNamespace+"="+strings.Join(namespaces, ","),
		childStateDir+"="+strings.Join(stateDirs, ","), fmt.Sprintf("%s=%d", childDieAt, soak(120, 2000)))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// manyRounds goes through as many as it is told in several pods at once, and prints what it has left in the process.
func manyRounds() (status int) {
	fail := func(format string, a ...any) {
		fmt.Printf(format+"\n", a...)
		status = 1
	}
	number, err := strconv.Atoi(os.Getenv(childDieAt))
	if err != nil {
		panic(err)
	}
	namespaces, stateDirs := strings.Split(os.Getenv(childNamespace), ","), strings.Split(os.Getenv(childStateDir), ",")
	many := func(each int) error {
		errs := make([]error, len(namespaces))
		var all sync.WaitGroup
		for i := range namespaces {
			all.Go(func() {
				req := Request{Namespace: namespaces[i], StateDir: stateDirs[i], LockTimeout: podtest.Patience, settled: true}
				for n := 0; n < each && errs[i] == nil; n++ {
					if _, errs[i] = Prepare(context.Background(), req); errs[i] == nil {
						_, errs[i] = Restore(context.Background(), req, false)
					}
				}
			})
		}
		all.Wait()
		return errors.Join(errs...)
	}
	if err := many(1); err != nil {
		fail("%v", err)
	}
	files, threads := processCounts()
	if err := many(number / len(namespaces)); err != nil {
		fail("%v", err)
	}
	if f, th := processCounts(); f > files || th > threads+4 {
		fail("after %d rounds: %d descriptors (%d before), %d threads (%d before)", number, f, files, th, threads)
	}
	own, err := os.Readlink(ownNamespace)
	if err != nil {
		fail("%v", err)
	}
	links, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(links) == 0 {
		fail("threads: %v, %v", links, err)
	}
	for _, link := range links {
		if in, err := os.Readlink(link); err == nil && in != own { // a thread may have ended
			fail("%s is left in %s", link, in)
		}
	}
	return status
}

func processCounts() (files, threads int) {
	for path, n := range map[string]*int{"/proc/self/fd": &files, "/proc/self/task": &threads} {
		entries, err := os.ReadDir(path)
		if err != nil {
			panic(err)
		}
		*n = len(entries)
	}
	return files, threads
}

// TestRepairKilledAnywhereKeepsTheGuestsNetwork kills a second prepare, under a guest and with something to mend, before
// each of its requests and then by the clock. The guest pings its gateway all the while.
func TestRepairKilledAnywhereKeepsTheGuestsNetwork(t *testing.T) {
	for name, joint := range joints { // one after the other: they count lost pings
		t.Run(name, func(t *testing.T) { repairKilledAnywhere(t, joint) })
	}
}

func repairKilledAnywhere(t *testing.T, joint joint) {
	damage := []string{"ip link set eth0-br mtu 1400", "ip link set eth0-br arp on", "ip addr flush dev eth0"}
	joined := "master eth0-br"
	if joint.binding != plan.BindingBridge {
		damage = []string{"ip link set tap0 mtu 1400", "ip link set tap0 arp on", "nft add rule inet podnic-eth0 pod-ip accept"}
		joined = "tap0"
	}
	if len(joint.without) > 0 {
		damage = append(damage, "ip link set tap0 alias another")
	}
	p := newTestPod(t, append(shapes["bridge"], "node:addr add 10.244.1.1/24 dev host0",
		"node:neigh add 10.244.1.5 lladdr "+podMAC.String()+" dev host0 nud permanent")...)
	p.joint = joint
	p.prepare()
	guest, node := p.ends()
	node.Close()
	pings := ping(t, guest)
	killed := true
	points := soak(100, 1000)
	moments := func(yield func(repeat.Moment) bool) {
		for n := 0; killed; n++ {
			if !yield(repeat.Before("prepare", n)) {
				return
			}
		}
		for i := range points {
			if !yield(repeat.After("prepare", 10*time.Millisecond*time.Duration(i)/time.Duration(points))) {
				return
			}
		}
	}
	for moment := range repeat.Moments(t, moments) {
		for _, c := range damage {
			words := strings.Fields(c)
			if _, err := p.run(p.pod, words[0], words[1:]...); err != nil {
				t.Fatal(err)
			}
		}
		killed = p.child("prepare", moment)
		if out := p.ip("-o link show tap0"); !strings.Contains(out, "LOWER_UP") || !strings.Contains(out, joined) {
			t.Fatalf("killed, and then: %s", out)
		}
		if !pings.answered() {
			t.Fatal("killed, and then no ping of the guest is answered")
		}
	}
	sent, lost := pings.end()
	t.Logf("%d pings, at most %d lost in a row", sent, lost)
	if time.Duration(lost)*pingInterval >= time.Second {
		t.Errorf("%d pings in a row were lost, one every %v", lost, pingInterval)
	}
}
