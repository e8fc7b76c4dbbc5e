package plan

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/podnic/podnic/network/identity"
)

// TestNoticeIsReadAsItWasWritten has notices with routers whose own address is the gateway's, or another.
func TestNoticeIsReadAsItWasWritten(t *testing.T) {
	mac := identity.MAC{2, 0, 0, 0, 0, 1}
	router := func(gateway, address string) identity.Router {
		return identity.Router{Gateway: netip.MustParseAddr(gateway), Address: netip.MustParseAddr(address), MAC: mac}
	}
	for alias, n := range map[string]Notice{
		"podnic: ipv6=off":   {IPv6: IPv6Off},
		"podnic: ipv6=serve": {IPv6: IPv6Serve},
		"podnic: ipv6=serve router=fe80::1,,02:00:00:00:00:01 router=2001:db8::1,fe80::2,02:00:00:00:00:01": {
			IPv6: IPv6Serve, Routers: []identity.Router{router("fe80::1", "fe80::1"), router("2001:db8::1", "fe80::2")},
		},
	} {
		text, fits := n.String()
		if text != alias || fits != len(n.Routers) {
			t.Errorf("%+v: %q, %d", n, text, fits)
		}
		if read, ok := NoticeOf(alias); !ok || !reflect.DeepEqual(read, n) {
			t.Errorf("%q: %+v, %v", alias, read, ok)
		}
	}
}

// TestNoticeHasRoomForSomeRouters writes more routers than an alias holds: the first ones are in it.
func TestNoticeHasRoomForSomeRouters(t *testing.T) {
	n := Notice{IPv6: IPv6Serve}
	for i := range 9 {
		n.Routers = append(n.Routers, identity.Router{
			Gateway: netip.MustParseAddr(fmt.Sprintf("2001:db8:1111:2222:3333:4444:5555:%d", i)),
			Address: netip.MustParseAddr(fmt.Sprintf("fe80::1111:2222:3333:%d", i)), MAC: identity.MAC{2, 0, 0, 0, 0, byte(i)},
		})
	}
	alias, fits := n.String()
	read, ok := NoticeOf(alias)
	if len(alias) > maxAlias || fits == 0 || fits == len(n.Routers) || !ok || !reflect.DeepEqual(read.Routers, n.Routers[:fits]) {
		t.Errorf("%q (%d): %d routers, read %+v", alias, len(alias), fits, read)
	}
}

// TestNoNotice has aliases that are none: they come from whoever may set one.
func TestNoNotice(t *testing.T) {
	for _, alias := range []string{
		"", "uplink", "podnic: ipv6=", "podnic: ipv6=auto", "podnic: ipv6=serve ", "podnic: ipv6=serve router=",
		"podnic: ipv6=serve router=fe80::1,02:00:00:00:00:01", "podnic: ipv6=serve router=10.0.0.1,fe80::1,02:00:00:00:00:01",
		"podnic: ipv6=serve router=fe80::1,2001:db8::1,02:00:00:00:00:01", "podnic: ipv6=serve router=fe80::1%eth0,,02:00:00:00:00:01",
		"podnic: ipv6=serve router=fe80::1,,03:00:00:00:00:01", "podnic: ipv6=serve router=fe80::1,,02:00:00:00:00:01 " + strings.Repeat("x", 300),
		"podnic: ipv6=serve router=fe80::1,,", "podnic: ipv6=serve router=2001:db8::1,,02:00:00:00:00:01",
	} {
		if n, ok := NoticeOf(alias); ok {
			t.Errorf("%q: %+v", alias, n)
		}
	}
}
