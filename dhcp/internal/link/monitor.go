package link

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/drop"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// Monitor is a packet socket that hears DHCP, ARP, Neighbor Discovery and DHCPv6 in both directions. It sends nothing.
type Monitor struct {
	socket *packetSocket
	frame  []byte
	aux    [128]byte // control messages: a tpacket_auxdata and a timestamp
}

// maxFrame is the largest frame that is read whole, in bytes.
const maxFrame = 1 << 16

// OpenMonitor opens a monitor of a link in the namespace of the calling thread. It needs CAP_NET_RAW.
func OpenMonitor(link string) (*Monitor, error) {
	socket, err := newPacketSocket(link)
	if err != nil {
		return nil, err
	}
	m := &Monitor{socket: socket, frame: make([]byte, maxFrame)}
	if err := m.configure(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *Monitor) configure() error {
	program, err := MonitorFilter()
	if err != nil {
		return err
	}
	if err := m.socket.Attach(program); err != nil {
		return err
	}
	for _, option := range []struct {
		level, name int
		what        string
	}{
		{unix.SOL_PACKET, unix.PACKET_AUXDATA, "the checksum state and the VLAN"},
		{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, "the time"},
	} {
		if err := m.socket.conn.SetsockoptInt(option.level, option.name, 1); err != nil {
			return fmt.Errorf("ask for %s of frames on %s: %w", option.what, m.socket.link, err)
		}
	}
	return m.socket.bind()
}

// Read waits for a frame, until a time if one is set: then the error is os.ErrDeadlineExceeded. It is ErrDown when the
// link goes down, ErrGone when it is deleted, and drop.Oversized for a frame of more than maxFrame bytes. The frame is
// without its tag and valid until the next call.
func (m *Monitor) Read(until time.Time) ([]byte, About, error) {
	n, auxLen, flags, err := m.socket.read(m.frame, m.aux[:], until)
	switch {
	case err != nil:
		return nil, About{}, err
	case flags&unix.MSG_TRUNC != 0:
		return nil, About{}, drop.Oversized
	}
	about := readAux(m.aux[:auxLen])
	about.Outgoing = m.socket.raw.sourceLink().Pkttype == unix.PACKET_OUTGOING
	return m.frame[:n], about, nil
}

// QueueDrops is how many frames the kernel dropped since the last call because they were not read in time.
func (m *Monitor) QueueDrops() uint64 { return m.socket.QueueDrops() }

// Close ends it; a call of Read returns an error then.
func (m *Monitor) Close() { m.socket.Close() }

// About is what the kernel says of a frame besides its bytes.
type About struct {
	At       time.Time
	Outgoing bool // it leaves by the link
	Sum      ChecksumState
	Tagged   bool
	Tag      [4]byte // as it stands in a frame: its protocol and its control information
}

func readAux(control []byte) About {
	a := About{At: time.Now(), Sum: auxChecksum(control)}
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.SOL_PACKET && header.Type == unix.PACKET_AUXDATA && len(data) >= 20:
			// struct tpacket_auxdata: tp_status first, tp_vlan_tci and tp_vlan_tpid last.
			status := binary.NativeEndian.Uint32(data)
			if a.Tagged = status&unix.TP_STATUS_VLAN_VALID != 0; !a.Tagged {
				break
			}
			protocol := uint16(unix.ETH_P_8021Q)
			if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
				protocol = binary.NativeEndian.Uint16(data[18:])
			}
			binary.BigEndian.PutUint16(a.Tag[:], protocol)
			binary.BigEndian.PutUint16(a.Tag[2:], binary.NativeEndian.Uint16(data[16:]))
		case header.Level == unix.SOL_SOCKET && header.Type == unix.SO_TIMESTAMPNS && len(data) >= 16:
			a.At = time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
		}
		control = rest
	}
	return a
}

// VLAN is the number in the tag (IEEE 802.1Q §9.6).
func (a About) VLAN() uint16 { return binary.BigEndian.Uint16(a.Tag[2:]) & 0x0fff }

// MonitorFilter passes DHCP, ARP, Neighbor Discovery and DHCPv6 in either direction, tagged or not, so that nothing else
// that a guest sends and receives wakes a tracer.
func MonitorFilter() ([]bpf.RawInstruction, error) {
	return concat(
		filter{bpf.LoadAbsolute{Off: 12, Size: 2}},
		when(bpf.JumpEqual, TypeARP, filter{pass}),
		when(bpf.JumpEqual, TypeIPv4, concat(
			filter{bpf.LoadAbsolute{Off: EtherLen + 9, Size: 1}},
			need(bpf.JumpEqual, ProtoUDP),
			filter{bpf.LoadAbsolute{Off: EtherLen + 6, Size: 2}},
			need(bpf.JumpBitsNotSet, 0x1fff), // later fragments have no ports
			filter{
				bpf.LoadMemShift{Off: EtherLen},
				bpf.LoadIndirect{Off: EtherLen + 2, Size: 2},
			},
			when(bpf.JumpEqual, v4.ServerPort, filter{pass}),
			when(bpf.JumpEqual, v4.ClientPort, filter{pass}),
			filter{stop},
		)),
		need(bpf.JumpEqual, TypeIPv6),
		filter{bpf.LoadAbsolute{Off: EtherLen + 6, Size: 1}},
		when(bpf.JumpEqual, ProtoUDP, concat(
			filter{bpf.LoadAbsolute{Off: EtherLen + IPv6Len + 2, Size: 2}},
			when(bpf.JumpEqual, ClientPort6, filter{pass}),
			when(bpf.JumpEqual, ServerPort6, filter{pass}),
			filter{stop},
		)),
		need(bpf.JumpEqual, ProtoICMPv6),
		filter{bpf.LoadAbsolute{Off: EtherLen + IPv6Len, Size: 1}},
		need(bpf.JumpGreaterOrEqual, NDRouterSolicitation),
		need(bpf.JumpLessOrEqual, NDRedirect),
		filter{pass},
	).assemble()
}
