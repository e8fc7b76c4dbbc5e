package dhcp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"go.uber.org/goleak"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testClock() time.Time { return testTime }

// fakeSocket hands the server what a test puts into it. A closed fakeSocket fails, like a real one.
type fakeSocket struct {
	in      chan any // a frame or an error
	out     chan []byte
	watched chan link.Watch
	closed  context.CancelFunc
	done    <-chan struct{}
	full    int // how often the queue is full still
}

func newFakeSocket() *fakeSocket {
	ctx, cancel := context.WithCancel(context.Background())
	return &fakeSocket{in: make(chan any), out: make(chan []byte, 100), watched: make(chan link.Watch, 100), closed: cancel, done: ctx.Done()}
}

func (f *fakeSocket) Receive() (link.Packet, error) {
	select {
	case in := <-f.in:
		if err, ok := in.(error); ok {
			return link.Packet{}, err
		}
		return link.Packet{Data: in.([]byte), Sum: link.ChecksumFinished}, nil
	case <-f.done:
		return link.Packet{}, errors.New("closed")
	}
}

func (f *fakeSocket) Send(r link.Response) error {
	if f.full > 0 {
		f.full--
		return unix.ENOBUFS
	}
	f.out <- slices.Clone(r.Message)
	return nil
}
func (f *fakeSocket) Program(_ link.Service, w link.Watch) ([]bpf.RawInstruction, error) {
	f.watched <- w
	return nil, nil
}
func (f *fakeSocket) Attach([]bpf.RawInstruction) error { return nil }
func (f *fakeSocket) QueueDrops() uint64                { return 1 }
func (f *fakeSocket) LackingSettings() []string         { return []string{"a setting"} }
func (f *fakeSocket) Close()                            { f.closed() }

// bench is a server on fake sockets inside a synctest bubble.
type bench struct {
	*Server
	sockets chan *fakeSocket // each attempt to open one takes the next; nil fails
	mu      sync.Mutex       // a lease ends in a goroutine of its own
	events  []Event
	stop    context.CancelFunc
	result  chan error
}

func newBench(t *testing.T, lease Lease) *bench {
	t.Helper()
	b := &bench{sockets: make(chan *fakeSocket, 10), result: make(chan error, 1)}
	server, err := NewServer(Config{
		Offer: mustOffer(t, bridgePod(), Settings{}), Client: guestMAC, ServerMAC: serverMAC, Link: "tap0", Lease: lease,
		Observe: func(e Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.listen = func(string, link.Service, link.Watch) (link.Socket, error) {
		if s := <-b.sockets; s != nil {
			return s, nil
		}
		return nil, errors.New("no such link")
	}
	b.Server = server
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	go func() { b.result <- server.Run(ctx) }()
	return b
}

// serving runs a test beside a server whose socket is open, and ends the server.
func serving(t *testing.T, lease Lease, test func(t *testing.T, b *bench, conn *fakeSocket)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, lease)
		conn := newFakeSocket()
		b.sockets <- conn
		<-b.Ready()
		b.wantKinds(t, KindSocketOpen, KindSetting)
		test(t, b, conn)
		b.end(t)
	})
}

func (b *bench) kinds() []Kind {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	var kinds []Kind
	for _, e := range b.events {
		kinds = append(kinds, e.Kind)
	}
	b.events = nil
	return kinds
}

func (b *bench) wantKinds(t *testing.T, want ...Kind) {
	t.Helper()
	if got := b.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func (b *bench) end(t *testing.T) {
	t.Helper()
	b.stop()
	if err := <-b.result; err != nil {
		t.Errorf("run: %v", err)
	}
}

func discoverFrame() []byte {
	return fromGuest(ask(dhcpv4.MessageTypeDiscover), "0.0.0.0", everybody)
}

func TestServerIsReadyWhenItsSocketIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Lease{})
		synctest.Wait()
		select {
		case <-b.Ready():
			t.Error("ready before the socket is open")
		default:
		}
		b.sockets <- newFakeSocket()
		<-b.Ready()
		b.wantKinds(t, KindSocketOpen, KindSetting)
		b.end(t)
	})
}

func TestFirstSocketThatFailsIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Lease{})
		b.sockets <- nil
		if err := <-b.result; err == nil {
			t.Error("no error")
		}
		b.stop()
	})
}

func TestLostSocketIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Lease{})
		first, second := newFakeSocket(), newFakeSocket()
		b.sockets <- first
		<-b.Ready()
		first.in <- link.ErrDown // the socket survives this
		first.in <- drop.Oversized
		first.in <- errors.New("no such device")
		b.wantKinds(t, KindSocketOpen, KindSetting, KindLinkDown, KindSocketLost)
		begin := time.Now()
		for range 7 {
			b.sockets <- nil
		}
		b.sockets <- second
		second.in <- discoverFrame()
		<-second.out
		if took := time.Since(begin); took < 10*time.Second || took > 30*time.Second {
			t.Errorf("eight attempts took %s", took)
		}
		b.wantKinds(t, KindSocketLost, KindSocketOpen, KindSetting, KindFirstFrame, KindDiscover, KindOffer)
		stats := b.Stats()
		if stats.SocketErrors != 3 || stats.Dropped["oversized"] != 1 || stats.QueueDrops != 2 || stats.Sent[KindOffer] != 1 {
			t.Errorf("stats %+v", stats)
		}
		b.end(t)
	})
}

func TestPanicCostsOneFrame(t *testing.T) {
	serving(t, Lease{}, func(t *testing.T, b *bench, conn *fakeSocket) {
		b.handler.now = func() time.Time { panic("no clock") }
		conn.in <- discoverFrame()
		b.wantKinds(t, KindPanic)
		b.handler.now = time.Now
		conn.in <- discoverFrame()
		<-conn.out
		b.wantKinds(t, KindFirstFrame, KindDiscover, KindOffer)
		if n := b.Stats().Panics; n != 1 {
			t.Errorf("%d panics", n)
		}
	})
}

func TestForeignClientIsSeenButCannotFlood(t *testing.T) {
	serving(t, Lease{State: LeaseBound, Address: addr("10.244.1.5")}, func(t *testing.T, b *bench, conn *fakeSocket) {
		foreign := fromGuest(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(otherMAC.HardwareAddr())), "0.0.0.0", everybody)
		<-conn.watched
		for range foreignAllowance + 5 {
			conn.in <- foreign
		}
		if kinds := b.kinds(); len(kinds) != foreignAllowance {
			t.Errorf("events %v", kinds)
		}
		if w := <-conn.watched; !w.Address {
			t.Error("the filter does not watch for a sign of the guest itself")
		}
		if w := <-conn.watched; w.Foreign {
			t.Error("the filter still lets other MACs through")
		}
		if f := b.Stats().Foreign; f.MAC != otherMAC || f.Frames != foreignAllowance+5 {
			t.Errorf("stats %+v", f)
		}
		time.Sleep(foreignPause)
		if w := <-conn.watched; !w.Foreign {
			t.Error("the filter keeps other MACs away for ever")
		}
	})
}

func TestGuestWithAStaticAddressIsNoticedOnce(t *testing.T) {
	serving(t, Lease{}, func(t *testing.T, b *bench, conn *fakeSocket) {
		if w := <-conn.watched; !w.Address {
			t.Error("the address is not watched for")
		}
		frame := arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.1")
		conn.in <- frame
		conn.in <- frame
		b.wantKinds(t, KindFirstFrame, KindAddressSeen)
		time.Sleep(narrowDelay)
		if w := <-conn.watched; w.Address {
			t.Error("the address is still watched for")
		}
		if !b.Lease().InUse() {
			t.Error("the address is not in use")
		}
	})
}

// TestFilterIsNotMadeForEveryMessage has a guest that takes its lease again and again: to compile a filter costs more than
// to answer.
func TestFilterIsNotMadeForEveryMessage(t *testing.T) {
	serving(t, Lease{}, func(t *testing.T, b *bench, conn *fakeSocket) {
		<-conn.watched
		for range 100 {
			conn.in <- discoverFrame()
			<-conn.out
			conn.in <- fromGuest(ask(dhcpv4.MessageTypeRequest, withAddr(v4.CodeRequested, "10.244.1.5")), "0.0.0.0", everybody)
			<-conn.out
		}
		if n := len(conn.watched); n != 0 {
			t.Errorf("%d filters were attached", n)
		}
		time.Sleep(narrowDelay)
		if w := <-conn.watched; w.Address {
			t.Error("the address is still watched for")
		}
		conn.in <- fromGuest(ask(dhcpv4.MessageTypeRelease, withCiaddr("10.244.1.5")), "10.244.1.5", "10.244.1.1")
		if w := <-conn.watched; !w.Address {
			t.Error("the address is not watched for once it was given up")
		}
	})
}

func TestEventsOfAFloodAreThinnedOut(t *testing.T) {
	serving(t, Lease{}, func(t *testing.T, b *bench, conn *fakeSocket) {
		for range 1000 {
			conn.in <- discoverFrame()
			<-conn.out
		}
		if got := len(b.kinds()); got > eventBurst {
			t.Errorf("%d events", got)
		}
		time.Sleep(time.Second)
		conn.in <- discoverFrame()
		synctest.Wait()
		if len(b.events) == 0 || b.events[0].Suppressed < 1800 {
			t.Errorf("events %+v", b.events)
		}
	})
}

