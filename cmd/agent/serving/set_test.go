package serving

import (
	"slices"
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

// TestWhatWasTakenUpEarlyIsToldLater: between the start of a guest and the moment at which somebody follows it, an interface may be
// attached.
func TestWhatWasTakenUpEarlyIsToldLater(t *testing.T) {
	early, late := memberOf("net1"), memberOf("net2")
	s := &Set{members: []*member{memberOf("eth0"), early}}
	s.took(early)
	var told []string
	tell := func(one *network.Inspection) { told = append(told, one.Names.Interface) }
	s.OnTaken(tell)
	s.members = append(s.members, late)
	s.took(late)
	s.OnTaken(nil)
	s.OnTaken(tell)
	if !slices.Equal(told, []string{"net1", "net2"}) {
		t.Errorf("told of %v", told)
	}
}

func memberOf(iface string) *member {
	seen := new(network.Inspection)
	seen.Names.Interface = iface
	return &member{Server: &Server{wiring: seen}}
}

// TestNoGuestIsNotReady: a probe of a server whose interfaces were all given back.
func TestNoGuestIsNotReady(t *testing.T) {
	if new(Set).guestReady() {
		t.Error("nobody is ready")
	}
}
