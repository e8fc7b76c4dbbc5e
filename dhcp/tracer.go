package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// TracerConfig is what a Tracer needs to know.
type TracerConfig struct {
	// Link is the name of the guest's tap, in either mode of the server.
	Link string
	// Client is the guest's MAC, ServerMAC the one that the server sends from.
	Client, ServerMAC identity.MAC
	// Offer is what the guest is told; nil where there is no server.
	Offer *Offer
	// InNamespace is as in Config.
	InNamespace func(func() error) error
	// Absent says why nobody answers, where it knows; it is asked when an answer does not come.
	Absent func() string
}

// Tracer sees the DHCP, ARP and Neighbor Discovery that pass the guest's tap, in both directions. It sends nothing, and
// what it says of the server's reasons is what the server's own handler makes of the same frame.
type Tracer struct {
	socket  *packetSocket
	decoder *decoder
	absent  func() string
	open    []unanswered
	lost    atomic.Uint64
	frame   []byte
	aux     [128]byte // control messages: a tpacket_auxdata and a timestamp
}

// unanswered is a frame of the guest that the server is to answer.
type unanswered struct {
	Traced
	until time.Time
}

// answerTime is how long an answer may take. The server needs well under a millisecond; a client asks again after one
// second at the earliest.
const answerTime = time.Second

// maxUnanswered bounds the memory of what is waited for.
const maxUnanswered = 64

// maxFrame is the largest frame that is read whole, in bytes.
const maxFrame = 1 << 16

// ErrLinkGone is returned by Next when the tap was deleted.
var ErrLinkGone = errLinkGone

// NewTracer opens a packet socket on the tap. It needs CAP_NET_RAW.
func NewTracer(c TracerConfig) (*Tracer, error) {
	t := &Tracer{decoder: newDecoder(c.Client, c.ServerMAC, c.Offer), absent: c.Absent, frame: make([]byte, maxFrame)}
	err := c.InNamespace(func() (err error) {
		t.socket, err = newPacketSocket(c.Link)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := t.configure(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Tracer) configure() error {
	program, err := traceFilter()
	if err != nil {
		return err
	}
	if err := t.socket.attach(program); err != nil {
		return err
	}
	for _, option := range []struct {
		level, name int
		what        string
	}{
		{unix.SOL_PACKET, unix.PACKET_AUXDATA, "the checksum state and the VLAN"},
		{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, "the time"},
	} {
		if err := t.socket.conn.SetsockoptInt(option.level, option.name, 1); err != nil {
			return fmt.Errorf("ask for %s of frames on %s: %w", option.what, t.socket.link, err)
		}
	}
	return t.socket.bind()
}

// Close ends the trace; a call of Next returns an error then. It may be called again.
func (t *Tracer) Close() {
	t.Lost() // the kernel forgets it with the socket
	t.socket.close()
}

// Lost is how many frames the kernel dropped because they were not read in time.
func (t *Tracer) Lost() uint64 { return t.lost.Add(t.socket.queueDrops()) }

// Next waits for a frame, or for an answer that does not come. The error is ErrLinkGone when the tap is deleted.
func (t *Tracer) Next() (Traced, error) {
	for {
		n, auxLen, flags, err := t.socket.read(t.frame, t.aux[:], t.deadline())
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return t.expire(), nil
		case errors.Is(err, errLinkDown), flags&unix.MSG_TRUNC != 0:
			continue // it may come up again; no message is that large
		case err != nil:
			return Traced{}, err
		}
		about := readAux(t.aux[:auxLen])
		f := t.decoder.decode(t.frame[:n], about.vlan(), t.socket.raw.sourceLink().Pkttype != unix.PACKET_OUTGOING, about.sum)
		f.At = about.at
		if about.tagged {
			f.Data = slices.Concat(f.Data[:12], about.tag[:], f.Data[12:]) // where the kernel took it off
			f.Length = len(f.Data)
		}
		t.track(f)
		return f, nil
	}
}

// deadline is when the first answer is overdue.
func (t *Tracer) deadline() time.Time {
	if len(t.open) == 0 {
		return time.Time{}
	}
	return t.open[0].until
}

// expire reports that the first answer that is waited for does not come.
func (t *Tracer) expire() Traced {
	f := t.open[0].Traced
	t.open = slices.Delete(t.open, 0, 1)
	why := t.absent()
	if why == "" {
		// A bridge port that has just come up forwards nothing yet, so that a UDP socket misses a guest's first frames.
		why = "the server is there, and may not have heard it"
	}
	return Traced{
		At: f.At.Add(answerTime), Peer: PeerServer, Protocol: f.Protocol, Transaction: f.Transaction,
		Message: fmt.Sprintf("no %s to %s", f.Answer, f.Message), Why: why,
	}
}

// track keeps in mind which answers are to come.
func (t *Tracer) track(f Traced) {
	if !f.FromGuest {
		t.open = slices.DeleteFunc(t.open, func(u unanswered) bool { return u.Protocol == f.Protocol && u.subject == f.subject })
		return
	}
	if f.Answer != "" && len(t.open) < maxUnanswered {
		f.Data, f.Details = nil, nil
		t.open = append(t.open, unanswered{f, time.Now().Add(answerTime)})
	}
}

// auxiliary is what the kernel says of a frame besides its bytes.
type auxiliary struct {
	at     time.Time
	sum    checksumState
	tagged bool
	tag    [4]byte // as it stands in a frame: its protocol and its control information
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

// traceFilter passes DHCP, ARP, Neighbor Discovery and DHCPv6 in either direction, tagged or not, so that nothing else
// that a guest sends and receives wakes the tracer.
func traceFilter() ([]bpf.RawInstruction, error) {
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
