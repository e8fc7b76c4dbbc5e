package podtest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/pod"
)

// Sniffer keeps account of the frames that come in at a link, and sends some.
type Sniffer struct {
	t    testing.TB
	file *os.File

	mu   sync.Mutex
	seen Seen
	news chan struct{} // closed and replaced with each frame
}

// Seen is what a sniffer has noted.
type Seen struct {
	// Sources are how many frames came from a MAC.
	Sources map[string]int
	// DHCP are frames from or to a port of DHCP, of either family; Discovery are solicitations and advertisements of routers,
	// and redirects. Those of IPv6 are known without extension headers alone.
	DHCP, Discovery int
	// ARP are the frames that have the address as sender or target, Asked the requests for it, and Answers the MACs that
	// replies give for it.
	ARP, Asked map[netip.Addr]int
	Answers    map[netip.Addr][]string
	passed     bool
}

// Where a frame has what the sniffer looks at (IEEE 802.3, RFC 826, RFC 791, RFC 8200, RFC 768).
const (
	ethernetLen = 14
	arpLen      = 28
	ipLen       = 20
	ip6Len      = 40
	// mark is the EtherType of the frame by which all before it is known to have passed. It is for local experiments (IEEE
	// 802, 9.2.4).
	mark = 0x88b5
)

// Sniff listens on a link until the test ends, to what comes in there and not to what goes out.
func Sniff(t testing.TB, n *pod.Namespace, name string) *Sniffer {
	t.Helper()
	s := &Sniffer{t: t, news: make(chan struct{}), seen: Seen{
		Sources: map[string]int{}, ARP: map[netip.Addr]int{}, Asked: map[netip.Addr]int{}, Answers: map[netip.Addr][]string{},
	}}
	err := n.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		// The protocol is named when it is bound, so that nothing of another link is heard before.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		s.file = os.NewFile(uintptr(fd), name)
		const room = 64 << 20 // for all frames of a test, while the sniffer has no processor
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
			if length >= ethernetLen {
				s.note(frame[:length])
			}
		}
	}()
	t.Cleanup(func() { s.file.Close(); <-done })
	return s
}

func (s *Sniffer) note(f []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Sources[net.HardwareAddr(f[6:12]).String()]++
	body := f[ethernetLen:]
	switch binary.BigEndian.Uint16(f[12:]) {
	case mark:
		s.seen.passed = true
	case unix.ETH_P_ARP:
		if len(body) >= arpLen {
			s.noteARP(body)
		}
	case unix.ETH_P_IP:
		if len(body) >= ipLen && body[9] == unix.IPPROTO_UDP {
			s.noteUDP(body[min(int(body[0]&15)*4, len(body)):], 67, 68)
		}
	case unix.ETH_P_IPV6:
		switch {
		case len(body) <= ip6Len:
		case body[6] == unix.IPPROTO_UDP:
			s.noteUDP(body[ip6Len:], 546, 547)
		case body[6] == unix.IPPROTO_ICMPV6:
			switch body[ip6Len] {
			case 133, 134, 137: // RFC 4861, 4
				s.seen.Discovery++
			}
		}
	}
	close(s.news)
	s.news = make(chan struct{})
}

func (s *Sniffer) noteUDP(udp []byte, ports ...uint16) {
	if len(udp) < 4 {
		return
	}
	if slices.Contains(ports, binary.BigEndian.Uint16(udp)) || slices.Contains(ports, binary.BigEndian.Uint16(udp[2:])) {
		s.seen.DHCP++
	}
}

func (s *Sniffer) noteARP(body []byte) {
	sender, target := netip.AddrFrom4([4]byte(body[14:])), netip.AddrFrom4([4]byte(body[24:]))
	s.seen.ARP[sender]++
	if target != sender {
		s.seen.ARP[target]++
	}
	if binary.BigEndian.Uint16(body[6:]) == 1 {
		s.seen.Asked[target]++
	} else {
		s.seen.Answers[sender] = append(s.seen.Answers[sender], net.HardwareAddr(body[8:14]).String())
	}
}

// Look shows what was noted, which may be changed.
func (s *Sniffer) Look(at func(*Seen)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at(&s.seen)
}

// Until waits until what was noted satisfies a condition.
func (s *Sniffer) Until(what string, condition func(*Seen) bool) {
	s.t.Helper()
	timeout := time.After(Patience)
	for {
		s.mu.Lock()
		ok, news := condition(&s.seen), s.news
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-timeout:
			s.t.Fatalf("%s: not seen on %s", what, s.file.Name())
		}
	}
}

// Send sends a frame.
func (s *Sniffer) Send(frame []byte) {
	s.t.Helper()
	if _, err := s.file.Write(frame); err != nil {
		s.t.Fatal(err)
	}
}

// Ask sends an ARP request as the guest would.
func (s *Sniffer) Ask(mac net.HardwareAddr, from, target netip.Addr) {
	s.t.Helper()
	f := append(broadcast(mac, unix.ETH_P_ARP), 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(append(f, mac...), from.AsSlice()...)
	f = append(append(f, 0, 0, 0, 0, 0, 0), target.AsSlice()...)
	s.Send(f)
}

func broadcast(from net.HardwareAddr, kind uint16) []byte {
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, from...)
	return binary.BigEndian.AppendUint16(f, kind)
}

// Passed returns once all that the guest sent so far has been noted: send sends a last frame of the guest's.
func (s *Sniffer) Passed(guest net.HardwareAddr, send func(frame []byte)) {
	s.t.Helper()
	s.Look(func(seen *Seen) { seen.passed = false }) // it was asked before, too
	send(append(broadcast(guest, mark), make([]byte, 46)...))
	s.Until("the guest's last frame", func(seen *Seen) bool { return seen.passed })
}

// OnlyTheGuest fails the test unless all that left the pod so far is the guest's, and none of it DHCP or ARP from or for the
// server's own addresses. send sends a frame of the guest's.
func (s *Sniffer) OnlyTheGuest(guest net.HardwareAddr, send func(frame []byte), servers ...netip.Addr) {
	s.t.Helper()
	s.Passed(guest, send)
	s.Look(func(seen *Seen) {
		if len(seen.Sources) != 1 || seen.Sources[guest.String()] == 0 {
			s.t.Errorf("frames left the pod by the MACs %v, and the guest's is %s", seen.Sources, guest)
		}
		if seen.DHCP != 0 {
			s.t.Errorf("%d DHCP frames left the pod", seen.DHCP)
		}
		for _, server := range servers {
			if n := seen.ARP[server]; n != 0 {
				s.t.Errorf("%d ARP frames of the server's address %s left the pod", n, server)
			}
		}
	})
}
