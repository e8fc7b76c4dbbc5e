package dhcp

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"pgregory.net/rapid"
)

// TestSmallMTUIsServed has the guest told an MTU that no reply fits into: its link carries more.
func TestSmallMTUIsServed(t *testing.T) {
	for _, mtu := range []int{68, 300, 575} {
		o := boot() // so that the fields file and sname are in use
		o.MTU = mtu
		h := testHandler(t, ptpPod(), o)
		r := h.datagram(ask(dhcpv4.MessageTypeDiscover, withParameters(dhclient...)), addr("0.0.0.0"))
		if r.message == nil || h.leftOut != "" {
			t.Errorf("MTU %d: dropped %v, left out %q", mtu, h.stats.Dropped, h.leftOut)
		}
	}
}

// TestReplyKeepsItsPromises draws options of the operator and wishes of the client, and checks of every reply what must
// hold for all: it stays inside the limit, what the protocol needs is in it, nothing is lost or damaged unless it is
// reported as left out, and header fields in use are not touched.
func TestReplyKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o Options
		for _, code := range rapid.SliceOfNDistinct(rapid.ByteRange(200, 240), 0, 12, rapid.ID).Draw(t, "extra codes") {
			size := rapid.IntRange(1, 400).Draw(t, "size")
			o.Extra = append(o.Extra, Option{code, bytes.Repeat([]byte{code}, size)})
		}
		o.BootFile = rapid.SampledFrom([]string{"", "pxe.0"}).Draw(t, "boot file")
		o.TFTPServer = rapid.SampledFrom([]string{"", "tftp.example"}).Draw(t, "tftp server")
		o.MTU = rapid.SampledFrom([]int{0, 68, 576, 1200}).Draw(t, "mtu")
		wishes := rapid.SliceOfN(rapid.ByteRange(1, 250), 0, 60).Draw(t, "parameters")
		size := rapid.IntRange(0, 2000).Draw(t, "maximum size")
		id := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "client identifier")
		modify := []dhcpv4.Modifier{withOption(codeMaxSize, byte(size>>8), byte(size))}
		if len(wishes) > 0 {
			modify = append(modify, withParameters(wishes...))
		}
		if len(id) > 0 {
			modify = append(modify, withOption(codeClientID, id...))
		}

		h := testHandler(testingTB{}, ptpPod(), o)
		r := h.datagram(ask(dhcpv4.MessageTypeDiscover, modify...), addr("0.0.0.0"))
		if r.message == nil {
			t.Fatalf("no reply, dropped: %v", h.stats.Dropped)
		}
		limit := max(min(max(size, minDatagram), h.offer.MTU), minDatagram)
		if got := len(r.message) + headersLen; got > limit {
			t.Fatalf("%d bytes, the limit is %d", got, limit)
		}
		if got := r.message[offOptions : offOptions+3]; !bytes.Equal(got, []byte{codeMessageType, 1, byte(dhcpv4.MessageTypeOffer)}) {
			t.Fatalf("the first option is %v", got)
		}
		for name, field := range map[string][]byte{o.TFTPServer: r.message[offSname:offFile], o.BootFile: r.message[offFile:offCookie]} {
			if name != "" && !bytes.HasPrefix(field, append([]byte(name), 0)) {
				t.Fatalf("%q became %q", name, field)
			}
		}

		var m message
		r.message[0] = opRequest // the decoder reads requests only
		if err := m.decode(r.message); err != nil {
			t.Fatal(err)
		}
		for _, code := range []uint8{codeMask, codeLeaseTime, codeServer} {
			if len(m.option(code)) != 4 {
				t.Fatalf("option %d is %v", code, m.option(code))
			}
		}
		if len(id) > 0 && !bytes.Equal(m.option(codeClientID), id) {
			t.Fatalf("client identifier %x, want %x", m.option(codeClientID), id)
		}
		missing := uint64(0)
		for _, p := range h.params.list {
			asked := len(wishes) == 0 && p.code != codeRoutesMS || slices.Contains(wishes, p.code) || p.code == codeRoutes
			switch got := m.option(p.code); {
			case asked && got == nil:
				missing++
			case got != nil && !bytes.Equal(got, p.data):
				t.Fatalf("option %d is %x, want %x", p.code, got, p.data)
			case got != nil && !asked && p.code != codeMask:
				t.Fatalf("option %d was not asked for", p.code)
			}
		}
		if missing != h.stats.OptionsLeftOut {
			t.Fatalf("%d options are missing, %d were reported", missing, h.stats.OptionsLeftOut)
		}
	})
}

