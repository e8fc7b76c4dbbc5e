package serve

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// headerSize is that of the virtio header before each frame.
const headerSize = 12

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
	frame := make([]byte, headerSize+1<<16)
	for {
		n, err := from.Read(frame)
		if err != nil {
			return
		}
		m, ok := parse(frame[headerSize:n])
		if ok {
			c.note(m.text(fromGuest))
			if fromGuest && m.unicast && c.cut.Load() {
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

// message is what a test wants to know of a DHCP message.
type message struct {
	kind    byte
	unicast bool // the frame is to one station
	xid     uint32

	has, gives, wants, server netip.Addr // ciaddr, yiaddr, options 50 and 54
}

// kinds are the message types (RFC 2132 §9.6).
var kinds = [...]string{"BOOTP", "DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM"}

// text is one line for a message: "guest REQUEST to all, wants 10.0.0.1".
func (m message) text(fromGuest bool) string {
	var b strings.Builder
	if fromGuest {
		fmt.Fprintf(&b, "guest %s to ", kinds[m.kind])
		if m.unicast {
			b.WriteString("one")
		} else {
			b.WriteString("all")
		}
	} else {
		fmt.Fprintf(&b, "server %s", kinds[m.kind])
	}
	for _, part := range []struct {
		word string
		addr netip.Addr
		skip bool
	}{
		{"has", m.has, !fromGuest},
		{"gives", m.gives, false},
		{"wants", m.wants, false},
		{"by", m.server, false},
	} {
		if part.addr.IsValid() && !part.addr.IsUnspecified() && !part.skip {
			fmt.Fprintf(&b, ", %s %s", part.word, part.addr)
		}
	}
	return b.String()
}

// Where things are in a frame (IEEE 802.3, RFC 791, RFC 768, RFC 2131).
const (
	ethernetLen = 14
	ipLen       = 20
	udpLen      = 8
	bootpLen    = 240
)

// parse reads a frame with DHCP, whoever sent it.
func parse(f []byte) (m message, ok bool) {
	if len(f) < ethernetLen+ipLen || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_IP ||
		f[ethernetLen+9] != unix.IPPROTO_UDP {
		return m, false
	}
	udp := f[ethernetLen+int(f[ethernetLen]&15)*4:]
	if len(udp) < udpLen+bootpLen {
		return m, false
	}
	if port := binary.BigEndian.Uint16(udp[2:]); port != 67 && port != 68 {
		return m, false
	}
	b := udp[udpLen:]
	address := func(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
	m.unicast = f[0]&1 == 0
	m.xid = binary.BigEndian.Uint32(b[4:])
	m.has, m.gives = address(b[12:]), address(b[16:])
	for o := b[bootpLen:]; len(o) > 1 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		if len(o) < 2+int(o[1]) {
			break
		}
		data := o[2 : 2+o[1]]
		switch {
		case o[0] == 50 && len(data) == 4:
			m.wants = address(data)
		case o[0] == 53 && len(data) == 1 && int(data[0]) < len(kinds):
			m.kind = data[0]
		case o[0] == 54 && len(data) == 4:
			m.server = address(data)
		}
		o = o[2+len(data):]
	}
	return m, true
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
	if _, ok := parse(f); ok {
		s.dhcp++
	}
	server := netip.MustParseAddr(serverLinkLocal)
	switch kind := binary.BigEndian.Uint16(f[12:]); {
	case kind == markType:
		s.marked = true
	case kind == unix.ETH_P_ARP && len(f) >= ethernetLen+28:
		if netip.AddrFrom4([4]byte(f[ethernetLen+14:])) == server || netip.AddrFrom4([4]byte(f[ethernetLen+24:])) == server {
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
