package v4

import (
	"net/netip"
	"testing"

	"github.com/podnic/podnic/network/identity"
)

func TestRoutesInTheBytesOfRFC3442(t *testing.T) {
	onLink := func(destination string) identity.Route {
		return identity.Route{Destination: netip.MustParsePrefix(destination)}
	}
	via := func(destination, gateway string) identity.Route {
		return identity.Route{Destination: netip.MustParsePrefix(destination), Gateway: netip.MustParseAddr(gateway)}
	}
	got := EncodeRoutes([]identity.Route{
		onLink("10.244.1.1/32"), via("10.0.0.0/8", "10.244.1.1"), via("10.17.0.0/16", "10.244.1.1"),
		via("10.229.0.128/25", "10.244.1.1"), via("0.0.0.0/0", "10.244.1.1"),
	})
	gw := "\x0a\xf4\x01\x01"
	want := "\x20\x0a\xf4\x01\x01\x00\x00\x00\x00" + "\x08\x0a" + gw + "\x10\x0a\x11" + gw + "\x19\x0a\xe5\x00\x80" + gw + "\x00" + gw
	if string(got) != want {
		t.Errorf("got %x, want %x", got, want)
	}
}
