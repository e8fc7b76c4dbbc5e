package dhcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	mdpacket "github.com/mdlayher/packet"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// wire is a server on one end of a veth pair and the guest's kernel on the other, for what a tap cannot show.
type wire struct {
	guest
	raw *mdpacket.Conn // the guest's end
}

func newWire(t *testing.T, id identity.Identity, o Settings) *wire {
	t.Helper()
	needRoot(t)
	w := &wire{guest: guest{pod: newNetns(t), inside: newNetns(t), events: make(chan Event, 1000)}}
	w.plug(t)
	link := "tap0"
	if o.UDP {
		link = "eth0-br"
		w.pod.ip(t, "link add eth0-br type bridge", "link set eth0-br up", "link set tap0 master eth0-br")
		w.forUDP(t, id)
	}
	server, err := NewServer(Config{
		Offer: mustOffer(t, id, o), Client: guestMAC, ServerMAC: serverMAC, Link: link, InNamespace: w.pod.do,
		Observe: func(e Event) { w.events <- e }, Log: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server = server
	serve(t, server)
	return w
}

// plug makes the pair and opens the guest's end.
func (w *wire) plug(t *testing.T) {
	t.Helper()
	w.pod.ip(t, fmt.Sprintf("link add tap0 type veth peer name eth0 address %s netns /proc/%d/fd/%d",
		guestMAC, os.Getpid(), w.inside.file.Fd()))
	w.pod.ip(t, "link set tap0 up")
	w.inside.ip(t, "link set eth0 up")
	w.raw = w.listen(t)
}

// listen opens a packet socket on the guest's card.
func (g *guest) listen(t *testing.T) (raw *mdpacket.Conn) {
	t.Helper()
	err := g.inside.do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		raw, err = mdpacket.Listen(link, mdpacket.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return raw
}

// tagged is a frame with an 802.1Q tag.
func tagged(frame []byte, tag uint16) []byte {
	return slices.Insert(slices.Clone(frame), 12, 0x81, 0, byte(tag>>8), byte(tag))
}

func (w *wire) send(t *testing.T, frame []byte) {
	t.Helper()
	transmit(t, w.raw, frame)
}

// transmit sends a frame to everybody.
func transmit(t *testing.T, raw *mdpacket.Conn, frame []byte) {
	t.Helper()
	if _, err := raw.WriteTo(frame, &mdpacket.Addr{HardwareAddr: link.BroadcastMAC.HardwareAddr()}); err != nil {
		t.Fatal(err)
	}
}

// withXID tells exchanges apart.
func withXID(n byte) dhcpv4.Modifier {
	return dhcpv4.WithTransactionID(dhcpv4.TransactionID{0, 0, 0, n})
}

func discoverNumber(n byte) []byte {
	return fromGuest(ask(dhcpv4.MessageTypeDiscover, withXID(n)), "0.0.0.0", everybody)
}

func TestTaggedFramesAreOfAnotherNetwork(t *testing.T) {
	t.Parallel()
	w := newWire(t, bridgePod(), Settings{})
	w.send(t, tagged(discoverNumber(1), 5))
	w.send(t, tagged(tagged(discoverNumber(2), 0), 5))
	w.send(t, tagged(discoverNumber(3), 7<<13)) // VLAN 0, priority 7
	if e := w.wait(t, KindDiscover, ""); e.Transaction != 3 {
		t.Errorf("transaction %d was answered", e.Transaction)
	}
	if dropped := w.server.Stats().Dropped; len(dropped) != 0 {
		t.Errorf("frames of other networks woke the server: %v", dropped)
	}
}

// TestUnfinishedChecksumIsNotAWrongOne sends from a UDP socket: the kernel leaves its checksum to a veth that does not
// compute one.
func TestUnfinishedChecksumIsNotAWrongOne(t *testing.T) {
	t.Parallel()
	w := newWire(t, bridgePod(), Settings{})
	w.inside.ip(t, "address add 10.244.1.5/24 dev eth0")
	err := w.inside.do(func() error {
		conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 244, 1, 5), Port: v4.ClientPort}, &net.UDPAddr{IP: net.IPv4(10, 244, 1, 255), Port: v4.ServerPort})
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(ask(dhcpv4.MessageTypeRequest, withCiaddr("10.244.1.5")))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.wait(t, KindAck, "renewing")
	if dropped := w.server.Stats().Dropped; len(dropped) != 0 {
		t.Errorf("dropped %v", dropped)
	}
	wrong := discoverNumber(1)
	wrong[link.EtherLen+link.IPLen+6]++
	w.send(t, wrong)
	w.send(t, discoverNumber(2))
	if e := w.wait(t, KindDiscover, ""); e.Transaction != 2 {
		t.Errorf("transaction %d was answered", e.Transaction)
	}
	if dropped := w.server.Stats().Dropped["checksum"]; dropped != 1 {
		t.Errorf("%d dropped for their checksum", dropped)
	}
}

func TestServerOutlivesItsLink(t *testing.T) {
	t.Parallel()
	w := newWire(t, bridgePod(), Settings{})
	w.send(t, discoverNumber(1))
	w.wait(t, KindOffer, "")

	w.pod.ip(t, "link set tap0 down")
	w.wait(t, KindLinkDown, "")
	w.pod.ip(t, "link set tap0 up")
	w.send(t, discoverNumber(2))
	w.wait(t, KindOffer, "")

	// Down first: the kernel does not tell a socket of the rest.
	w.pod.ip(t, "link set tap0 down", "link delete tap0")
	w.wait(t, KindSocketLost, "")
	w.plug(t)
	w.wait(t, KindSocketOpen, "")
	w.send(t, discoverNumber(3))
	w.wait(t, KindOffer, "")
}

// TestRepliesReachTheGuestAlone reads what the guest's end receives.
func TestRepliesReachTheGuestAlone(t *testing.T) {
	t.Parallel()
	w := newWire(t, awsPod(), Settings{})
	w.raw.SetReadDeadline(time.Now()) // ask first
	want := map[string]bool{"ARP": true, "DHCP": true}
	buffer := make([]byte, 2048)
	for asked := byte(0); len(want) > 0; {
		n, _, err := w.raw.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// As a client does: a veth loses what is sent in the moment in which its other end comes up.
			if asked++; asked > 20 {
				t.Fatalf("still waiting for %v", want)
			}
			w.send(t, arpFrame(link.ARPRequest, guestMAC, "10.244.1.5", "169.254.1.1"))
			w.send(t, discoverNumber(asked))
			w.raw.SetReadDeadline(time.Now().Add(time.Second))
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		f := buffer[:n]
		switch {
		case n > link.EtherLen && f[12] == 8 && f[13] == 6 && identity.MAC(f[6:]) == otherMAC:
			delete(want, "ARP")
		case n > link.EtherLen && f[12] == 8 && f[13] == 0 && identity.MAC(f[6:]) == serverMAC && identity.MAC(f) == guestMAC:
			if netip.AddrFrom4([4]byte(f[link.EtherLen+16:])) == addr("10.244.1.5") {
				delete(want, "DHCP")
			}
		}
	}
	w.wait(t, KindAddressSeen, "")
	w.wait(t, KindARP, "")
	w.wait(t, KindOffer, "")
}

// TestChecksumIsFinishedOrNone reads frames as a client does that does not ask the kernel whether a checksum is finished:
// ConnMan 1.41, for one. A veth finishes none, and neither does a tap whose emulator and guest take over the offload.
func TestChecksumIsFinishedOrNone(t *testing.T) {
	for _, o := range []Settings{{}, {UDP: true}} {
		t.Run(mustOffer(t, bridgePod(), o).Socket, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, bridgePod(), o)
			buffer := make([]byte, 2048)
			w.raw.SetReadDeadline(time.Now()) // ask first
			for asked := byte(0); ; {
				n, _, err := w.raw.ReadFrom(buffer)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					// As a client does: a veth loses what is sent in the moment in which its other end comes up.
					if asked++; asked > 20 {
						t.Fatal("no reply")
					}
					w.send(t, discoverNumber(asked))
					w.raw.SetReadDeadline(time.Now().Add(time.Second))
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if n < link.EtherLen || buffer[12] != 8 || buffer[13] != 0 || identity.MAC(buffer[6:]) == guestMAC {
					continue
				}
				switch _, _, err := link.ParseDatagram(buffer[link.EtherLen:n], link.ChecksumFinished, v4.ClientPort); err {
				case drop.NotForUs: // the kernel's own IGMP
					continue
				case nil:
				default:
					t.Errorf("the reply is dropped for its %v: %x", err, buffer[:n])
				}
				return
			}
		})
	}
}
