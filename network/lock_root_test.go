package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/test/podtest"
)

// squatters hold flock on the namespace until their input ends, and are no podnic. Each says "held" when it does.
var squatters = map[string]struct{ command, why string }{
	"without a capability":        {podtest.Stranger + "flock /proc/self/ns/net " + podtest.Hold, "it has no CAP_NET_ADMIN"},
	"shared":                      {podtest.Stranger + "flock --shared /proc/self/ns/net " + podtest.Hold, "it has no CAP_NET_ADMIN"},
	"in a user namespace":         {podtest.Stranger + "unshare --user --map-root-user flock /proc/self/ns/net " + podtest.Hold, "that of a user namespace of its own"},
	"that left it to another one": {podtest.Stranger + "sh -c 'exec 9</proc/self/ns/net; flock 9; echo held; exec cat'", "it has ended and left the lock"},
}

// squat starts a shell command in the pod and returns when it holds the lock.
func (p *testPod) squat(command string) (end func()) {
	p.t.Helper()
	return podtest.Squat(p.t, p.request().Namespace, command)
}

// inInitialPIDs reports whether processes are numbered as the kernel numbers them, and those that have ended show in
// /proc/locks (locks_translate_pid). The inode is PROC_PID_INIT_INO (include/linux/proc_ns.h).
func inInitialPIDs(t *testing.T) bool {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	return own == "pid:[4026531836]"
}

// TestWhoCannotBePodnicIsNotWaitedFor has a process of the pod hold what anybody can hold, while everything that locks is
// done. Each says who it is.
func TestWhoCannotBePodnicIsNotWaitedFor(t *testing.T) {
	for name, squatter := range squatters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, shapes["ptp"]...)
			before := p.text()
			req := p.request()
			if strings.Contains(squatter.why, "has ended") && !inInitialPIDs(t) {
				p.squat(squatter.command)
				req.LockTimeout = time.Millisecond
				p.refused(func() error { _, err := Prepare(t.Context(), req); return err }, "cannot be seen from here")
				return
			}
			p.squat(squatter.command)
			said := func(did string, warnings []string, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", did, err)
				}
				if text := strings.Join(warnings, "\n"); !strings.Contains(text, squatter.why) || !strings.Contains(text, "process ") {
					t.Errorf("%s does not say who holds the lock: %q", did, text)
				}
			}
			r, err := Prepare(t.Context(), req)
			said("prepare", warningsOf(r), err)
			again, err := Prepare(t.Context(), req)
			said("a second prepare", warningsOf(again), err)
			restored, err := Restore(t.Context(), req, false)
			if err == nil {
				said("restore", restored.Warnings, nil)
			} else {
				t.Fatal(err)
			}
			provision := p.provideFor("eth0")
			warnings, err := Provide(t.Context(), provision, nil, nil)
			said("provide", warnings, err)
			warnings, err = Withdraw(t.Context(), provision, nil)
			said("withdraw", warnings, err)
			if diff := cmp.Diff(before, p.text()); diff != "" {
				t.Errorf("the namespace is not as before:\n%s", diff)
			}
		})
	}
}

func warningsOf(r *Result) []string {
	if r == nil {
		return nil
	}
	return r.Warnings
}

// TestWhoMayBePodnicIsWaitedForAndNamed has flock held as a podnic holds it that knows no other lock, and both as this one
// does.
func TestWhoMayBePodnicIsWaitedForAndNamed(t *testing.T) {
	p := newTestPod(t, shapes["ptp"]...)
	req := p.request()
	prepare := func() error { _, err := Prepare(t.Context(), req); return err }
	waits := func(end func(), words ...string) {
		t.Helper()
		req.LockTimeout = time.Millisecond
		p.refused(prepare, append(words, "another podnic", "--lock-timeout")...)
		if err := prepare(); !errors.Is(err, ErrBusy) {
			t.Errorf("it is not worth another try: %v", err)
		}
		// Now it waits, and goes on when it can.
		req.LockTimeout = time.Minute
		done := make(chan error)
		go func() { done <- prepare() }()
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
		p.restore()
	}
	waits(p.squat("flock /proc/self/ns/net "+podtest.Hold), `of uid 0, "flock /proc/self/ns/net`)

	ns := p.namespace()
	unlock, warning, err := ns.Lock(t.Context(), 0)
	if err != nil || warning != "" {
		t.Fatal(err, warning)
	}
	waits(unlock, fmt.Sprintf("process %d of uid 0, ", os.Getpid()), "network.test")
}