func TestWarningsSayWhatIsTheMatterNow(t *testing.T) {
	serving(t, Lease{}, func(t *testing.T, b *bench, conn *fakeSocket) {
		send := func(m []byte) { conn.in <- fromGuest(m, "0.0.0.0", everybody); synctest.Wait() }
		want := func(warnings ...string) {
			t.Helper()
			if got := b.Warnings(); !slices.Equal(got, append([]string{"a setting"}, warnings...)) {
				t.Errorf("warnings %q", got)
			}
		}
		want()
		send(ask(dhcpv4.MessageTypeDecline, withAddr(v4.CodeRequested, "10.244.1.5")))
		want("10.244.1.5: the guest found another machine that uses its address")
		send(ask(dhcpv4.MessageTypeRequest, withAddr(v4.CodeRequested, "10.244.1.5")))
		want()
		relayed := func() { send(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithRelay(addr("10.244.1.9").AsSlice()))) }
		const byRelay = "requests of the guest came by a relay (at least %d, the last by 10.244.1.9), and are not answered: nothing relays between guest and server"
		const malformed = "requests of the guest were malformed or cut off (at least %d), and are not answered: `podnic trace` shows them"
		relayed()
		want(fmt.Sprintf(byRelay, 1))
		relayed()
		relayed()
		send(ask(dhcpv4.MessageTypeRequest))
		want(fmt.Sprintf(byRelay, 2), fmt.Sprintf(malformed, 1))
		for i := range byte(20) { // one warning, however many there are
			send(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr([]byte{2, 0, 0, 0, 0, i})))
		}
		want(fmt.Sprintf(byRelay, 2), fmt.Sprintf(malformed, 1), "a DHCP client with the MAC 02:00:00:00:00:13 asks behind the tap; the pod's is 0a:58:0a:f4:01:05")
	})
}

func TestExpiredLeaseOfAnEarlierProcessIsNotInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			expires time.Time
			want    string
		}{
			{time.Time{}, LeaseBound},
			{time.Now().Add(time.Second), LeaseBound},
			{time.Now(), LeaseExpired},
		} {
			lease := Lease{State: LeaseBound, Address: addr("10.244.1.5"), Seen: time.Now().Add(-time.Hour), Expires: tt.expires}
			h := newHandler(mustOffer(t, bridgePod(), Settings{}), guestMAC, serverMAC, lease, time.Now)
			if h.lease.State != tt.want || h.watch().Address != (tt.want == LeaseExpired) {
				t.Errorf("expires %v: lease %+v, watch %+v", tt.expires, h.lease, h.watch())
			}
		}
	})
}

// TestLeaseThatRanOutIsSaid: the guest is not bound by it any more, and is seen again if it goes on with the address.
func TestLeaseThatRanOutIsSaid(t *testing.T) {
	serving(t, Lease{}, func(t *testing.T, b *bench, conn *fakeSocket) {
		b.Reload(mustOffer(t, bridgePod(), Settings{LeaseTime: 30 * time.Second}))
		b.kinds()
		take := func() {
			conn.in <- fromGuest(ask(dhcpv4.MessageTypeRequest, withAddr(v4.CodeRequested, "10.244.1.5")), "0.0.0.0", everybody)
			<-conn.out
		}
		take()
		time.Sleep(15 * time.Second)
		take() // renewed: the first end means nothing
		time.Sleep(29 * time.Second)
		b.wantKinds(t, KindFirstFrame, KindRequest, KindAck, KindRequest, KindAck)
		time.Sleep(time.Second)
		b.wantKinds(t, KindExpired)
		if l := b.Lease(); l.State != LeaseExpired || l.InUse() || !l.Since.Equal(time.Now()) || l.Address != addr("10.244.1.5") {
			t.Errorf("lease %+v", l)
		}
		conn.in <- arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.1")
		b.wantKinds(t, KindAddressSeen)
		if l := b.Lease(); l.State != LeaseExpired || !l.InUse() {
			t.Errorf("lease %+v", l)
		}
		take()
		b.wantKinds(t, KindRequest, KindAck)

		// While there is no socket, too.
		conn.in <- errors.New("no such device")
		b.wantKinds(t, KindSocketLost)
		time.Sleep(time.Minute)
		b.sockets <- newFakeSocket()
		time.Sleep(maxBackoff)
		b.wantKinds(t, KindSocketOpen, KindSetting, KindExpired)
	})
}

