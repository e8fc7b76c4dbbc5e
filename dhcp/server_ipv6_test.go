package dhcp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/network/identity"
)

func TestOffer6FollowsTheShapeOfThePod(t *testing.T) {
	bare := func(id identity.Identity) identity.Identity {
		id.Resolver, id.Hostname, id.MTU = identity.Resolver{}, "", 0
		return id
	}
	unknown := bare(ptpPod6())
	unknown.Routers = nil
	small := bare(isolatedPod6())
	small.MTU, small.Resolver.Servers = 576, addrs("10.96.0.10", "::1", "ff02::1", "fd00::a", "fd00::a")
	alone := small
	alone.V4 = identity.Family{}
	virtual := "the router 2001:db8:1::1 has no link-local address that answers: podnic answers for it, and the guest's IPv6 ends when podnic does"
	loopback := "resolver ::1 is not handed out: it is the pod's loopback, which the guest cannot reach"
	group := "resolver ff02::1 is not handed out: it is not the address of a host"
	mtu := "the MTU 576 is not handed out by IPv6, which requires at least 1280: raise it in the pod network's configuration, or leave IPv6 to the guest with --ipv6 off"
	for _, tt := range []struct {
		name     string
		id       identity.Identity
		options  Settings
		want     string
		warnings []string
	}{
		{"bridge", bridgePod6(), Settings{}, `{"addresses":["2001:db8:1::5/128"],"router":"fe80::99",
			"routes":[{"destination":"2001:db8:1::/64"},{"destination":"::/0","gateway":"fe80::99"}],"mtu":1450,"dns":["fd00:10:96::a"],
			"search":["default.svc.cluster.local","svc.cluster.local","cluster.local"],"hostname":"vm-0.default.svc.cluster.local",
			"routers":[{"gateway":"2001:db8:1::1","address":"fe80::99","mac":"02:00:00:00:00:99"}],"server":"fe80::706f:646e:6963:2","socket":"packet"}`, nil},
		{"ptp", bare(ptpPod6()), Settings{LeaseTime: time.Minute}, `{"addresses":["2001:db8:1::5/128"],"router":"fe80::99",
			"routes":[{"destination":"2001:db8:1::/64","gateway":"fe80::99"},{"destination":"::/0","gateway":"fe80::99"}],"leaseSeconds":60,
			"routers":[{"gateway":"2001:db8:1::1","address":"fe80::99","mac":"02:00:00:00:00:99"}],"server":"fe80::706f:646e:6963:2","socket":"packet"}`, nil},
		{"calico", bare(calicoPod6()), Settings{}, `{"addresses":["2001:db8:1::5/128","2001:db8:2::5/128"],"router":"fe80::1",
			"routes":[{"destination":"::/0","gateway":"fe80::1"}],
			"routers":[{"gateway":"fe80::1","address":"fe80::1","mac":"02:00:00:00:00:99"}],"server":"fe80::706f:646e:6963:2","socket":"packet"}`, nil},
		{"aws", bare(awsPod6()), Settings{}, `{"addresses":["2001:db8:1::5/128","2001:db8:2::5/128"],"router":"fe80::1",
			"routes":[{"destination":"::/0","gateway":"fe80::1"}],
			"routers":[{"gateway":"fe80::1","address":"fe80::1","mac":"02:00:00:00:00:99","answered":true}],
			"neighbours":[{"address":"fe80::1","mac":"02:00:00:00:00:99"}],"server":"fe80::706f:646e:6963:2","socket":"packet"}`,
			[]string{strings.Replace(virtual, "2001:db8:1::1", "fe80::1", 1)}},
		{"nobody has looked for the router", unknown, Settings{}, `{"addresses":["2001:db8:1::5/128"],"router":"fe80::706f:646e:6963:1",
			"routes":[{"destination":"2001:db8:1::/64","gateway":"fe80::706f:646e:6963:1"},{"destination":"::/0","gateway":"fe80::706f:646e:6963:1"}],
			"routers":[{"gateway":"2001:db8:1::1","address":"fe80::706f:646e:6963:1","mac":"","answered":true}],
			"server":"fe80::706f:646e:6963:2","socket":"packet"}`, []string{virtual}},
		{"no router", small, Settings{}, `{"addresses":["2001:db8:1::5/128"],"routes":[{"destination":"2001:db8:1::/64"}],"dns":["fd00::a"],
			"routers":[{"gateway":"","address":"fe80::706f:646e:6963:2","mac":""}],"server":"fe80::706f:646e:6963:2","socket":"packet"}`,
			[]string{mtu, loopback, group}},
		{"a resolver of IPv4", alone, Settings{}, `{"addresses":["2001:db8:1::5/128"],"routes":[{"destination":"2001:db8:1::/64"}],"dns":["fd00::a"],
			"routers":[{"gateway":"","address":"fe80::706f:646e:6963:2","mac":""}],"server":"fe80::706f:646e:6963:2","socket":"packet"}`,
			[]string{mtu, "resolver 10.96.0.10 is not handed out: only IPv6 is served", loopback, group}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			offer, warnings, err := NewOffer6(tt.id, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			isOffer(t, offer, tt.want, warnings, tt.warnings)
		})
	}
}

