package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network/identity"
)

func TestPreparedSaysWhoTheGuestIs(t *testing.T) {
	v4 := &dhcp.Offer{Address: netip.MustParsePrefix("10.244.1.5/24"), Gateway: netip.MustParseAddr("10.244.1.1"), MTU: 1450}
	v6 := &dhcp.Offer6{Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::5/128")}, Router: netip.MustParseAddr("fe80::99"), MTU: 1450}
	for _, tt := range []struct {
		v4   *dhcp.Offer
		v6   *dhcp.Offer6
		want string
	}{
		{nil, nil, "layer 2 only"},
		{v4, nil, "address 10.244.1.5/24 gateway 10.244.1.1 mtu 1450"},
		{nil, v6, "address 2001:db8::5/128 router fe80::99 mtu 1450"},
		{v4, v6, "address 10.244.1.5/24 gateway 10.244.1.1 address 2001:db8::5/128 router fe80::99 mtu 1450"},
	} {
		r := status.InterfaceReport{MAC: identity.MAC{2, 0, 0, 0, 0, 1}, MTU: 1450, Offer: tt.v4, Offer6: tt.v6}
		if got := strings.Join(guestLine(r), " "); got != "mac 02:00:00:00:00:01 "+tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}
