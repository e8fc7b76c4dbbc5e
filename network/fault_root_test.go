package network

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
)

var errInjected = errors.New("injected fault")

// failAt makes step n fail.
func failAt(n int) func(int) error {
	return func(step int) error {
		if step == n {
			return errInjected
		}
		return nil
	}
}

// fewest is how many steps a command takes at least.
func (p *testPod) fewest(bridge, redirect int) int {
	if p.binding == plan.BindingRedirect || p.binding == plan.BindingShared {
		return redirect
	}
	return bridge
}

// shapesThatFail are those of which every step fails. Together they have all kinds of steps; of the others every third fails, but
// in the soak.
var shapesThatFail = []string{"ptp", "dual stack", "routes of every kind", "addresses of every kind", "neighbours of every kind", "much of everything"}

// faults is how far the steps that fail are apart.
func (p *testPod) faults() int {
	_, shape, _ := strings.Cut(p.t.Name(), "/")
	_, shape, _ = strings.Cut(shape, "/")
	if slices.Contains(shapesThatFail, strings.ReplaceAll(shape, "_", " ")) {
		return 1
	}
	return soak(3, 1)
}

// TestPrepareThatFailsAnywhereLeavesTheNamespaceAsItWas fails the steps of every shape.
func TestPrepareThatFailsAnywhereLeavesTheNamespaceAsItWas(t *testing.T) {
	forEachShape(t, func(t *testing.T, p *testPod) {
		before := p.text()
		for n := 0; ; n += p.faults() {
			req := p.request()
			req.fault = failAt(n)
			_, err := Prepare(context.Background(), req)
			if err == nil {
				p.restore()
				if n < p.fewest(15, 3) {
					t.Fatalf("prepare took %d steps", n)
				}
				break
			}
			if !errors.Is(err, errInjected) {
				t.Fatalf("step %d: %v", n, err)
			}
			if diff := cmp.Diff(before, p.text()); diff != "" {
				t.Fatalf("after step %d failed (%v):\n%s", n, err, diff)
			}
			if _, err := os.Stat(p.recordPath()); !os.IsNotExist(err) {
				t.Fatalf("step %d: the record is left: %v", n, err)
			}
		}
	})
}

// TestRestoreThatFailsAnywhereCanBeRunAgain fails the steps of every shape.
func TestRestoreThatFailsAnywhereCanBeRunAgain(t *testing.T) {
	forEachShape(t, func(t *testing.T, p *testPod) {
		before := p.text()
		for n := 0; ; n += p.faults() {
			p.prepare()
			req := p.request()
			req.fault = failAt(n)
			_, err := Restore(context.Background(), req, false)
			if err == nil {
				if n < p.fewest(8, 2) {
					t.Fatalf("restore took %d steps", n)
				}
				break
			}
			var stuck *StuckError
			if !errors.As(err, &stuck) || !errors.Is(err, errInjected) {
				t.Fatalf("step %d: %v", n, err)
			}
			p.restore()
			if diff := cmp.Diff(before, p.text()); diff != "" {
				t.Fatalf("after step %d failed and a second restore:\n%s", n, diff)
			}
		}
	})
}

// TestModelIsWhatTheKernelDoes holds the model that Diff plans with against the kernel, after every single step of
// prepare and restore.
func TestModelIsWhatTheKernelDoes(t *testing.T) {
	forEachShape(t, func(t *testing.T, p *testPod) {
		p.settle()
		s, err := open(p.request())
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		options, err := s.Options.Normal()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.discover(options); err != nil {
			t.Fatal(err)
		}
		options.Interface, options.TC = s.found.names.Interface, slices.Contains(p.without, rtnl.HideForward)
		nic, names := s.found.nic.Index, options.Names()
		original, err := s.snapshot(nic, names)
		if err != nil {
			t.Fatal(err)
		}
		walk := func(from, to *plan.Snapshot) *plan.Snapshot {
			model := from.Clone()
			e := rtnl.NewExecutor(s.ns, s.rtnl, s.nft, from)
			kernel := from
			for _, step := range plan.Diff(options.Names().Binding, from, to) {
				if err := e.Apply([]plan.Step{step}); err != nil {
					t.Fatal(err)
				}
				model.Model(step.Change)
				if kernel, err = s.snapshot(nic, names); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(plan.Comparable(model), plan.Comparable(kernel)); diff != "" {
					t.Fatalf("%s: model (-) and kernel (+) differ:\n%s", step.InWords(), diff)
				}
			}
			if left := plan.Diff(options.Names().Binding, kernel, to); len(left) > 0 {
				t.Fatalf("left to do: %v", left)
			}
			return kernel
		}
		wired := walk(original, plan.Wired(original, options))
		walk(wired, original)
	})
}
