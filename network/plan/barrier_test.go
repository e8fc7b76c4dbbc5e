package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTooManyRoutesThatBlockAreSaid counts what is not kept.
func TestTooManyRoutesThatBlockAreSaid(t *testing.T) {
	s := &Snapshot{Links: []Link{{Role: NIC, Name: "eth0", MTU: 1500, Up: true}}, Addresses: podAddresses[:1]}
	barrier := func(i int) Route {
		return Route{Destination: netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32), Table: mainTable, Type: unix.RTN_BLACKHOLE}
	}
	for i := range maxBlocked {
		s.Barriers = append(s.Barriers, barrier(i))
	}
	warned := func(words string) bool {
		_, warnings := Identify(s, Options{})
		return slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, words) })
	}
	if len(s.Blocked()) != maxBlocked || !warned("and 56 more) are nothing that DHCP can say: the filter drops") {
		t.Errorf("%d of %d are kept", len(s.Blocked()), maxBlocked)
	}
	s.Barriers = append(s.Barriers, barrier(200))
	if len(s.Blocked()) != 0 || !warned("and 57 more) are nothing that DHCP can say: the guest is not held to them") {
		t.Errorf("%d of %d are kept", len(s.Blocked()), len(s.Barriers))
	}
}
