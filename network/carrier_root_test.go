package network

import (
	"context"
	"testing"
	"time"

	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/test/podtest"
)

// TestCarrierIsTold takes the carrier of a wired interface away in each way there is, and gives it back where that can be.
func TestCarrierIsTold(t *testing.T) {
	p := newTestPod(t, shapes["bridge"]...)
	p.settle()
	p.prepare()
	seen, err := Inspect(p.request())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	carrier, err := FollowCarrier(ctx, p.request(), seen.Current.Link(plan.NIC).Index)
	if err != nil {
		t.Fatal(err)
	}
	nic := seen.Names.NIC
	for _, step := range []struct {
		command string
		want    bool
	}{
		{"", true},
		{"node:link set host0 down", false},
		{"node:link set host0 up", true},
		{"link set " + nic + " down", false},
		{"link set " + nic + " up", true},
		{"node:link delete host0", false},
	} {
		if step.command != "" {
			p.ip(step.command)
		}
		select {
		case got := <-carrier:
			if got != step.want {
				t.Errorf("after %q, a carrier: %v", step.command, got)
			}
		case <-time.After(podtest.Patience):
			t.Fatalf("after %q, nothing is told", step.command)
		}
	}
}
