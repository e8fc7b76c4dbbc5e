package dhcp

import (
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func seeds() [][]byte {
	return [][]byte{
		ask(dhcpv4.MessageTypeDiscover, withParameters(dhclient...), withOption(61, 1, 2, 3)),
		ask(dhcpv4.MessageTypeDiscover, withOption(80), withOption(57, 5, 220)),
		ask(dhcpv4.MessageTypeRequest, withAddr(50, "10.244.1.5"), withAddr(54, "10.244.1.1")),
		ask(dhcpv4.MessageTypeRequest, withCiaddr("10.244.1.5")),
		ask(dhcpv4.MessageTypeRequest, withAddr(50, "10.9.9.9"), withOption(82, make([]byte, 300)...)),
		ask(dhcpv4.MessageTypeInform, withParameters(windows...), withOption(52, 3)),
		ask(dhcpv4.MessageTypeDecline, withAddr(50, "10.244.1.5")),
		ask(dhcpv4.MessageTypeRelease, withCiaddr("10.244.1.5")),
		ask(dhcpv4.MessageTypeNone),
	}
}

// FuzzFrame feeds whole frames to the frame parser and what follows it. The answer must be one that the parser reads.
func FuzzFrame(f *testing.F) {
	for _, s := range seeds() {
		f.Add(fromGuest(s, "0.0.0.0", everybody), true)
	}
	f.Add(arpFrame(arpRequest, guestMAC, "0.0.0.0", "169.254.1.1"), true)
	h := testHandler(f, awsPod(), Options{})
	f.Fuzz(func(t *testing.T, frame []byte, sum bool) {
		reply := h.ethernet(frame, checksumState(sum))
		h.takeEvents()
		if reply == nil || reply[13] == typeARP&0xff {
			return
		}
		copy(reply[etherLen+ipLen+2:], []byte{0, serverPort}) // the parser wants the server's port
		if _, _, err := parseUDP(reply[etherLen:], checksumPending); err != nil {
			t.Fatalf("unreadable reply: %v", err)
		}
	})
}

// FuzzHandler feeds messages past the checks that random bytes rarely pass: the client's MAC, the cookie.
func FuzzHandler(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s, byte(0))
	}
	offers := []Offer{
		mustOffer(f, bridgePod(), boot()),
		mustOffer(f, ptpPod(), Options{Extra: []Option{{224, make([]byte, 700)}}}),
		mustOffer(f, isolatedPod(), Options{LeaseTime: 30e9, MTU: 68}),
	}
	f.Fuzz(func(t *testing.T, payload []byte, which byte) {
		h := testHandler(t, bridgePod(), Options{})
		h.setOffer(offers[int(which)%len(offers)])
		if len(payload) >= offOptions {
			payload = append([]byte(nil), payload...)
			payload[0], payload[1], payload[2] = opRequest, hardwareEthernet, 6
			copy(payload[offChaddr:], guestMAC[:])
		}
		r := h.datagram(payload, addr("10.244.1.5"))
		if r.message == nil {
			return
		}
		if size := len(r.message) + headersLen; size < minMessage+headersLen || size > max(minMessage+headersLen, h.offer.MTU) {
			t.Fatalf("a reply of %d bytes with an MTU of %d", size, h.offer.MTU)
		}
		r.message[0] = opRequest
		var m message
		if err := m.decode(r.message); err != nil {
			t.Fatalf("unreadable reply: %v", err)
		}
		if kind := m.kind; kind != dhcpv4.MessageTypeNone && len(m.option(codeServer)) != 4 {
			t.Fatalf("a %s without a server identifier", kind)
		}
	})
}

// FuzzResolvConf follows the text all the way into an offer: nothing in it may cost more than an entry.
func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"))
	f.Add([]byte("search .\r\nnameserver ::1\r\n# nothing\r\ndomain A.B.\nnameserver 127.0.0.1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		id := bridgePod()
		id.Resolver, _ = ParseResolvConf(text)
		offer, _, err := NewOffer(id, Options{})
		if err != nil {
			t.Fatal(err)
		}
		h := newHandler(offer, guestMAC, serverMAC, Lease{}, testClock)
		r := h.datagram(ask(dhcpv4.MessageTypeDiscover), addr("0.0.0.0"))
		m, err := dhcpv4.FromBytes(r.message)
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
