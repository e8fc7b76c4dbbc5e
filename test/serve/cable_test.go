package serve

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/internal/wire"
	"github.com/podnic/podnic/test/pod"
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
	s.t.Helper()
	guest, err := s.node.AddNamespace("guest")
	if err != nil {
		s.t.Fatal(err)
	}
	c := &cable{t: s.t, guest: guest, messages: make(chan string, 1000)}
	pods, guests := s.open(s.pod.Namespace, "tap0"), s.open(guest, "eth0")
	s.in(guest, "ip link set eth0 address "+s.mac+" up")
	var both sync.WaitGroup
	both.Go(func() { c.carry(pods, guests, true) })
	both.Go(func() { c.carry(guests, pods, false) })
	s.t.Cleanup(func() {
		pods.Close()
		guests.Close()
		both.Wait()
		if s.t.Failed() {
			s.t.Logf("on the cable:\n%s", strings.Join(c.conversation(), "\n"))
		}
	})
	return c
}

// open opens a tap as an emulator does.
func (s *site) open(in *pod.Namespace, name string) *os.File {
	s.t.Helper()
	var file *os.File
	err := in.Do(func() (err error) {
		file, err = tap.Open(name)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { file.Close() })
	return file
}

func (c *cable) carry(to, from *os.File, fromGuest bool) {
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

// expect waits for messages, one after the other, whatever is between them.
func (c *cable) expect(wanted ...string) {
	c.t.Helper()
	timeout := time.After(patience)
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

// sniffer keeps account of what comes in at a link.
type sniffer struct {
	t    *testing.T
	file *os.File

	mu      sync.Mutex
	news    chan struct{} // closed and replaced with each frame
	sources map[string]int
	dhcp    int
	server  int // ARP from or for the server's own address
	marked  bool
}

// markType is the EtherType of the frame by which all before it is known to have passed (IEEE 802, 9.2.4).
const markType = 0x88b5

// sniff listens on a link until the test ends, to what comes in there and not to what goes out.
func sniff(t *testing.T, n *pod.Namespace, name string) *sniffer {
	t.Helper()
	s := &sniffer{t: t, news: make(chan struct{}), sources: map[string]int{}}
	err := n.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		s.file = os.NewFile(uintptr(fd), name)
		const room = 64 << 20 // for all frames, while the sniffer has no processor
		for _, option := range []struct{ level, name, value int }{
			{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
			{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room},
		} {
			if err := unix.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
	})
	if err != nil {
		t.Fatalf("listen on %s in %s: %v", name, n.Name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		frame := make([]byte, 1<<16)
		for {
			length, err := s.file.Read(frame)
			if err != nil {
				return
			}
			s.note(frame[:length])
		}
	}()
	t.Cleanup(func() { s.file.Close(); <-done })
	return s
}

func (s *sniffer) note(f []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources[net.HardwareAddr(f[6:12]).String()]++
	if _, ok := wire.Parse(f); ok {
		s.dhcp++
	}
	server := netip.MustParseAddr(serverLinkLocal)
	switch kind := binary.BigEndian.Uint16(f[12:]); {
	case kind == markType:
		s.marked = true
	case kind == unix.ETH_P_ARP && len(f) >= wire.EthernetLen+28:
		if netip.AddrFrom4([4]byte(f[wire.EthernetLen+14:])) == server || netip.AddrFrom4([4]byte(f[wire.EthernetLen+24:])) == server {
			s.server++
		}
	}
	close(s.news)
	s.news = make(chan struct{})
}

// onlyTheGuest checks that all that left the pod so far is the guest's, and that none of it is DHCP or for the server.
// mark sends a frame from the guest.
func (s *sniffer) onlyTheGuest(guest string, mark func(frame []byte)) {
	s.t.Helper()
	mac, err := net.ParseMAC(guest)
	if err != nil {
		s.t.Fatal(err)
	}
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
	mark(append(binary.BigEndian.AppendUint16(frame, markType), make([]byte, 46)...))
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		marked, news := s.marked, s.news
		s.mu.Unlock()
		if marked {
			break
		}
		select {
		case <-news:
		case <-timeout:
			s.t.Fatal("nothing of the guest leaves the pod")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sources) != 1 || s.sources[guest] == 0 {
		s.t.Errorf("frames left the pod by the MACs %v, and the guest's is %s", s.sources, guest)
	}
	if s.dhcp != 0 || s.server != 0 {
		s.t.Errorf("%d DHCP frames and %d ARP frames of the server left the pod", s.dhcp, s.server)
	}
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
