package network

import (
	"context"
	"errors"
	"os"
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

// TestPrepareThatFailsAnywhereLeavesTheNamespaceAsItWas fails every step of every shape once.
func TestPrepareThatFailsAnywhereLeavesTheNamespaceAsItWas(t *testing.T) {
	forEachShape(t, func(t *testing.T, p *testPod) {
		before := p.text()
		for n := 0; ; n++ {
			req := p.request()
			req.fault = failAt(n)
			_, err := Prepare(context.Background(), req)
			if err == nil {
				p.restore()
				if n < 15 {
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

// TestRestoreThatFailsAnywhereCanBeRunAgain fails every step of every shape once.
func TestRestoreThatFailsAnywhereCanBeRunAgain(t *testing.T) {
	forEachShape(t, func(t *testing.T, p *testPod) {
		before := p.text()
		for n := 0; ; n++ {
			p.prepare()
			req := p.request()
			req.fault = failAt(n)
			_, err := Restore(context.Background(), req, false)
			if err == nil {
				if n < 8 {
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
		options.Interface = s.found.names.Interface
		nic, names := s.found.nic.Index, s.found.names
		original, err := s.snapshot(nic, names)
		if err != nil {
			t.Fatal(err)
		}
		walk := func(from, to *plan.Snapshot) *plan.Snapshot {
			model := from.Clone()
			e := rtnl.NewExecutor(s.ns, s.rtnl, s.nft, from)
			kernel := from
			for _, step := range plan.Diff(from, to) {
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
			if left := plan.Diff(kernel, to); len(left) > 0 {
				t.Fatalf("left to do: %v", left)
			}
			return kernel
		}
		wired := walk(original, plan.Wired(original, options))
		walk(wired, original)
	})
}
