package nd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/ndp"

	"github.com/podnic/podnic/network/identity"
)

var (
	router = netip.MustParseAddr("fe80::99")
	nodes  = netip.MustParseAddr("ff02::1")
)

func parse(t *testing.T, message []byte) *ndp.RouterAdvertisement {
	t.Helper()
	m, err := ndp.ParseMessage(message)
	if err != nil {
		t.Fatalf("unreadable: %v", err)
	}
	return m.(*ndp.RouterAdvertisement)
}

// TestRouterLifetimeDoesNotWrap: the library writes the lower 16 bits of a longer one, and so a router of 65536 seconds is
// none.
func TestRouterLifetimeDoesNotWrap(t *testing.T) {
	for _, lifetime := range []uint32{65535, 65536, 1 << 20, 1<<32 - 1} {
		messages, _, err := Router{Source: router, Default: true, Lifetime: lifetime}.Advertise(nodes, 1240)
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, messages[0]).RouterLifetime.Seconds(); got != 65535 {
			t.Errorf("%d seconds went out as %v", lifetime, got)
		}
	}
}

// TestListsAreDivided: an option of more than 255 bytes fails the library's whole message, and one that does not fit into
// a message is in the next.
func TestListsAreDivided(t *testing.T) {
	var r Router
	r.Source, r.MTU = router, 1500
	for i := range 200 {
		r.DNS = append(r.DNS, netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)))
		r.Search = append(r.Search, fmt.Sprintf("domain-%d.example.org", i))
		r.Routes = append(r.Routes, netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::/48", i)))
		r.OnLink = append(r.OnLink, netip.MustParsePrefix(fmt.Sprintf("2001:db9:%x::/64", i)))
	}
	const size = 1240
	messages, leftOut, err := r.Advertise(nodes, size)
	if err != nil || len(leftOut) > 0 {
		t.Fatalf("%v, left out %v", err, leftOut)
	}
	var told Told
	for _, m := range messages {
		if len(m) > size {
			t.Errorf("a message of %d bytes", len(m))
		}
		for _, o := range parse(t, m).Options {
			switch o := o.(type) {
			case *ndp.RecursiveDNSServer:
				told.DNS = append(told.DNS, o.Servers...)
			case *ndp.DNSSearchList:
				told.Search = append(told.Search, o.DomainNames...)
			case *ndp.RouteInformation:
				told.Routes = append(told.Routes, netip.PrefixFrom(o.Prefix, int(o.PrefixLength)))
			case *ndp.PrefixInformation:
				told.OnLink = append(told.OnLink, netip.PrefixFrom(o.Prefix, int(o.PrefixLength)))
				if o.AutonomousAddressConfiguration || !o.OnLink {
					t.Errorf("flags of %s: %+v", o.Prefix, o)
				}
			}
		}
	}
	if !slices.Equal(told.DNS, r.DNS) || !slices.Equal(told.Search, r.Search) || !slices.Equal(told.Routes, r.Routes) || !slices.Equal(told.OnLink, r.OnLink) {
		t.Errorf("%d servers, %d names, %d routes and %d subnets arrived of 200 each", len(told.DNS), len(told.Search), len(told.Routes), len(told.OnLink))
	}
}

// TestWhatCannotBeSaidIsLeftOut: each of these fails the library's whole message.
func TestWhatCannotBeSaidIsLeftOut(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 60)+".", 4) + "example"
	r := Router{Source: router, Told: Told{Search: []string{long, "xn--99999999999999999", "example.org"}}}
	messages, leftOut, err := r.Advertise(nodes, 1240)
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	if len(leftOut) != 2 || !strings.Contains(leftOut[0], "aaa") || !strings.Contains(leftOut[1], "xn--") {
		t.Errorf("left out %v", leftOut)
	}
	options := parse(t, messages[0]).Options
	if len(options) != 1 || !slices.Equal(options[0].(*ndp.DNSSearchList).DomainNames, []string{"example.org"}) {
		t.Errorf("options %v", options)
	}
}

// TestNoMTUBelowThatOfIPv6: Linux ignores the option, and logs it.
func TestNoMTUBelowThatOfIPv6(t *testing.T) {
	for mtu, want := range map[int]int{0: 0, 576: 0, 1279: 0, 1280: 1, 9000: 1} {
		messages, _, err := Router{Source: router, MTU: mtu}.Advertise(nodes, 1240)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(parse(t, messages[0]).Options); got != want {
			t.Errorf("with an MTU of %d there are %d options", mtu, got)
		}
	}
}

// TestToldIsASet is the arithmetic by which something is taken back.
func TestToldIsASet(t *testing.T) {
	a := Told{DNS: []netip.Addr{router, nodes}, Search: []string{"a", "b"}, Routes: []netip.Prefix{netip.MustParsePrefix("::/0")}}
	b := Told{DNS: []netip.Addr{nodes}, Search: []string{"b", "c"}, OnLink: []netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}}
	if got := a.Without(b); len(got.DNS) != 1 || got.DNS[0] != router || len(got.Search) != 1 || len(got.Routes) != 1 || len(got.OnLink) != 0 {
		t.Errorf("without: %+v", got)
	}
	if got := a.And(b); len(got.DNS) != 2 || len(got.Search) != 3 || len(got.Routes) != 1 || len(got.OnLink) != 1 {
		t.Errorf("and: %+v", got)
	}
	if !a.Without(a).IsZero() || a.IsZero() {
		t.Error("nothing is left of what is taken from itself")
	}
}

// FuzzDecode: the library does not check a checksum, and reads what a guest sends; nothing in it may end the server.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1}, true)
	f.Add(append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, append(router.AsSlice(), 14, 1, 1, 2, 3, 4, 5, 6)...), false)
	for _, kind := range []byte{1, 2, 3, 5, 14, 24, 25, 26, 31, 37, 38} {
		f.Add(append([]byte{133, 0, 0, 0, 0, 0, 0, 0, kind, 2}, make([]byte, 14)...), true)
	}
	f.Fuzz(func(t *testing.T, message []byte, unspecified bool) {
		source := router
		if unspecified {
			source = netip.IPv6Unspecified()
		}
		s, err := Decode(message, source, nodes)
		if err == nil && !s.Router() && s.Target.IsMulticast() {
			t.Errorf("the target %s", s.Target)
		}
		if err == nil && unspecified && s.MAC != (identity.MAC{}) {
			t.Error("a MAC of somebody without an address")
		}
	})
}