func TestFilterWakesTheServerOfIPv6OnlyForItsGuest(t *testing.T) {
	nothing, everything := link.Watch{}, link.Watch{Address: true}
	rs := icmpv6(guestLinkLocal, "ff02::2", solicit("", &guestMAC))
	ask := datagram6(ask6(1, clientDUID()))
	server := icmpv6(guestLinkLocal, "ff02::1:ff63:2", solicit("fe80::706f:646e:6963:2", &guestMAC))
	own := icmpv6("::", "ff02::1:ff00:5", solicit("2001:db8:1::5", nil))
	second := icmpv6("2001:db8:2::5", "ff02::1:ff00:99", solicit("fe80::99", &guestMAC))
	calico, aws := mustOffer6(t, calicoPod6(), Settings{}), mustOffer6(t, awsPod6(), Settings{})
	for _, tt := range []struct {
		name  string
		offer Offer6
		watch link.Watch
		frame []byte
		want  bool
	}{
		{"router solicitation", calico, nothing, rs, true},
		{"of another MAC", calico, everything, edit(rs, 6, otherMAC[:]...), false},
		{"of another MAC in its last byte", calico, everything, edit(rs, 11, 6), false},
		{"router advertisement", calico, everything, edit(rs, link.EtherLen+link.IPv6Len, 134), false},
		{"echo request", calico, everything, edit(rs, link.EtherLen+link.IPv6Len, 128), false},
		{"behind an extension header", calico, everything, edit(rs, link.EtherLen+6, 0), false},
		{"DHCPv6", calico, nothing, ask, true},
		{"DHCPv6 of another MAC", calico, everything, edit(ask, 6, otherMAC[:]...), false},
		{"DHCPv6 to a client", calico, everything, edit(ask, link.EtherLen+link.IPv6Len+2, 2, 34), false},
		{"TCP", calico, everything, edit(ask, link.EtherLen+6, 6), false},
		{"for the server", calico, nothing, server, true},
		{"for the server and one more", calico, nothing, edit(server, link.EtherLen+link.IPv6Len+23, 3), false},
		{"for a router that answers for itself", calico, nothing, icmpv6(guestLinkLocal, "fe80::1", solicit("fe80::1", &guestMAC)), false},
		{"of all, for a router that answers for itself", calico, nothing, icmpv6(guestLinkLocal, "ff02::1:ff00:1", solicit("fe80::1", &guestMAC)), true},
		{"for a router that does not", aws, nothing, icmpv6(guestLinkLocal, "fe80::1", solicit("fe80::1", &guestMAC)), true},
		{"the guest's own address", calico, everything, own, true},
		{"the guest's own address once seen", calico, nothing, own, false},
		{"from the guest's second address", calico, everything, second, true},
		{"from the guest's second address once seen", calico, nothing, second, false},
		{"IPv4", calico, everything, fromGuest(seeds()[0], "0.0.0.0", everybody), false},
		{"a tag inside a tag", calico, everything, edit(rs, 12, 0x81, 0), false},
		{"cut off", calico, everything, rs[:link.EtherLen+link.IPv6Len], false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			program, err := link.FrameFilter6(tt.offer.service(guestMAC, serverMAC), tt.watch)
			if err != nil {
				t.Fatal(err)
			}
			if got := kernelVerdict(t, program, tt.frame); got != tt.want {
				t.Errorf("passes: %t, want %t", got, tt.want)
			}
		})
	}
}

// TestFilterIsNeverTooLong: the kernel takes 4096 instructions, and a pod may have any number of addresses.
func TestFilterIsNeverTooLong(t *testing.T) {
	id := awsPod6()
	for i := range 500 {
		a := addr(fmt.Sprintf("2001:db8:3::%x", i))
		id.V6.Addresses = append(id.V6.Addresses, identity.Address{Prefix: prefix(a.String() + "/128")})
		id.V6.Neighbours = append(id.V6.Neighbours, identity.Neighbour{Address: addr(fmt.Sprintf("fe80::1:%x", i)), MAC: otherMAC})
	}
	program, err := link.FrameFilter6(mustOffer6(t, id, Settings{}).service(guestMAC, serverMAC), link.Watch{Address: true})
	if err != nil {
		t.Fatal(err)
	}
	if !kernelVerdict(t, program, icmpv6(guestLinkLocal, "fe80::1", solicit("fe80::1", &guestMAC))) {
		t.Error("the router's address is not among those that are watched for")
	}
}

