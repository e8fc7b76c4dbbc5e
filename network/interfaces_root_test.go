package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/plan"
)

// newMultusPod has eth0 as the ptp plugin makes it, net1 of a range of its own, and net2 without an address.
func newMultusPod(t *testing.T) *testPod {
	return newTestPod(t, append(slices.Clone(shapes["ptp"]),
		"link add net1 type veth peer name net1p", "addr add 10.245.0.5/24 dev net1",
		"link set net1 up", "link set net1p up", "route add 10.99.0.0/16 via 10.245.0.1",
		"link add net2 type veth peer name net2p", "link set net2 up", "link set net2p up")...)
}

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

// TestPrepareOfSeveralThatFailsAnywhereLeavesTheNamespaceAsItWas fails each step of each interface once.
func TestPrepareOfSeveralThatFailsAnywhereLeavesTheNamespaceAsItWas(t *testing.T) {
	t.Parallel()
	p := newMultusPod(t)
	before := p.inOrder()
	for n := 0; ; n++ {
		req, step := p.of("eth0", "net1", "net2"), 0
		req.fault = func(int) error {
			if step++; step-1 == n {
				return errInjected
			}
			return nil
		}
		_, err := PrepareAll(t.Context(), req)
		if err == nil {
			if n < 40 {
				t.Errorf("three interfaces took %d steps", n)
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
