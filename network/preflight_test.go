package network

import (
	"strings"
	"testing"

	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// TestLinkOfAnotherKindIsRefused takes every kind that pod networks use, also those that this kernel cannot make.
func TestLinkOfAnotherKindIsRefused(t *testing.T) {
	for _, test := range []struct {
		link  plan.Link
		words []string // the reason, and what would work instead
	}{
		{plan.Link{Kind: "macvlan"}, []string{"macvlan link", "its own MAC", "veth", "macvtap"}},
		{plan.Link{Kind: "ipvlan"}, []string{"ipvlan link", "parent's MAC", "veth"}},
		{plan.Link{Kind: "netkit"}, []string{"netkit link", "no MAC", "veth"}},
		{plan.Link{Kind: "bridge"}, []string{"bridge link", "port of another bridge"}},
		{plan.Link{Kind: "tun"}, []string{"tun link", "the program that holds it"}},
		{plan.Link{Kind: "vlan"}, []string{"vlan link", "bridged below it", "veth"}},
		{plan.Link{Kind: ""}, []string{"physical link", "SR-IOV", "PCI passthrough"}},
		{plan.Link{Kind: "ipoib"}, []string{"ipoib link", "veth alone", "give the pod a veth"}},
		{plan.Link{Type: unix.ARPHRD_LOOPBACK}, []string{"loopback", "--interface"}},
	} {
		test.link.Name = "eth0"
		err := checkKind(test.link)
		if !IsRefusal(err) {
			t.Errorf("%q: not a refusal: %v", test.link.Kind, err)
			continue
		}
		for _, word := range append(test.words, "eth0") {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q is not in: %v", word, err)
			}
		}
	}
	if err := checkKind(plan.Link{Name: "eth0", Kind: plan.KindVeth, Type: unix.ARPHRD_ETHER}); err != nil {
		t.Errorf("a veth is refused: %v", err)
	}
}