// bench6 is a server of IPv6 on a fake socket inside a synctest bubble.
func bench6(t *testing.T, id identity.Identity, o Settings) (server *Server6, conn *fakeSocket, end func()) {
	t.Helper()
	server, err := NewServer6(Config6{Offer: mustOffer6(t, id, o), Client: guestMAC, ServerMAC: serverMAC, Link: "tap0"})
	if err != nil {
		t.Fatal(err)
	}
	conn = newFakeSocket()
	server.listen = func(string, link.Service, link.Watch) (link.Socket, error) { return conn, nil }
	ctx, stop := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- server.Run(ctx) }()
	<-server.Ready()
	return server, conn, func() {
		stop()
		if err := <-result; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// TestRoutersAdvertiseThreeTimesAndThenSeldom is what wakes a server that nobody asks anything.
func TestRoutersAdvertiseThreeTimesAndThenSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, conn, end := bench6(t, severalRouters(), Settings{})
		var at []time.Duration
		for range 5 {
			first, second := <-conn.out, <-conn.out
			if identity.MAC(first[6:]) != otherMAC || first[link.EtherLen+8+15] != 0x99 || second[link.EtherLen+8+15] != 0x98 {
				t.Errorf("the main router's is not the first: %x, %x", first[:60], second[:60])
			}
			at = append(at, time.Since(begin))
		}
		if want := []time.Duration{0, 16 * time.Second, 32 * time.Second, 632 * time.Second, 1232 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("advertised at %v", at)
		}
		end()
	})
}

// TestWhatIsNoMoreIsTakenBack: the guest holds on to what it was told of without an end, so it is told of the end, three times.
func TestWhatIsNoMoreIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, conn, end := bench6(t, severalRouters(), Settings{DNS: addrs("2001:db8::53", "2001:db8::54"), Search: []string{"a.example", "b.example"}})
		<-conn.out
		<-conn.out
		// The second router is gone with its route, the first has another link-local address, and of two resolvers one stays.
		id := bridgePod6()
		id.Routers[0].Address = addr("fe80::97")
		server.Reload(mustOffer6(t, id, Settings{DNS: addrs("2001:db8::54"), Search: []string{"a.example"}}))
		var text strings.Builder
		for range 3 {
			text.WriteString("# again\n")
			for range 3 {
				text.WriteString(render6(<-conn.out))
			}
		}
		text.WriteString("# and no more\n" + render6(<-conn.out))
		time.Sleep(time.Minute)
		select {
		case f := <-conn.out:
			t.Errorf("and %s", render6(f))
		default:
		}
		golden(t, "testdata/withdrawn.txt", text.String())
		end()
	})
}

// TestAnEarlierServersRouteIsTakenBack: the guest was told of it by a process that is no more.
func TestAnEarlierServersRouteIsTakenBack(t *testing.T) {
	before := mustOffer6(t, severalRouters(), Settings{})
	h := newHandler6(mustOffer6(t, bridgePod6(), Settings{}), &before, guestMAC, serverMAC, Lease6{}, testClock)
	if len(h.withdrawn) != 2 || len(h.advertisements) != 2 {
		t.Errorf("withdrawn %+v in %d messages", h.withdrawn, len(h.advertisements))
	}
	h = newHandler6(before, &before, guestMAC, serverMAC, Lease6{}, testClock)
	if len(h.withdrawn) != 0 {
		t.Errorf("of the same offer it takes back %+v", h.withdrawn)
	}
}

func TestLeaseOfIPv6Ends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, conn, end := bench6(t, calicoPod6(), Settings{LeaseTime: 30 * time.Second})
		<-conn.out
		conn.in <- datagram6(ask6(1, clientDUID(), iaNA(1), option6(14)))
		<-conn.out
		if l := server.Lease(); l.State != LeaseBound || !l.InUse() || len(l.Addresses) != 2 {
			t.Errorf("lease %+v", l)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if l := server.Lease(); l.State != LeaseExpired || l.InUse() {
			t.Errorf("lease %+v", l)
		}
		end()
	})
}

func TestPanicCostsOneFrameOfIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, conn, end := bench6(t, bridgePod6(), Settings{})
		<-conn.out
		server.mu.Lock()
		server.handler.answers = nil
		server.handler.duid, server.handler.guest = nil, nil
		server.mu.Unlock()
		conn.in <- datagram6(ask6(1, clientDUID(), iaNA(1)))
		conn.in <- icmpv6(guestLinkLocal, "ff02::2", solicit("", &guestMAC))
		<-conn.out
		if stats := server.Stats(); stats.Panics != 1 || stats.Received[KindRouterSolicit] != 1 {
			t.Errorf("stats %+v", stats)
		}
		end()
	})
}