// TestOptionsAreLeftOutInTheDocumentedOrder gives a message less and less room, until only what it must have is left. The
// order is that of docs/dhcp.md.
func TestOptionsAreLeftOutInTheDocumentedOrder(t *testing.T) {
	must := []uint8{codeMessageType, codeServer, codeLeaseTime, codeMask, codeClientID, codeRelayAgent}
	may := []uint8{121, 3, 249, 6, 26, 12, 15, 67, 66, 119, 224, 225, 42, 28}
	want := []uint8{28, 42, 225, 224, 119, 66, 67, 15, 12, 26, 6, 249, 3, 121}
	var options []wireOption
	for _, code := range slices.Concat(must, may) {
		options = append(options, wireOption{code, make([]byte, 8)})
	}
	for missing := range len(want) + 1 {
		room := 10*(len(options)-missing) + 1
		_, leftOut, err := lay(make([]byte, offOptions), slices.Clone(options), layout{room: room})
		if err != nil || !slices.Equal(leftOut, want[:missing]) {
			t.Errorf("with room for %d fewer: left out %v, want %v, %v", missing, leftOut, want[:missing], err)
		}
	}
	if _, _, err := lay(make([]byte, offOptions), slices.Clone(options), layout{room: 10*len(must) - 1}); err != dropNoRoom {
		t.Errorf("without room for what must be sent: %v", err)
	}
}

// testingTB lets the helpers be used where a failure is rapid's to report.
type testingTB struct{ testing.TB }

func (testingTB) Helper()           {}
func (testingTB) Fatal(args ...any) { panic(args) }

// TestAnotherDecoderReadsTheReply uses the library's decoder, which knows RFC 3396 but not option overload.
func TestAnotherDecoderReadsTheReply(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 60)
	h := testHandler(t, ptpPod(), Options{Extra: []Option{{224, long}}})
	r := h.datagram(ask(dhcpv4.MessageTypeDiscover, withOption(codeMaxSize, 0x05, 0xdc)), addr("0.0.0.0"))
	m, err := dhcpv4.FromBytes(r.message)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Options.Get(dhcpv4.GenericOptionCode(224)); !bytes.Equal(got, long) {
		t.Errorf("option 224 is %q", got)
	}
	if got, want := m.ClasslessStaticRoute(), h.offer.Routes; len(got) != len(want) {
		t.Errorf("routes %v, want %v", got, want)
	}
	if got := m.DomainSearch().Labels; !slices.Equal(got, h.offer.Search) {
		t.Errorf("search list %v, want %v", got, h.offer.Search)
	}
	if m.YourIPAddr.String() != "10.244.1.5" || m.IPAddressLeaseTime(0).Seconds() != infiniteLease {
		t.Errorf("got %s", m.Summary())
	}
}

func TestChecksumsOfRepliesAreRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := handler{client: guestMAC, serverMAC: serverMAC, offer: Offer{ServerIdentifier: addr("10.0.0.1")}}
		message := rapid.SliceOfN(rapid.Byte(), 0, 1472).Draw(t, "message")
		f := h.wrap(response{message: message, to: addr("10.0.0.2")})
		ip := f[etherLen:]
		if checksum(0, ip[:ipLen]) != 0 || checksum(pseudoHeader(ip, len(ip)-ipLen), ip[ipLen:]) != 0 {
			t.Fatalf("%x", f)
		}
		if binary.BigEndian.Uint16(ip[ipLen+6:]) == 0 {
			t.Fatal("the checksum says that there is none")
		}
	})
}