// TestGuestWithAnotherMACIsNotReady: a guest had its lease, and then one with another card asks. Only the guest's own sign
// of life says that it is there still.
func TestGuestWithAnotherMACIsNotReady(t *testing.T) {
	serving(t, Lease{State: LeaseBound, Address: addr("10.244.1.5")}, func(t *testing.T, b *bench, conn *fakeSocket) {
		foreign := fromGuest(ask(dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(otherMAC.HardwareAddr())), "0.0.0.0", everybody)
		for _, sign := range [][]byte{
			arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "10.244.1.1"),
			fromGuest(ask(dhcpv4.MessageTypeRequest, withCiaddr("10.244.1.5")), "10.244.1.5", "10.244.1.1"),
		} {
			conn.in <- foreign
			b.wantLast(t, false)
			conn.in <- sign
			b.wantLast(t, true)
		}
	})
}

// wantLast checks the lease of the last event that changed it, by which others know it.
func (b *bench) wantLast(t *testing.T, inUse bool) {
	t.Helper()
	synctest.Wait()
	var last Lease
	for _, e := range b.events {
		if e.Changed {
			last = e.Lease
		}
	}
	if last != b.Lease() || last.InUse() != inUse {
		t.Errorf("the lease is %+v, and was said to be %+v", b.Lease(), last)
	}
}

func TestFullQueueIsTriedAgainForAWhile(t *testing.T) {
	serving(t, Lease{}, func(t *testing.T, b *bench, conn *fakeSocket) {
		conn.full = sendTries - 1
		conn.in <- discoverFrame()
		<-conn.out
		b.wantKinds(t, KindFirstFrame, KindDiscover, KindOffer)
		conn.full = sendTries
		conn.in <- discoverFrame()
		synctest.Wait()
		time.Sleep(sendBackoff << sendTries)
		b.wantKinds(t, KindDiscover, KindOffer, KindSendFailed)
		if n := b.Stats().SendErrors; n != 1 {
			t.Errorf("%d errors", n)
		}
	})
}

func TestOneTypeOfMessageLeavesRoomForOthers(t *testing.T) {
	now := testTime
	h := newHandler(mustOffer(t, bridgePod(), Settings{}), guestMAC, serverMAC, Lease{}, func() time.Time { return now })
	answers := func(request []byte, frames int) (n int) {
		for range frames {
			if h.ethernet(request, link.ChecksumFinished) != nil {
				n++
			}
		}
		return n
	}
	if got := answers(discoverFrame(), 3*messageBurst); got != messageBurst {
		t.Errorf("%d of a flood were answered", got)
	}
	if got := h.stats.Dropped[string(drop.TooMany)]; got != 2*messageBurst {
		t.Errorf("%d were counted", got)
	}
	inform := fromGuest(ask(dhcpv4.MessageTypeInform, withCiaddr("10.244.1.5")), "10.244.1.5", everybody)
	if answers(inform, 1) != 1 {
		t.Error("another type of message is not answered")
	}
	now = now.Add(time.Second)
	if got := answers(discoverFrame(), 2*messageBurst); got != messageBurst {
		t.Errorf("%d are answered a second later", got)
	}
}

func TestReloadOffersSomethingElse(t *testing.T) {
	serving(t, Lease{}, func(t *testing.T, b *bench, conn *fakeSocket) {
		id := bridgePod()
		id.Resolver.Servers = addrs("10.96.0.53")
		b.Reload(mustOffer(t, id, Settings{}))
		conn.in <- discoverFrame()
		m, err := dhcpv4.FromBytes((<-conn.out)[link.EtherLen+link.IPLen+link.UDPLen:])
		if err != nil {
			t.Fatal(err)
		}
		if dns := m.DNS(); len(dns) != 1 || dns[0].String() != "10.96.0.53" {
			t.Errorf("resolvers %v", dns)
		}
	})
}

func TestServerRefusesWhatItCannotServe(t *testing.T) {
	good := Config{Offer: mustOffer(t, bridgePod(), Settings{}), Client: guestMAC, ServerMAC: serverMAC, Link: "tap0"}
	for _, tt := range []struct {
		spoil func(*Config)
		want  string
	}{
		{func(c *Config) { c.Offer = Offer{} }, "dhcp server: the offer has no address: nothing can be served"},
		{func(c *Config) { c.Client = identity.MAC{} }, "dhcp server: the guest's MAC is not known"},
		{func(c *Config) { c.Link = "" }, "dhcp server: no link to serve on"},
		{func(c *Config) { c.Offer.Socket = "raw" }, `dhcp server: unknown kind of socket "raw"`},
		{func(c *Config) { c.ServerMAC = identity.MAC{} }, "dhcp server: a packet socket needs a MAC to send from"},
	} {
		c := good
		tt.spoil(&c)
		if _, err := NewServer(c); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}
