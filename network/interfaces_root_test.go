package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/repeat"
)

// second and third are how newMultusPod makes net1, which has a range of its own, and net2.
const (
	netOfVeth = "link add %[1]s type veth peer name %[1]sp; link set %[1]s up; link set %[1]sp up"
	// It hears no groups but the pod's until a redirect has it hear all.
	netOfMacvlan = "node:link add low%[1]s type veth peer name low%[1]sp; node:link set low%[1]sp up; node:link set low%[1]s up; " +
		"node:link add link low%[1]s name %[1]s netns POD type macvlan mode bridge; link set %[1]s up"
)

// sets are the links that pods with several interfaces have for net1 and net2. A macvlan is redirected: a bridge cannot have it.
var sets = map[string][2]string{
	"veths":              {netOfVeth, netOfVeth},
	"a macvlan is third": {netOfVeth, netOfMacvlan},
	"macvlans":           {netOfMacvlan, netOfMacvlan},
}

// newMultusPod has eth0 as the ptp plugin makes it, net1 of a range of its own, and net2 without an address.
func newMultusPod(t *testing.T) *testPod { return newMultusPodOf(t, "veths") }

// newMultusPodOf is newMultusPod with the links of a set.
func newMultusPodOf(t *testing.T, set string) *testPod {
	commands := slices.Clone(shapes["ptp"])
	for i, how := range sets[set] {
		commands = append(commands, strings.Split(fmt.Sprintf(how, fmt.Sprint("net", i+1)), "; ")...)
	}
	return newTestPod(t, append(commands, "addr add 10.245.0.5/24 dev net1", "route add 10.99.0.0/16 via 10.245.0.1")...)
}

// forEachSet runs a test with a pod whose links make for all kinds of steps, in the soak with one of each set.
func forEachSet(t *testing.T, f func(*testing.T, *testPod)) {
	t.Parallel()
	for set := range sets {
		if set != "a macvlan is third" && soak(0, 1) == 0 {
			continue
		}
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			f(t, newMultusPodOf(t, set))
		})
	}
}

// threeInterfaces are those of newMultusPod.
var threeInterfaces = []string{"eth0", "net1", "net2"}

// of is a request for interfaces.
func (p *testPod) of(names ...string) Request {
	req := p.request()
	for _, name := range names {
		req.Interfaces = append(req.Interfaces, plan.Options{Interface: name})
	}
	return req
}

func (p *testPod) prepareAll(names ...string) []*Result {
	p.t.Helper()
	all, err := PrepareAll(context.Background(), p.of(names...))
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

// restoreAll is restore for all that is wired.
func (p *testPod) restoreAll() {
	p.t.Helper()
	for deadline := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		_, err := RestoreAll(context.Background(), p.request(), false)
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "a guest holds") || time.Now().After(deadline) {
			p.t.Fatal(err)
		}
	}
}

