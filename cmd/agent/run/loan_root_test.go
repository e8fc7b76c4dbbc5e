package run

import (
	"slices"
	"testing"
	"time"

	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestAnotherGuestsInterfaceStaysItsOwn: what a guest has given up, and another has been given, is not taken back at the end of
// the first.
func TestAnotherGuestsInterfaceStaysItsOwn(t *testing.T) {
	podtest.NeedRoot(t)
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: pod.PTP})
	first, second := network.DomainRef{Name: "first", UUID: "1"}, network.DomainRef{Name: "second", UUID: "2"}
	req := network.Request{Namespace: p.Path, StateDir: t.TempDir(), LockTimeout: 10 * time.Second, Options: plan.Options{Tap: "tap0"}, Domain: &second}
	if _, err := network.Prepare(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		guest network.DomainRef
		wired bool
	}{{first, true}, {second, false}} {
		l := loan{Request: req, log: zap.NewNop(), names: []string{pod.Interface}}
		l.leaveOthers(test.guest)
		if err := l.restore(); err != nil {
			t.Fatal(err)
		}
		wired, err := network.Wired(req)
		if err != nil || slices.Contains(wired, pod.Interface) != test.wired {
			t.Errorf("at the end of %s: wired are %v, %v", test.guest.Name, wired, err)
		}
	}
}

// newPodWith has eth0 and net1, which are wired for a guest: taps tap0 and tap1.
func newPodWith(t *testing.T, guest network.DomainRef) network.Request {
	t.Helper()
	podtest.NeedRoot(t)
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: pod.PTP})
	podtest.In(t, p.Namespace, "ip link add net1 type veth peer name net1p\nip link set net1 up\nip link set net1p up")
	req := network.Request{Namespace: p.Path, StateDir: t.TempDir(), LockTimeout: 10 * time.Second, Domain: &guest}
	if _, err := network.PrepareAll(t.Context(), req.Only(plan.Options{Interface: "eth0"}, plan.Options{Interface: "net1"})); err != nil {
		t.Fatal(err)
	}
	return req
}

// TestWhatWasDetachedMeanwhileKeepsNothingFromThePod: somebody detaches an interface between the look at what the guest has, at its
// end, and its restore.
func TestWhatWasDetachedMeanwhileKeepsNothingFromThePod(t *testing.T) {
	req := newPodWith(t, network.DomainRef{Name: "vm", UUID: "1"})
	if _, err := network.Restore(t.Context(), req.Only(plan.Options{Interface: "net1"}), false); err != nil {
		t.Fatal(err)
	}
	l := loan{Request: req, log: zap.NewNop(), names: []string{"eth0", "net1"}}
	if err := l.restore(); err != nil {
		t.Error(err)
	}
	if wired, err := network.Wired(req); err != nil || len(wired) > 0 {
		t.Errorf("wired are %v, %v", wired, err)
	}
}

// TestTapsOfAGuestAreThoseItHasNow, by which a guest is believed to live while libvirt is away: one that was attached counts, one
// that was detached and is another guest's by now does not.
func TestTapsOfAGuestAreThoseItHasNow(t *testing.T) {
	guest, other := network.DomainRef{Name: "vm", UUID: "1"}, network.DomainRef{Name: "other", UUID: "2"}
	req := newPodWith(t, guest)
	l := loan{Request: req, log: zap.NewNop(), names: []string{"eth0"}} // it was started with eth0, and net1 was attached
	taps := func(want ...string) {
		t.Helper()
		if got, err := l.taps(guest); err != nil || !slices.Equal(got, want) {
			t.Errorf("taps %v, want %v: %v", got, want, err)
		}
	}
	taps("tap0", "tap1")
	if err := network.SetDomain(t.Context(), req, "eth0", &other); err != nil {
		t.Fatal(err)
	}
	taps("tap1")
	if err := network.SetDomain(t.Context(), req, "net1", &other); err != nil {
		t.Fatal(err)
	}
	taps()
}

// TestLostInterfaceIsLoggedNotServed: the others are taken, and the log says at which of them what is wrong.
func TestLostInterfaceIsLoggedNotServed(t *testing.T) {
	podtest.NeedRoot(t)
	p := podtest.Pod(t, podtest.Node(t), pod.Spec{Name: "vm", Network: pod.PTP})
	podtest.In(t, p.Namespace, "ip link add net1 type veth peer name net1p\nip link set net1 up\nip link set net1p up")
	req := network.Request{Namespace: p.Path, StateDir: t.TempDir(), LockTimeout: 10 * time.Second}
	if _, err := network.PrepareAll(t.Context(), req.Only(plan.Options{Interface: "eth0"}, plan.Options{Interface: "net1"})); err != nil {
		t.Fatal(err)
	}
	podtest.In(t, p.Namespace, "ip link delete net1-nic")
	for name, f := range map[string]func(*loan) error{
		"take":      (*loan).take,
		"claimFree": func(l *loan) error { return (&commandRun{loan: *l}).claimFree() },
	} {
		core, logs := observer.New(zap.WarnLevel)
		l := &loan{Request: req, log: zap.New(core), names: []string{"eth0", "net1"}}
		if err := f(l); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		said := logs.FilterMessage("an interface is not served").All()
		if len(said) != 1 || said[0].ContextMap()["interface"] != "net1" {
			t.Errorf("%s: the log says %+v", name, logs.All())
		}
	}
}
