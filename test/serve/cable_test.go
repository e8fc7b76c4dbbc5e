package serve

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/internal/wire"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// cable joins the pod's tap with the guest's card and reads the DHCP that passes.
type cable struct {
	t     *testing.T
	guest *pod.Namespace
	// cut loses what the guest sends to the server alone, and lets pass what it sends to all.
	cut atomic.Bool

	messages chan string
	mu       sync.Mutex
	all      []string
}

// plug puts a guest on the tap: a namespace whose eth0 has the pod's MAC.
func (s *site) plug() *cable {
	s.T.Helper()
	guest := s.Guest()
	pods, card := s.Taps(guest)
	return s.join(guest, pods, card)
}

// plugInto puts another guest on another tap.
func (s *site) plugInto(tap, mac string) *cable {
	s.T.Helper()
	guest, err := s.Node.AddNamespace("guest-" + tap)
	if err != nil {
		s.T.Fatal(err)
	}
	pods, card := podtest.HoldTap(s.T, s.Pod.Namespace, tap), podtest.HoldTap(s.T, guest, "eth0")
	s.In(guest, "ip link set eth0 address "+mac+" up")
	return s.join(guest, pods, card)
}

// join carries frames between the pod's tap and a guest's card.
func (s *site) join(guest *pod.Namespace, pods, guests *podtest.HeldTap) *cable {
	c := &cable{t: s.T, guest: guest, messages: make(chan string, 1000)}
	var both sync.WaitGroup
	both.Go(func() { c.carry(pods, guests, true) })
	both.Go(func() { c.carry(guests, pods, false) })
	s.T.Cleanup(func() {
		pods.Close()
		guests.Close()
		both.Wait()
		if s.T.Failed() {
			s.T.Logf("on the cable:\n%s", strings.Join(c.conversation(), "\n"))
		}
	})
	return c
}

func (c *cable) carry(to, from io.ReadWriter, fromGuest bool) {
	frame := make([]byte, tap.HeaderSize+1<<16)
	for {
		n, err := from.Read(frame)
		if err != nil {
			return
		}
		m, ok := wire.Parse(frame[tap.HeaderSize:n])
		if ok {
			c.note(m.Text(fromGuest))
			if fromGuest && m.Unicast && c.cut.Load() {
				continue
			}
		}
		_, _ = to.Write(frame[:n]) // a link that is down refuses frames, and the wire loses them
	}
}

func (c *cable) note(text string) {
	c.mu.Lock()
	c.all = append(c.all, text)
	c.mu.Unlock()
	select {
	case c.messages <- text:
	default: // nobody waits any more
	}
}

func (c *cable) conversation() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.all...)
}

// count is how many messages begin with a text. There are more than one of a kind where a client asked again.
func (c *cable) count(text string) (n float64) {
	for _, message := range c.conversation() {
		if strings.HasPrefix(message, text) {
			n++
		}
	}
	return n
}

// expect waits for messages, one after the other, whatever is between them.
func (c *cable) expect(wanted ...string) {
	c.t.Helper()
	timeout := time.After(podtest.Patience)
	for _, want := range wanted {
		for found := false; !found; {
			select {
			case text := <-c.messages:
				found = text == want
			case <-timeout:
				c.t.Fatalf("%q was not seen on the cable", want)
			}
		}
	}
}

// onlyTheGuestLeft checks that all that left the pod so far is the guest's, and that none of it is DHCP or for the server.
func (s *site) onlyTheGuestLeft(c *cable) {
	s.T.Helper()
	s.wire.OnlyTheGuest(s.MAC, c.mark, netip.MustParseAddr(serverLinkLocal))
}

// mark sends a frame from the guest's card.
func (c *cable) mark(frame []byte) {
	c.t.Helper()
	err := c.guest.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index})
	})
	if err != nil {
		c.t.Fatal(err)
	}
}
