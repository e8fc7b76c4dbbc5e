package serving

import (
	"testing"

	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

// TestWhatASetTakesUp of what is wired while it serves: what was named, unless that is another guest's, and all of its guest's.
func TestWhatASetTakesUp(t *testing.T) {
	ours, others := &network.DomainRef{Name: "vm", UUID: "1"}, &network.DomainRef{Name: "other", UUID: "2"}
	for _, test := range []struct {
		name         string
		guest, owner *network.DomainRef
		iface        string
		want         bool
	}{
		{"named, prepared by hand", nil, nil, "eth0", true},
		{"not named", nil, nil, "net1", false},
		{"named, and a server of no guest in particular", nil, others, "eth0", true},
		{"named, prepared by hand, beside a guest", ours, nil, "eth0", true},
		{"its guest's, not named", ours, ours, "net1", true},
		{"another guest's", ours, others, "net1", false},
		{"named, and another guest's by now", ours, others, "eth0", false},
	} {
		s := &Set{req: network.Request{Options: plan.Options{Interface: "eth0"}}, guest: test.guest}
		seen := &network.Inspection{Record: &network.Record{Domain: test.owner}}
		seen.Names.Interface = test.iface
		if got := s.wants(seen); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