// requests counts those that an operation takes for interfaces, and does it.
func (p *testPod) requests(operation string, names ...string) (n int) {
	p.t.Helper()
	req := p.of(names...)
	req.beforeRequest = func() { n++ }
	var err error
	if operation == "prepare" {
		_, err = PrepareAll(context.Background(), req)
	} else {
		_, err = RestoreAll(context.Background(), req, true)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// wiredInOrder is wiredText of all interfaces.
func (p *testPod) wiredInOrder() string {
	p.t.Helper()
	all, err := InspectAll(p.request())
	if err != nil {
		p.t.Fatal(err)
	}
	var texts []string
	for _, seen := range all {
		texts = append(texts, seen.Names.Interface+" by "+seen.Names.Tap)
		texts = append(texts, strings.Split(marks.ReplaceAllString(strings.Join(plan.Comparable(seen.Current), "\n"), "$1 MARK"), "\n")...)
	}
	return strings.Join(texts, "\n")
}

// wired are the interfaces that a look finds wired, as they should be, each with its tap.
func (p *testPod) wired() string {
	p.t.Helper()
	all, err := InspectAll(p.request())
	if err != nil {
		p.t.Fatal(err)
	}
	var found []string
	for _, seen := range all {
		if !seen.Wired {
			continue
		}
		found = append(found, seen.Names.Interface+"/"+seen.Names.Tap)
		if len(seen.Repairs) > 0 || len(seen.Warnings) > 0 {
			p.t.Errorf("%s: %v %v", seen.Names.Interface, seen.Repairs, seen.Warnings)
		}
	}
	return strings.Join(found, " ")
}

// inOrder is what ip(8) says, sorted: which of several links has been up for longer shows in the order of the routes that the
// kernel made for each, and nowhere else.
func (p *testPod) inOrder() string {
	p.t.Helper()
	lines := strings.Split(p.text(), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (p *testPod) sameButForOrder(before string) {
	p.t.Helper()
	if diff := cmp.Diff(before, p.inOrder()); diff != "" {
		p.t.Errorf("the namespace is not as before:\n%s", diff)
	}
}

// TestEachInterfaceIsGivenAndTakenBackByItself: what is done to one changes nothing of the others, in whatever order.
func TestEachInterfaceIsGivenAndTakenBackByItself(t *testing.T) {
	t.Parallel()
	p := newMultusPod(t)
	before := p.inOrder()
	if all := p.prepareAll("net1", "eth0", "net2"); len(all) != 3 || all[0].Names.Interface != "net1" {
		t.Fatalf("%d results", len(all))
	}
	// The one with the default route comes first.
	if diff := cmp.Diff("eth0/tap1 net1/tap0 net2/tap2", p.wired()); diff != "" {
		t.Fatal(diff)
	}
	for _, again := range p.prepareAll("eth0", "net1", "net2") {
		if again.Repaired || len(again.Steps) > 0 {
			t.Errorf("%s: a second prepare found something to do: %v", again.Names.Interface, again.Steps)
		}
	}
	for _, left := range []struct{ restored, wired string }{
		{"eth0", "net1/tap0 net2/tap2"}, {"net2", "net1/tap0"}, {"net1", ""},
	} {
		req := p.request()
		req.Options.Interface = left.restored
		if _, err := Restore(t.Context(), req, false); err != nil {
			t.Fatalf("%s: %v", left.restored, err)
		}
		if diff := cmp.Diff(left.wired, p.wired()); diff != "" {
			t.Errorf("after %s was restored: %s", left.restored, diff)
		}
	}
	p.sameButForOrder(before)
	p.noFiles()

	p.prepareAll("net1")
	p.prepareAll("eth0")
	if diff := cmp.Diff("eth0/tap1 net1/tap0", p.wired()); diff != "" {
		t.Error(diff)
	}
	if all, err := RestoreAll(t.Context(), p.request(), false); err != nil || len(all) != 2 {
		t.Errorf("%d restored: %v", len(all), err)
	}
	p.sameButForOrder(before)
	p.noFiles()
}

// failAfter makes step n fail, counted over all interfaces.
func failAfter(n int) func(int) error {
	step := 0
	return func(int) error {
		if step++; step-1 == n {
			return errInjected
		}
		return nil
	}
}

// stepsOfFirst are how many prepare and restore take for eth0. What fails there is as with one interface.
func (p *testPod) stepsOfFirst() (prepare, restore int) {
	p.t.Helper()
	prepare = len(p.prepareAll("eth0")[0].Steps)
	return prepare, len(p.restore().Steps)
}

// TestPrepareOfSeveralThatFailsAnywhereLeavesTheNamespaceAsItWas fails each step of the second and third interface once.
func TestPrepareOfSeveralThatFailsAnywhereLeavesTheNamespaceAsItWas(t *testing.T) {
	forEachSet(t, func(t *testing.T, p *testPod) {
		before := p.inOrder()
		first, _ := p.stepsOfFirst()
		for n := first; ; n++ {
			req := p.of(threeInterfaces...)
			req.fault = failAfter(n)
			_, err := PrepareAll(t.Context(), req)
			if err == nil {
				if n-first < 3+3 {
					t.Errorf("net1 and net2 took %d steps", n-first)
				}
				return
			}
			if !errors.Is(err, errInjected) {
				t.Fatalf("step %d: %v", n, err)
			}
			if diff := cmp.Diff(before, p.inOrder()); diff != "" {
				t.Fatalf("after step %d failed (%v):\n%s", n, err, diff)
			}
			p.noFiles()
		}
	})
}

// TestRestoreOfSeveralThatFailsAnywhereCanBeRunAgain fails each step of the second and third interface once: the others are given back all the
// same, and the one that was not is by the next restore.
func TestRestoreOfSeveralThatFailsAnywhereCanBeRunAgain(t *testing.T) {
	forEachSet(t, func(t *testing.T, p *testPod) {
		before := p.inOrder()
		_, first := p.stepsOfFirst()
		for n := first; ; n++ {
			p.prepareAll(threeInterfaces...)
			req := p.request()
			req.fault = failAfter(n)
			all, err := RestoreAll(t.Context(), req, false)
			if err == nil {
				if n-first < 2+2 {
					t.Errorf("net1 and net2 took %d steps", n-first)
				}
				return
			}
			if _, stuck := errors.AsType[*StuckError](err); !stuck || !errors.Is(err, errInjected) || len(all) != 2 {
				t.Fatalf("step %d: %d restored: %v", n, len(all), err)
			}
			if again, err := RestoreAll(t.Context(), p.request(), false); err != nil || len(again) != 1 {
				t.Fatalf("step %d, and then: %d restored: %v", n, len(again), err)
			}
			if diff := cmp.Diff(before, p.inOrder()); diff != "" {
				t.Fatalf("after step %d failed (%v), and a second restore:\n%s", n, err, diff)
			}
			p.noFiles()
		}
	})
}

// TestTapsOfOthersAreNotTakenForOneThatIsMissing: the tap of an interface was deleted, or not made yet by a prepare that was killed.
// Another interface gets a name that is not the missing one's, also where no record says which that is.
func TestTapsOfOthersAreNotTakenForOneThatIsMissing(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		p := newMultusPod(t)
		p.prepareAll("eth0", "net1")
		p.ip("link del tap1")
		if lost {
			if err := os.Remove(Store{p.dir, "net1"}.Path()); err != nil {
				t.Fatal(err)
			}
		}
		p.prepareAll("net2")
		p.prepareAll("net1")
		if diff := cmp.Diff("eth0/tap0 net1/tap1 net2/tap2", p.wired()); diff != "" {
			t.Errorf("lost %v: %s", lost, diff)
		}
	}
}

// TestKilledAnywhereNothingIsLostOfSeveral kills prepare and restore of three interfaces before each request of the second and
// third, lets restore, or prepare and restore, follow in turn, and compares.
func TestKilledAnywhereNothingIsLostOfSeveral(t *testing.T) {
	forEachSet(t, func(t *testing.T, p *testPod) {
		before := p.inOrder()
		p.prepareAll(threeInterfaces...)
		wired := p.wiredInOrder()
		p.restoreAll()
		// Before the requests of the first, it is as with one interface.
		first := map[string]int{"prepare": p.requests("prepare", "eth0"), "restore": p.requests("restore", "eth0")}
		killed := true
		requests := func(yield func(repeat.Moment) bool) {
			for _, operation := range []string{"prepare", "restore"} {
				n := 0
				for killed = true; killed; n++ {
					if !yield(repeat.Before(repaired(operation, n), first[operation]+n)) {
						return
					}
				}
				if n < 5 {
					t.Errorf("%s of net1 and net2 took %d requests", operation, n-1)
				}
			}
		}
		for moment := range repeat.Moments(t, requests) {
			operation, repair := strings.CutSuffix(moment.Operation, repairs)
			if operation == "restore" {
				p.prepareAll(threeInterfaces...)
			}
			killed = p.child(operation, moment, threeInterfaces...)
			if repair {
				p.prepareAll(threeInterfaces...)
				if diff := cmp.Diff(wired, p.wiredInOrder()); diff != "" {
					t.Fatalf("killed, then prepared:\n%s", diff)
				}
			}
			p.restoreAll()
			p.noFiles()
			if diff := cmp.Diff(before, p.inOrder()); diff != "" {
				t.Fatalf("killed, then restored:\n%s", diff)
			}
		}
	})
}

// TestRestoreOfSeveralGoesOnAfterOneThatFails: a guest holds the tap of one.
func TestRestoreOfSeveralGoesOnAfterOneThatFails(t *testing.T) {
	t.Parallel()
	p := newMultusPod(t)
	before := p.inOrder()
	p.prepareAll("eth0", "net1", "net2")
	guest := openTap(t, p.pod, "tap1")
	defer guest.Close()
	all, err := RestoreAll(t.Context(), p.request(), false)
	if len(all) != 2 || !IsRefusal(err) || !strings.Contains(err.Error(), "tap1") {
		t.Errorf("%d restored: %v", len(all), err)
	}
	if diff := cmp.Diff("net1/tap1", p.wired()); diff != "" {
		t.Error(diff)
	}
	guest.Close()
	if all, err := RestoreAll(t.Context(), p.request(), false); err != nil || len(all) != 1 {
		t.Errorf("%d restored: %v", len(all), err)
	}
	p.sameButForOrder(before)
}

// TestLostRecordOfOneOfSeveral: it is rebuilt from what the namespace carries, whichever it is.
func TestLostRecordOfOneOfSeveral(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"eth0", "net1"} {
		p := newMultusPod(t)
		before := p.inOrder()
		p.prepareAll("eth0", "net1")
		if err := os.Remove(Store{p.dir, name}.Path()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("eth0/tap0 net1/tap1", p.wired()); diff != "" {
			t.Error(diff)
		}
		if _, err := RestoreAll(t.Context(), p.request(), false); err != nil {
			t.Error(err)
		}
		p.sameButForOrder(before)
	}
}

// TestOneOfSeveralIsNotTakenForAnother: who names an interface means that one.
func TestOneOfSeveralIsNotTakenForAnother(t *testing.T) {
	t.Parallel()
	p := newMultusPod(t)
	before := p.inOrder()
	p.refused(func() error { _, err := PrepareAll(t.Context(), p.of("eth0", "net1", "eth0")); return err }, "eth0", "twice")
	p.sameButForOrder(before)
	for _, name := range []string{"net7", "net7-nic"} { // nothing is wired, and nothing is called so
		_, err := RestoreAll(t.Context(), p.of(name), false)
		if !IsRefusal(err) || !IsNotWired(err) || !strings.Contains(err.Error(), "there is no interface "+name+" here: name one of ") {
			t.Errorf("%s: %v", name, err)
		}
		p.refused(func() error { _, err := RestoreAll(t.Context(), p.of("eth0", name), false); return err }, name)
	}
	if _, err := RestoreAll(t.Context(), p.of("eth0"), false); err != nil {
		t.Error(err)
	}
	p.prepareAll("net1")
	wired := p.inOrder()
	for name, words := range map[string][]string{
		"eth0": {"eth0 is not wired, and net1 is", "--interface"}, "net7": {"net7 is not wired, and net1 is"},
		"net1-nic": {"net1-nic is not wired"},
	} {
		p.refused(func() error { _, err := RestoreAll(t.Context(), p.of(name), false); return err }, words...)
		p.refused(func() error { _, err := RestoreAll(t.Context(), p.of("net1", name), false); return err }, words...)
	}
	p.refused(func() error { _, err := PrepareAll(t.Context(), p.of("net1-br")); return err }, "net1-br is a link of the wiring of net1")
	req := p.of("eth0")
	req.Interfaces[0].Tap = "tap0"
	p.refused(func() error { _, err := PrepareAll(t.Context(), req); return err }, "tap0", "another interface's wiring", "--tap")
	p.sameButForOrder(wired)

	// Nobody names one: a look finds what is wired, and prepare what has the default route.
	if diff := cmp.Diff("net1/tap0", p.wired()); diff != "" {
		t.Error(diff)
	}
	if got := p.prepare().Names; got.Interface != "eth0" || got.Tap != "tap1" {
		t.Errorf("wired %s with %s", got.Interface, got.Tap)
	}
	if again := p.prepare(); again.Names.Interface != "eth0" || len(again.Steps) > 0 {
		t.Errorf("a second prepare: %s, %v", again.Names.Interface, again.Steps)
	}
}

// TestRecordOfVersion1OutlivesAnotherInterface: a podnic that had one interface left its record in the state directory itself,
// and a guest runs. Another interface is given and taken back: that record stays where it is, and is believed.
func TestRecordOfVersion1OutlivesAnotherInterface(t *testing.T) {
	t.Parallel()
	p := newMultusPod(t)
	before := p.inOrder()
	p.prepareAll("eth0")
	text, err := os.ReadFile(Store{p.dir, "eth0"}.Path())
	if err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(p.dir, recordFile)
	text = []byte(strings.Replace(string(text), `"version": 2`, `"version": 1`, 1))
	if err := errors.Join(os.RemoveAll(filepath.Join(p.dir, "eth0")), os.WriteFile(first, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	guest := openTap(t, p.pod, "tap0")
	defer guest.Close()
	p.prepareAll("net1")
	if diff := cmp.Diff("eth0/tap0 net1/tap1", p.wired()); diff != "" {
		t.Error(diff)
	}
	if now, err := os.ReadFile(first); err != nil || string(now) != string(text) {
		t.Errorf("the record of version 1 is now %s, %v", now, err)
	}
	guest.Close()
	all, err := RestoreAll(t.Context(), p.request(), false)
	if err != nil || len(all) != 2 || len(all[0].Warnings)+len(all[1].Warnings) > 0 {
		t.Errorf("restored: %v %+v", err, all)
	}
	p.sameButForOrder(before)
	p.noFiles()
}

// TestABriefLookShowsAllButTheComparison: a server that starts has to know as much of a wiring that somebody changed.
func TestABriefLookShowsAllButTheComparison(t *testing.T) {
	t.Parallel()
	for by, joint := range joints {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			p := newTestPod(t, shapes["dual stack"]...)
			p.settle()
			p.joint = joint
			p.prepare()
			p.ip("link set tap0 mtu 1400")
			look := func(brief bool) *Inspection {
				req := p.request()
				req.Brief = brief
				all, err := InspectAll(req)
				if err != nil {
					t.Fatal(err)
				}
				return all[0]
			}
			whole, brief := look(false), look(true)
			if len(whole.Repairs) == 0 || len(whole.Deviations) == 0 {
				t.Error("the change was not found")
			}
			if len(brief.Repairs) > 0 || len(brief.Deviations) > 0 {
				t.Errorf("compared: %v", brief.Repairs)
			}
			for _, seen := range []*Inspection{whole, brief} {
				seen.Current, seen.Repairs, seen.Deviations = nil, nil, nil
			}
			if !reflect.DeepEqual(whole, brief) {
				t.Errorf("in whole:\n%+v\nin brief:\n%+v", whole, brief)
			}
		})
	}
}