// TestAFloodOfOneKindLeavesTheOthers: each kind of message has a pace of its own.
func TestAFloodOfOneKindLeavesTheOthers(t *testing.T) {
	h := testHandler6(t, ciliumPod6(), Settings{})
	frames := map[string][]byte{
		"router solicitation":    icmpv6(guestLinkLocal, "ff02::2", solicit("", &guestMAC)),
		"neighbour solicitation": icmpv6(guestLinkLocal, "ff02::1:ff63:1", solicit("fe80::706f:646e:6963:1", &guestMAC)),
		"solicit":                datagram6(ask6(1, clientDUID(), iaNA(1))),
		"information request":    datagram6(ask6(11)),
	}
	for name, frame := range frames {
		answered := 0
		for range 2 * messageBurst {
			if len(h.packet(link.Packet{Data: frame, Sum: link.ChecksumFinished})) > 0 {
				answered++
			}
		}
		if answered != messageBurst {
			t.Errorf("%s: %d answered of %d at once", name, answered, 2*messageBurst)
		}
		h.takeEvents()
	}
	if dropped := h.stats.Dropped["too-many"]; dropped != uint64(len(frames)*messageBurst) {
		t.Errorf("%d dropped", dropped)
	}
}

// TestExchangesOfIPv6AreKnown: what the metrics have a line for is all that is counted.
func TestExchangesOfIPv6AreKnown(t *testing.T) {
	h := testHandler6(t, bridgePod6(), Settings{MTU: 1280})
	for kind := byte(0); kind < 40; kind++ {
		for _, options := range [][]byte{nil, iaNA(1, "2001:db8:1::5"), option6(1, make([]byte, 300)...)} {
			for _, id := range [][]byte{nil, clientDUID(), append(clientDUID(), serverDUID()...)} {
				h.packet(link.Packet{Data: datagram6(ask6(kind, id, options)), Sum: link.ChecksumFinished})
			}
		}
	}
	for e := range h.stats.Exchanges {
		if !slices.Contains(Exchanges6(), e) {
			t.Errorf("%v is counted", e)
		}
	}
	for reason := range h.stats.Dropped {
		if !slices.Contains(DropReasons(), reason) {
			t.Errorf("a drop for %q", reason)
		}
	}
}

func TestServer6RefusesWhatItCannotServe(t *testing.T) {
	good := Config6{Offer: mustOffer6(t, bridgePod6(), Settings{}), Client: guestMAC, ServerMAC: serverMAC, Link: "tap0"}
	for name, spoil := range map[string]func(*Config6){
		"no address": func(c *Config6) { c.Offer.Addresses = nil },
		"no client":  func(c *Config6) { c.Client = identity.MAC{} },
		"no link":    func(c *Config6) { c.Link = "" },
		"no MAC":     func(c *Config6) { c.ServerMAC = identity.MAC{} },
		"no socket":  func(c *Config6) { c.Offer.Socket = "raw" },
	} {
		c := good
		spoil(&c)
		if _, err := NewServer6(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, err := NewOffer6(bridgePod(), Settings{}); err == nil {
		t.Error("an offer without an address")
	}
	if _, err := NewServer6(good); err != nil {
		t.Error(errors.Unwrap(err), err)
	}
}

// TestNeighbourThatMovesIsAdvertised: a router that podnic answers for, and that has another MAC now, is told of unasked, three
// times as RFC 4861 §7.2.6 has it.
func TestNeighbourThatMovesIsAdvertised(t *testing.T) {
	h := testHandler6(t, ciliumPod6(), Settings{})
	count := func() (neighbours int) {
		for _, r := range h.advertise() {
			if r.Message[link.EtherLen+link.IPv6Len] == link.NDNeighborAdvertisement {
				neighbours++
				if text := render6(r.Message); !strings.Contains(text, "flags 101, target fe80::706f:646e:6963:1") || !strings.Contains(text, "option 2: 02:00:00:00:00:98") {
					t.Error(text)
				}
			}
		}
		return neighbours
	}
	if n := count(); n != 0 {
		t.Errorf("%d at first", n)
	}
	id := ciliumPod6()
	id.Routers = slices.Clone(id.Routers)
	id.Routers[0].MAC = identity.MAC{2, 0, 0, 0, 0, 0x98}
	h.setOffer(mustOffer6(t, id, Settings{}))
	if n := count(); n != 1 {
		t.Errorf("at once: %d", n)
	}
	h.setOffer(mustOffer6(t, id, Settings{MTU: 1400})) // what else is offered does not end it
	for i := range firstAdvertisements {
		if n := count(); n != 1 {
			t.Errorf("the %d. time: %d", i+1, n)
		}
	}
	if n := count(); n != 0 || h.stats.Sent[KindNeighbor] != 1+firstAdvertisements {
		t.Errorf("%d at last, %d counted", n, h.stats.Sent[KindNeighbor])
	}
}
