package plan

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLinkOfAnotherKindIsRefused takes every kind that pod networks use, also those that this kernel cannot make.
func TestLinkOfAnotherKindIsRefused(t *testing.T) {
	for _, test := range []struct {
		link  Link
		words []string // the reason, and what would work instead
	}{
		{Link{Kind: "macvlan"}, []string{"macvlan link", "its own MAC", "veth", "macvtap"}},
		{Link{Kind: "ipvlan"}, []string{"ipvlan link", "parent's MAC", "veth"}},
		{Link{Kind: "netkit"}, []string{"netkit link", "no MAC", "veth"}},
		{Link{Kind: "bridge"}, []string{"bridge link", "port of another bridge"}},
		{Link{Kind: "tun"}, []string{"tun link", "the program that holds it"}},
		{Link{Kind: "vlan"}, []string{"vlan link", "bridged below it", "veth"}},
		{Link{Kind: ""}, []string{"physical link", "SR-IOV", "PCI passthrough"}},
		{Link{Kind: "ipoib"}, []string{"ipoib link", "veth alone", "give the pod a veth"}},
		{Link{Type: unix.ARPHRD_LOOPBACK}, []string{"loopback", "--interface"}},
	} {
		test.link.Name = "eth0"
		err := bridgeBinding{}.Accepts(test.link, nil, nil)
		var refusal *RefusalError
		if !errors.As(err, &refusal) {
			t.Errorf("%q: not a refusal: %v", test.link.Kind, err)
			continue
		}
		for _, word := range append(test.words, "eth0") {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q is not in: %v", word, err)
			}
		}
	}
	if err := (bridgeBinding{}).Accepts(Link{Name: "eth0", Kind: KindVeth, Type: unix.ARPHRD_ETHER}, nil, nil); err != nil {
		t.Errorf("a veth is refused: %v", err)
	}
}
