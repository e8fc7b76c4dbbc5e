package dhcp

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/drop"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// monitor is a packet socket that hears DHCP, ARP, Neighbor Discovery and DHCPv6 in both directions. It sends nothing.
type monitor struct {
	socket *packetSocket
	frame  []byte
	aux    [128]byte // control messages: a tpacket_auxdata and a timestamp
}

// maxFrame is the largest frame that is read whole, in bytes.
const maxFrame = 1 << 16

// openMonitor opens a monitor of a link in the namespace of the calling thread. It needs CAP_NET_RAW.
func openMonitor(link string) (*monitor, error) {
	socket, err := newPacketSocket(link)
	if err != nil {
		return nil, err
	}
	m := &monitor{socket: socket, frame: make([]byte, maxFrame)}
	if err := m.configure(); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *monitor) configure() error {
	program, err := monitorFilter()
	if err != nil {
		return err
	}
	if err := m.socket.attach(program); err != nil {
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

// read waits for a frame, until a time if one is set: then the error is os.ErrDeadlineExceeded. It is errLinkDown when the
// link goes down, errLinkGone when it is deleted, and drop.Oversized for a frame of more than maxFrame bytes. The frame is
// without its tag and valid until the next call.
func (m *monitor) read(until time.Time) ([]byte, auxiliary, error) {
	n, auxLen, flags, err := m.socket.read(m.frame, m.aux[:], until)
	switch {
	case err != nil:
		return nil, auxiliary{}, err
	case flags&unix.MSG_TRUNC != 0:
		return nil, auxiliary{}, drop.Oversized
	}
	about := readAux(m.aux[:auxLen])
	about.outgoing = m.socket.raw.sourceLink().Pkttype == unix.PACKET_OUTGOING
	return m.frame[:n], about, nil
}

// queueDrops is how many frames the kernel dropped since the last call because they were not read in time.
func (m *monitor) queueDrops() uint64 { return m.socket.queueDrops() }

func (m *monitor) close() { m.socket.close() }

// auxiliary is what the kernel says of a frame besides its bytes.
type auxiliary struct {
	at       time.Time
	outgoing bool // it leaves by the link
	sum      checksumState
	tagged   bool
	tag      [4]byte // as it stands in a frame: its protocol and its control information
}

func readAux(control []byte) auxiliary {
	a := auxiliary{at: time.Now(), sum: auxChecksum(control)}
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.SOL_PACKET && header.Type == unix.PACKET_AUXDATA && len(data) >= 20:
			// struct tpacket_auxdata: tp_status first, tp_vlan_tci and tp_vlan_tpid last.
			status := binary.NativeEndian.Uint32(data)
			if a.tagged = status&unix.TP_STATUS_VLAN_VALID != 0; !a.tagged {
				break
			}
			protocol := uint16(unix.ETH_P_8021Q)
			if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
				protocol = binary.NativeEndian.Uint16(data[18:])
			}
			binary.BigEndian.PutUint16(a.tag[:], protocol)
			binary.BigEndian.PutUint16(a.tag[2:], binary.NativeEndian.Uint16(data[16:]))
		case header.Level == unix.SOL_SOCKET && header.Type == unix.SO_TIMESTAMPNS && len(data) >= 16:
			a.at = time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
		}
		control = rest
	}
	return a
}

// vlan is the number in the tag (IEEE 802.1Q §9.6).
func (a auxiliary) vlan() uint16 { return binary.BigEndian.Uint16(a.tag[2:]) & 0x0fff }

// monitorFilter passes DHCP, ARP, Neighbor Discovery and DHCPv6 in either direction, tagged or not, so that nothing else
// that a guest sends and receives wakes a tracer.
func monitorFilter() ([]bpf.RawInstruction, error) {
	return concat(
		filter{bpf.LoadAbsolute{Off: 12, Size: 2}},
		when(bpf.JumpEqual, typeARP, filter{pass}),
		when(bpf.JumpEqual, typeIPv4, concat(
			filter{bpf.LoadAbsolute{Off: etherLen + 9, Size: 1}},
			need(bpf.JumpEqual, protoUDP),
			filter{bpf.LoadAbsolute{Off: etherLen + 6, Size: 2}},
			need(bpf.JumpBitsNotSet, 0x1fff), // later fragments have no ports
			filter{
				bpf.LoadMemShift{Off: etherLen},
				bpf.LoadIndirect{Off: etherLen + 2, Size: 2},
			},
			when(bpf.JumpEqual, v4.ServerPort, filter{pass}),
			when(bpf.JumpEqual, v4.ClientPort, filter{pass}),
			filter{stop},
		)),
		need(bpf.JumpEqual, typeIPv6),
		filter{bpf.LoadAbsolute{Off: etherLen + 6, Size: 1}},
		when(bpf.JumpEqual, protoUDP, concat(
			filter{bpf.LoadAbsolute{Off: etherLen + ipv6Len + 2, Size: 2}},
			when(bpf.JumpEqual, clientPort6, filter{pass}),
			when(bpf.JumpEqual, serverPort6, filter{pass}),
			filter{stop},
		)),
		need(bpf.JumpEqual, protoICMPv6),
		filter{bpf.LoadAbsolute{Off: etherLen + ipv6Len, Size: 1}},
		need(bpf.JumpGreaterOrEqual, ndRouterSolicitation),
		need(bpf.JumpLessOrEqual, ndRedirect),
		filter{pass},
	).assemble()
}
