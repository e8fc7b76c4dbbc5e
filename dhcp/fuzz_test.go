package dhcp

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/dhcptest"
	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/dhcp/internal/nd"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// FuzzFrame feeds whole frames to the frame parser and what follows it. Random bytes rarely have a right checksum in the
// IP header, so that of some frames is made right. The answer must be one that the parser reads.
func FuzzFrame(f *testing.F) {
	for _, s := range seeds() {
		f.Add(fromGuest(s, "0.0.0.0", everybody), true, false)
		f.Add(fromGuest(s, "10.244.1.5", "169.254.1.1"), false, true)
	}
	f.Add(arpFrame(link.ARPRequest, guestMAC, "0.0.0.0", "169.254.1.1"), true, false)
	offer := mustOffer(f, awsPod(), Settings{})
	f.Fuzz(func(t *testing.T, frame []byte, sum, mend bool) {
		if mend {
			frame = slices.Clone(frame)
			finishHeader(frame)
		}
		h := newHandler(offer, guestMAC, serverMAC, Lease{}, testClock)
		reply := h.ethernet(frame, link.ChecksumState(sum))
		if reply == nil || reply[13] == link.TypeARP&0xff {
			return
		}
		copy(reply[link.EtherLen+link.IPLen+2:], []byte{0, v4.ServerPort}) // the parser wants the server's port
		if _, _, err := link.ParseUDP(reply[link.EtherLen:], link.ChecksumPending); err != nil {
			t.Fatalf("unreadable reply: %v", err)
		}
	})
}

// finishHeader makes the checksum of a frame's IP header right, where there is a header.
func finishHeader(frame []byte) {
	if len(frame) < link.EtherLen+link.IPLen {
		return
	}
	ip := frame[link.EtherLen:]
	if length := int(ip[0]&0x0f) * 4; length >= link.IPLen && length <= len(ip) {
		copy(ip[10:], []byte{0, 0})
		binary.BigEndian.PutUint16(ip[10:], link.Checksum(0, ip[:length]))
	}
}

// FuzzHandler feeds messages past the checks that random bytes rarely pass: the client's MAC, the cookie.
func FuzzHandler(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s, byte(0))
	}
	offers := []Offer{
		mustOffer(f, bridgePod(), boot()),
		mustOffer(f, ptpPod(), Settings{Extra: []Option{{224, make([]byte, 700)}}}),
		mustOffer(f, isolatedPod(), Settings{LeaseTime: 30e9, MTU: 68}),
	}
	f.Fuzz(func(t *testing.T, payload []byte, which byte) {
		h := testHandler(t, bridgePod(), Settings{})
		h.setOffer(offers[int(which)%len(offers)])
		if len(payload) >= v4.OffOptions {
			payload = append([]byte(nil), payload...)
			payload[0], payload[1], payload[2] = v4.OpRequest, v4.HardwareEthernet, 6
			copy(payload[v4.OffChaddr:], guestMAC[:])
		}
		r := h.datagram(payload, addr("10.244.1.5"))
		if r.Message == nil {
			return
		}
		if size := len(r.Message) + v4.HeadersLen; size < v4.MinMessage+v4.HeadersLen || size > max(v4.MinDatagram, h.offer.MTU) {
			t.Fatalf("a reply of %d bytes with an MTU of %d", size, h.offer.MTU)
		}
		r.Message[0] = v4.OpRequest
		var m v4.Message
		if err := m.Decode(r.Message); err != nil {
			t.Fatalf("unreadable reply: %v", err)
		}
		if kind := m.Kind; kind != dhcpv4.MessageTypeNone && len(m.Option(v4.CodeServer)) != 4 {
			t.Fatalf("a %s without a server identifier", kind)
		}
	})
}

// FuzzResolvConf follows the text all the way into an offer: nothing in it may cost more than an entry.
func FuzzResolvConf(f *testing.F) {
	for _, text := range []string{
		"search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
		"search .\r\nnameserver ::1\r\n# nothing\r\ndomain A.B.\nnameserver 127.0.0.1",
		"nameserver fd00:10:96::a\nnameserver fe80::1%eth0\nnameserver ::ffff:10.96.0.10\nnameserver 0.0.0.0\n",
		"search " + strings.Repeat(strings.Repeat("d", 60)+".org ", 32) + "\nnameserver 10.96.0.10 ; the one\n",
		"search a..b -a _tcp.b " + strings.Repeat("x", 64) + ".org \x00 \xff.org\nnameserver\nnameserver dns.example.org\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		id := bridgePod()
		id.Resolver, _ = ParseResolvConf(text)
		offer, _, err := NewOffer(id, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		h := newHandler(offer, guestMAC, serverMAC, Lease{}, testClock)
		r := h.datagram(ask(dhcpv4.MessageTypeDiscover), addr("0.0.0.0"))
		m, err := dhcpv4.FromBytes(r.Message)
		if err != nil {
			t.Fatal(err)
		}
		for _, server := range m.DNS() {
			if server.IsLoopback() || server.IsUnspecified() {
				t.Fatalf("the guest is told of the resolver %s", server)
			}
		}
	})
}

// FuzzFrame6 feeds whole frames to the server of IPv6, with a right length and checksum, which random bytes rarely have.
// Each answer must be a frame with a right checksum, to the guest.
func FuzzFrame6(f *testing.F) {
	for _, s := range dhcptest.Seeds6() {
		f.Add(s, byte(0))
		f.Add(s, byte(2))
	}
	offers := []Offer6{
		mustOffer6(f, bridgePod6(), Settings{}), mustOffer6(f, calicoPod6(), Settings{LeaseTime: 30e9}), mustOffer6(f, awsPod6(), boot()),
		mustOffer6(f, isolatedPod6(), Settings{MTU: 1280, Search: longNames(9)}),
	}
	f.Fuzz(func(t *testing.T, frame []byte, which byte) {
		frame = slices.Clone(frame)
		if len(frame) >= link.EtherLen+link.IPv6Len {
			copy(frame[6:], guestMAC[:])
			copy(frame[12:], []byte{0x86, 0xdd, 0x60})
			dhcptest.Finish6(frame)
		}
		h := newHandler6(offers[int(which)%len(offers)], nil, guestMAC, serverMAC, Lease6{}, testClock)
		for _, r := range h.packet(link.Packet{Data: frame, Sum: link.ChecksumFinished}) {
			if !rightSum(r.Message[link.EtherLen:]) {
				t.Fatalf("wrong checksum: %x", r.Message)
			}
			if size := len(r.Message) - link.EtherLen; size > max(h.offer.MTU, nd.MinMTU) {
				t.Fatalf("a packet of %d bytes with an MTU of %d", size, h.offer.MTU)
			}
			if r.Message[0]&1 == 0 && identity.MAC(r.Message) != guestMAC {
				t.Fatalf("it goes to %s", identity.MAC(r.Message))
			}
		}
	})
}
