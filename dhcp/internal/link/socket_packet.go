package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	mdsocket "github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/drop"
)

// packetSocket reads and writes frames on a tap.
type packetSocket struct {
	conn  *mdsocket.Conn
	raw   *rawSocket // of conn
	link  string
	index int
	down  bool // the link was down when last heard of
	// program is the filter that passes what is answered.
	program func(Service, Watch) ([]bpf.RawInstruction, error)
	frame   [bufferSize]byte
	aux     [64]byte // one control message: a header and a tpacket_auxdata
}

// ListenPacket opens a packet socket in the namespace of the calling thread.
func ListenPacket(link string, of Service, w Watch) (Socket, error) {
	return listenPacket(link, of, w, FrameFilter)
}

// ListenPacket6 is ListenPacket for a server of IPv6.
func ListenPacket6(link string, of Service, w Watch) (Socket, error) {
	return listenPacket(link, of, w, FrameFilter6)
}

func listenPacket(link string, of Service, w Watch, program func(Service, Watch) ([]bpf.RawInstruction, error)) (Socket, error) {
	s, err := newPacketSocket(link)
	if err != nil {
		return nil, err
	}
	s.program = program
	if err := s.configure(of, w); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// newPacketSocket opens a socket that hears nothing yet: its protocol is 0 until it is bound.
func newPacketSocket(link string) (*packetSocket, error) {
	conn, err := mdsocket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "dhcp", nil)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("open packet socket: %w (the capability NET_RAW is missing)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	s := &packetSocket{conn: conn, link: link}
	if s.raw, err = newRawSocket(conn); err != nil {
		s.Close()
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if s.index, err = s.lookup(); err != nil {
		s.Close()
		return nil, fmt.Errorf("look up %s: %w", link, err)
	}
	return s, nil
}

func (s *packetSocket) configure(of Service, w Watch) error {
	program, err := s.Program(of, w)
	if err != nil {
		return err
	}
	if err := s.Attach(program); err != nil {
		return err
	}
	// What the bridge sends to the guest does not matter, and there is a lot of it.
	if err := s.conn.SetsockoptInt(unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("ignore outgoing frames on %s: %w", s.link, err)
	}
	if err := s.conn.SetsockoptInt(unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return fmt.Errorf("ask for the checksum state on %s: %w", s.link, err)
	}
	return s.bind()
}

// bind makes the socket hear its link.
func (s *packetSocket) bind() error {
	// On a bridge port only a socket for every protocol sees frames before the bridge takes them: the kernel asks the
	// sockets of one protocol after that (__netif_receive_skb_core).
	err := s.conn.Bind(&unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: s.index})
	if err != nil {
		return fmt.Errorf("bind packet socket to %s: %w", s.link, err)
	}
	return nil
}

// lookup finds the link's index in the namespace of the socket.
func (s *packetSocket) lookup() (int, error) {
	request, err := unix.NewIfreq(s.link)
	if err != nil {
		return 0, err
	}
	err = s.control(func(fd int) error { return unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request) })
	return int(request.Uint32()), err
}

func (s *packetSocket) control(call func(fd int) error) error { return controlSocket(s.conn, call) }

func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// downCheck is how often a link that is down is looked at. A socket is told that its link went down, but not that the link
// was deleted after that (packet_notifier).
const downCheck = time.Second

func (s *packetSocket) Receive() (Packet, error) {
	n, auxLen, flags, err := s.read(s.frame[:], s.aux[:], time.Time{})
	switch {
	case err != nil:
		return Packet{}, err
	case flags&unix.MSG_TRUNC != 0:
		return Packet{}, drop.Oversized
	}
	return Packet{Data: s.frame[:n], Sum: auxChecksum(s.aux[:auxLen])}, nil
}

// ErrGone is returned when the link of a packet socket was deleted.
var ErrGone = errors.New("the link is gone")

// read waits for a frame, until a time if one is set: then the error is os.ErrDeadlineExceeded.
func (s *packetSocket) read(frame, aux []byte, until time.Time) (n, auxLen, flags int, err error) {
	for {
		if err = s.conn.SetReadDeadline(s.deadline(until)); err != nil {
			return 0, 0, 0, fmt.Errorf("receive on %s: %w", s.link, err)
		}
		n, auxLen, flags, err = s.raw.receive(frame, aux)
		exists, up := true, true
		if err != nil {
			exists, up = linkState(s.index, s.control)
		}
		switch {
		case !exists:
			return 0, 0, 0, fmt.Errorf("receive on %s: %w", s.link, ErrGone)
		case errors.Is(err, unix.ENETDOWN) && !s.down:
			s.down = true
			return 0, 0, 0, ErrDown
		case errors.Is(err, unix.ENETDOWN), errors.Is(err, os.ErrDeadlineExceeded):
			s.down = !up
			if !until.IsZero() && !time.Now().Before(until) {
				return 0, 0, 0, os.ErrDeadlineExceeded
			}
			continue
		case err != nil:
			return 0, 0, 0, fmt.Errorf("receive on %s: %w", s.link, err)
		}
		s.down = false
		return n, auxLen, flags, nil
	}
}

// deadline is until while the link is up, so that nothing wakes the server but the guest.
func (s *packetSocket) deadline(until time.Time) time.Time {
	if !s.down {
		return until
	}
	if check := time.Now().Add(downCheck); until.IsZero() || check.Before(until) {
		return check
	}
	return until
}

// auxChecksum reads the first field, tp_status, of the struct tpacket_auxdata that comes with each frame.
func auxChecksum(control []byte) ChecksumState {
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		if header.Level == unix.SOL_PACKET && header.Type == unix.PACKET_AUXDATA && len(data) >= 4 &&
			binary.NativeEndian.Uint32(data)&unix.TP_STATUS_CSUMNOTREADY != 0 {
			return ChecksumPending
		}
		control = rest
	}
	return ChecksumFinished
}

func (s *packetSocket) Send(r Response) error {
	if err := s.raw.send(r.Message); err != nil {
		return fmt.Errorf("send on %s: %w", s.link, err)
	}
	return nil
}

func (s *packetSocket) Program(of Service, w Watch) ([]bpf.RawInstruction, error) {
	return s.program(of, w)
}

func (s *packetSocket) Attach(program []bpf.RawInstruction) error {
	if err := s.conn.SetBPF(program); err != nil {
		return fmt.Errorf("attach filter to packet socket on %s: %w", s.link, err)
	}
	return nil
}

func (s *packetSocket) QueueDrops() uint64 {
	stats, err := s.conn.GetsockoptTpacketStats(unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0 // the socket was closed meanwhile
	}
	return uint64(stats.Drops)
}

func (s *packetSocket) LackingSettings() []string { return nil }

func (s *packetSocket) Close() { s.conn.Close() }
