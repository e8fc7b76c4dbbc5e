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