// TestRecordIsWrittenUnderTheLock has another podnic change the namespace while the guest's name is to be written down.
func TestRecordIsWrittenUnderTheLock(t *testing.T) {
	p := newTestPod(t, shapes["ptp"]...)
	p.prepare()
	req := p.request()
	req.LockTimeout = time.Millisecond
	ns := p.namespace()
	unlock, _, err := ns.Lock(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := SetDomain(t.Context(), req, "eth0", &DomainRef{Name: "vm-0"}); !errors.Is(err, ErrBusy) {
		t.Errorf("while another works there: %v", err)
	}
	unlock()
	if err := SetDomain(t.Context(), req, "eth0", &DomainRef{Name: "vm-0"}); err != nil {
		t.Error(err)
	}
	p.restore()
}

// prepareBy has another process prepare the pod from inside, by a command that ends with the program.
func (p *testPod) prepareBy(command ...string) (string, error) {
	p.t.Helper()
	cmd := exec.Command(command[0], append(command[1:], os.Args[0])...)
	cmd.Env = append(os.Environ(), childOperation+"=prepare", childNamespace+"=", childStateDir+"="+p.dir, childDieAt+"=-1", childLock+"=1ms")
	var out []byte
	err := p.pod.Do(func(netns) (err error) { out, err = cmd.CombinedOutput(); return err })
	return string(out), err
}

// TestWhoIsNotSeenMayBePodnic asks for the lock from another process namespace than that of who holds it.
func TestWhoIsNotSeenMayBePodnic(t *testing.T) {
	p := newTestPod(t, shapes["ptp"]...)
	p.squat(squatters["without a capability"].command)
	text, err := p.prepareBy("unshare", "--pid", "--fork", "--mount-proc")
	if err == nil || !strings.Contains(text, "a process that cannot be seen from here") || !strings.Contains(text, "/proc/locks") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestWithoutPtraceAStrangersUserNamespaceIsNamed prepares with the two capabilities that it takes. They are enough to see
// that another has none, and not to see that those it has do not count.
func TestWithoutPtraceAStrangersUserNamespaceIsNamed(t *testing.T) {
	p := newTestPod(t, shapes["ptp"]...)
	two := []string{"setpriv", "--inh-caps=-all", "--bounding-set=-all,+net_admin,+net_raw", "--"}
	end := p.squat(squatters["in a user namespace"].command)
	if text, err := p.prepareBy(two...); err == nil || !strings.Contains(text, "of uid 107") || !strings.Contains(text, "--lock-timeout") {
		t.Errorf("%v: %s", err, text)
	}
	end()
	p.squat(squatters["without a capability"].command)
	if text, err := p.prepareBy(two...); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	p.restore()
}

// TestOneAtATimeWhateverAStrangerDoes has several lock the namespace again and again, while processes without a capability
// hold flock for as long as they like, and let go of it.
func TestOneAtATimeWhateverAStrangerDoes(t *testing.T) {
	p := newTestPod(t)
	p.squat(podtest.Stranger + `sh -c 'echo held; exec flock --shared /proc/self/ns/net cat'`)
	for range 2 { // each takes and leaves it until the shell that reads is gone
		p.squat(podtest.Stranger + `sh -c 'echo held; while read -r _; do :; done & reader=$!; while kill -0 $reader 2>/dev/null; do flock --shared /proc/self/ns/net true; done'`)
	}
	var inside, entered atomic.Int32
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range soak(5, 100) {
				ns, err := OpenNamespace(p.request().Namespace)
				if err != nil {
					t.Error(err)
					return
				}
				unlock, _, err := ns.Lock(context.Background(), time.Minute)
				if err != nil {
					t.Error(err)
					ns.Close()
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d are in at once", n)
				}
				entered.Add(1)
				_, _ = os.ReadFile("/proc/self/mountinfo") // something that takes a moment
				inside.Add(-1)
				unlock()
				ns.Close()
			}
		})
	}
	wait.Wait()
	t.Logf("entered %d times", entered.Load())
}

// TestTheRulesetIsNotTouchedByTheLock reads its generation, which every change of whomever raises.
func TestTheRulesetIsNotTouchedByTheLock(t *testing.T) {
	p := newTestPod(t)
	ns := p.namespace()
	n := &rtnl.NFT{NS: ns}
	defer n.Close()
	if err := n.Open(); err != nil {
		t.Fatal(err)
	}
	before := n.Now()
	p.squat(squatters["without a capability"].command)
	unlock, warning, err := ns.Lock(t.Context(), time.Millisecond)
	if err != nil || warning == "" {
		t.Fatal(err, warning)
	}
	if rules, err := p.run(p.pod, "nft", "list", "ruleset"); err != nil || rules != "" {
		t.Errorf("%v: %s", err, rules)
	}
	unlock()
	if after := n.Now(); after != before {
		t.Errorf("the ruleset was of generation %d and is of %d", before, after)
	}
}

// TestNamespacesAreNothingElse names what is none. A fifo that nobody writes to would be waited for.
func TestNamespacesAreNothingElse(t *testing.T) {
	p := newTestPod(t)
	fifo := p.dir + "/fifo"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: p.dir + "/socket"}); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string]string{
		fifo: "not a network namespace", p.dir + "/socket": "not a network namespace", p.dir: "not a network namespace",
		"/dev/null": "not a network namespace", "/dev/ptmx": "not a network namespace", "/proc/self/ns/mnt": "not a network namespace",
		"/proc/self/ns/user": "not a network namespace", "/proc/self/status": "not a network namespace",
		p.dir + "/none": "no network namespace", fifo + "/none": "no network namespace",
		"/proc/" + strconv.Itoa(1<<22) + "/ns/net": "no network namespace",
	} {
		ns, err := OpenNamespace(path)
		if err == nil {
			ns.Close()
		}
		if !IsNoNamespace(err) || !IsRefusal(err) || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", path, err, words)
		}
	}
}

// TestClosedNamespaceIsEnteredNoMore, also by who is about to while another closes it.
func TestClosedNamespaceIsEnteredNoMore(t *testing.T) {
	p := newTestPod(t)
	for name, stays := range map[string]bool{"entered anew": false, "a thread stays": true} {
		n, err := OpenNamespace(p.request().Namespace)
		if err != nil {
			t.Fatal(err)
		}
		if stays {
			err = n.Stay()
		}
		if err = errors.Join(err, n.Do(func() error { return nil }), n.Close()); err != nil {
			t.Fatal(err)
		}
		if err := n.Do(func() error { t.Errorf("%s: entered", name); return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
