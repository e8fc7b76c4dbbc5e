package shapes

import (
	"encoding/binary"
	"maps"
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

// sniffer keeps account of the frames that come in at a link, and sends some.
type sniffer struct {
	t    *testing.T
	file *os.File

	mu      sync.Mutex
	news    chan struct{} // closed and replaced with each frame that is noted
	sources map[string]bool
	dhcp    int
	asked   map[netip.Addr]int      // ARP requests by target
	answers map[netip.Addr][]string // ARP replies by sender: the MACs that they give
	marks   map[byte]bool
}

// The ends of a frame that the sniffer looks at (IEEE 802.3, RFC 826, RFC 791, RFC 768).
const (
	ethernetLen = 14
	arpLen      = 28
	// ethMark is for local experiments (IEEE 802, 9.2.4).
	ethMark = 0x88b5
)

// room is for all frames of a test, so that none is lost while the sniffer has no processor.
const room = 64 << 20

// sniff listens on a link until the test ends, to what comes in there and not to what goes out.
func sniff(t *testing.T, n *pod.Namespace, name string) *sniffer {
	t.Helper()
	s := &sniffer{
		t: t, news: make(chan struct{}), sources: map[string]bool{}, asked: map[netip.Addr]int{},
		answers: map[netip.Addr][]string{}, marks: map[byte]bool{},
	}
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
	if len(f) < ethernetLen {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources[net.HardwareAddr(f[6:12]).String()] = true
	body := f[ethernetLen:]
	switch binary.BigEndian.Uint16(f[12:]) {
	case ethMark:
		s.marks[body[0]] = true
	case unix.ETH_P_ARP:
		if len(body) < arpLen {
			return
		}
		if binary.BigEndian.Uint16(body[6:]) == 1 {
			s.asked[netip.AddrFrom4([4]byte(body[24:]))]++
		} else {
			sender := netip.AddrFrom4([4]byte(body[14:]))
			s.answers[sender] = append(s.answers[sender], net.HardwareAddr(body[8:14]).String())
		}
	case unix.ETH_P_IP:
		header := int(body[0]&15) * 4
		if body[9] != unix.IPPROTO_UDP || len(body) < header+4 {
			return
		}
		if port := binary.BigEndian.Uint16(body[header+2:]); port == 67 || port == 68 {
			s.dhcp++
		}
	default:
		return
	}
	close(s.news)
	s.news = make(chan struct{})
}

// until waits until what was noted satisfies a condition.
func (s *sniffer) until(what string, condition func() bool) {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		ok, news := condition(), s.news
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

// send sends a frame.
func (s *sniffer) send(from net.HardwareAddr, kind uint16, body []byte) {
	s.t.Helper()
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, from...)
	f = append(binary.BigEndian.AppendUint16(f, kind), body...)
	if _, err := s.file.Write(f); err != nil {
		s.t.Fatal(err)
	}
}

// ask sends an ARP request as the guest would.
func (s *sniffer) ask(mac net.HardwareAddr, from, target netip.Addr) {
	s.t.Helper()
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(append(b, mac...), from.AsSlice()...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), target.AsSlice()...)
	s.send(mac, unix.ETH_P_ARP, b)
}

// mark numbers the frames by which everything before them is known to have passed.
const lastMark = 7

// leftThePod returns once all that the guest sent so far has been noted on the wire.
func (s *site) leftThePod() {
	s.t.Helper()
	body := make([]byte, 46)
	body[0] = lastMark
	s.card.send(s.mac, ethMark, body)
	s.wire.until("the guest's last frame", func() bool { return s.wire.marks[lastMark] })
}

// macs are the sources of all frames so far.
func (s *sniffer) macs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.sources))
}
