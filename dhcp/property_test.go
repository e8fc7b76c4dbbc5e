package dhcp

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"pgregory.net/rapid"

	"github.com/podnic/podnic/network/identity"
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
		bootFile := rapid.SampledFrom([]string{"", "pxe.0"}).Draw(t, "boot file")
		if bootFile != "" {
			o.BootFiles = []BootFile{{File: bootFile}}
		}
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
		for name, field := range map[string][]byte{o.TFTPServer: r.message[offSname:offFile], bootFile: r.message[offFile:offCookie]} {
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
			asked := len(wishes) == 0 && p.code != codeRoutesMS || slices.Contains(wishes, p.code) ||
				p.code == codeRoutes && !slices.Contains(wishes, codeRoutesMS)
			switch got := m.option(p.code); {
			case asked && got == nil && p.code == codeRoutesMS && m.option(codeRoutes) != nil: // says the same
			case asked && got == nil:
				missing++
			case isRoutes(p.code) && bytes.Equal(got, h.params.routes.lean): // says the same
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
	for _, tt := range []struct{ may, want []uint8 }{
		{[]uint8{121, 3, 6, 26, 12, 15, 67, 66, 119, 224, 225, 42, 28}, []uint8{28, 42, 225, 224, 119, 66, 67, 15, 12, 26, 6, 3, 121}},
		{[]uint8{3, 249, 6, 28}, []uint8{28, 6, 249, 3}},
	} {
		var options []wireOption
		for _, code := range slices.Concat(must, tt.may) {
			options = append(options, wireOption{code, make([]byte, 8)})
		}
		for missing := range len(tt.want) + 1 {
			room := 10*(len(options)-missing) + 1
			_, short, err := lay(make([]byte, offOptions), slices.Clone(options), layout{room: room})
			if err != nil || !slices.Equal(short.leftOut, tt.want[:missing]) || len(short.cut) > 0 {
				t.Errorf("with room for %d fewer: left out %+v, want %v, %v", missing, short, tt.want[:missing], err)
			}
		}
		if _, _, err := lay(make([]byte, offOptions), slices.Clone(options), layout{room: 10*len(must) - 1}); err != dropNoRoom {
			t.Errorf("without room for what must be sent: %v", err)
		}
	}
}

// TestRoutesTakeNothingAlong draws routes, sizes and wishes: what a guest needs most is there whatever the routes are, each
// part of option 121 and 249 is a list of whole routes (systemd-networkd reads it as one), and the parts are together all
// of the routes, or those that say the same, or those without which nothing is reached; never some of them.
func TestRoutesTakeNothingAlong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SampledFrom([]func() identity.Identity{bridgePod, ptpPod, calicoPod, isolatedPod}).Draw(t, "pod")()
		gateways := addrs("10.244.1.1", "10.244.1.2", "10.244.1.3")
		number := rapid.SampledFrom([]int{0, 5, 20, 30, 40, 50, 60, 120, 200}).Draw(t, "number")
		routes := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) identity.Route {
			bits := rapid.IntRange(8, 32).Draw(t, "bits")
			to := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, rapid.Uint32().Draw(t, "destination"))))
			r := identity.Route{Destination: netip.PrefixFrom(to, bits).Masked()}
			if by := rapid.IntRange(0, len(gateways)).Draw(t, "gateway"); by > 0 {
				r.Gateway = gateways[by-1]
			}
			return r
		}), number, number, func(r identity.Route) netip.Prefix { return r.Destination }).Draw(t, "routes")
		for _, r := range routes {
			if !slices.ContainsFunc(id.Routes, func(o identity.Route) bool { return o.Destination == r.Destination }) {
				id.Routes = append(id.Routes, r)
			}
		}
		wishes := rapid.SliceOfNDistinct(rapid.SampledFrom([]uint8{1, 3, 6, 12, 15, 26, 28, 42, 119, 121, 249}), 1, 11, rapid.ID).Draw(t, "parameters")
		size := rapid.OneOf(rapid.Just(minDatagram), rapid.IntRange(300, 1600)).Draw(t, "maximum size")
		o := Options{UDP: rapid.Bool().Draw(t, "udp"), NTP: addrs("10.0.0.123")}
		discover := ask(dhcpv4.MessageTypeDiscover, withOption(codeMaxSize, byte(size>>8), byte(size)), withParameters(wishes...))

		h := testHandler(testingTB{}, id, o)
		m := readReply(t, h, discover)
		for _, code := range []uint8{codeRouter, codeDNS, codeMTU, codeHostname} {
			if p, ok := h.params.find(code); ok && slices.Contains(wishes, code) && !bytes.Equal(m.option(code), p.data) {
				t.Fatalf("option %d is %x, want %x", code, m.option(code), p.data)
			}
		}
		asked := slices.Contains(wishes, codeRoutes)
		for _, code := range []uint8{codeRoutes, codeRoutesMS} {
			got := m.option(code)
			switch wanted := slices.Contains(wishes, code); {
			case got == nil && wanted && h.params.routes.whole != nil && (code == codeRoutes || !asked):
				t.Fatalf("option %d is missing", code)
			case got == nil:
				continue
			case !bytes.Equal(got, h.params.routes.whole) && !bytes.Equal(got, h.params.routes.lean) && !bytes.Equal(got, h.params.routes.bare):
				t.Fatalf("option %d has some of the routes", code)
			case h.stats.OptionsLeftOut == 0 && !sameRoutes(decodeRoutes(t, got), h.offer):
				t.Fatalf("option %d says something else than the routes %v", code, h.offer.Routes)
			}
			for _, part := range m.options {
				if part.code == code {
					decodeRoutes(t, part.data)
				}
			}
		}
		if short := h.leftOut != ""; short != (h.stats.OptionsLeftOut > 0) {
			t.Fatalf("%d options are counted as left out, and the warning is %q", h.stats.OptionsLeftOut, h.leftOut)
		}
	})
}

// TestWhatFitsIsSent draws options and room: none that is left out would have fitted beside what is sent.
func TestWhatFitsIsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		options := []wireOption{{codeMessageType, []byte{2}}}
		codes := []uint8{3, 6, 12, 15, 26, 28, 42, 66, 67, 119, 121, 224, 225, 249}
		for _, code := range rapid.SliceOfNDistinct(rapid.SampledFrom(codes), 1, len(codes), rapid.ID).Draw(t, "options") {
			options = append(options, wireOption{code, make([]byte, rapid.IntRange(1, 400).Draw(t, "size"))})
		}
		l := layout{
			room: rapid.IntRange(60, 1200).Draw(t, "room"), file: rapid.Bool().Draw(t, "file"), sname: rapid.Bool().Draw(t, "sname"),
		}
		_, short, err := lay(make([]byte, offOptions), options, l)
		if err != nil {
			t.Fatal(err)
		}
		missing := func(code uint8) bool {
			return slices.Contains(short.leftOut, code) || code == codeRoutesMS && len(short.leftOut) > 0 && indexOf(options, codeRoutes) >= 0
		}
		for _, left := range short.leftOut {
			more := slices.DeleteFunc(slices.Clone(options), func(o wireOption) bool { return o.code != left && missing(o.code) })
			if _, ok := arrange(nil, more, l); ok {
				t.Fatalf("option %d is left out of %v, and would have fitted", left, options)
			}
		}
	})
}

// readReply is what the library of nobody but this package makes of an answer.
func readReply(t *rapid.T, h *handler, request []byte) *message {
	r := h.datagram(request, addr("0.0.0.0"))
	var m message
	if r.message == nil {
		t.Fatalf("no reply, dropped: %v", h.stats.Dropped)
	}
	if err := m.read(slices.Clone(r.message)); err != nil {
		t.Fatal(err)
	}
	return &m
}

// decodeRoutes fails unless the data is a list of whole routes.
func decodeRoutes(t *rapid.T, data []byte) []identity.Route {
	var decoded dhcpv4.Routes
	if err := decoded.FromBytes(data); err != nil || len(data) == 0 {
		t.Fatalf("no list of routes: %x, %v", data, err)
	}
	routes := make([]identity.Route, len(decoded))
	for i, r := range decoded {
		bits, _ := r.Dest.Mask.Size()
		to, _ := netip.AddrFromSlice(r.Dest.IP.To4())
		routes[i].Destination = netip.PrefixFrom(to, bits)
		if by, _ := netip.AddrFromSlice(r.Router.To4()); !by.IsUnspecified() {
			routes[i].Gateway = by
		}
	}
	return routes
}

// sameRoutes reports whether a guest with these routes sends to the same next hops as one with all of the offer's, by the
// first and last address of each destination and those beside them.
func sameRoutes(got []identity.Route, o Offer) bool {
	look := func(routes []identity.Route, to netip.Addr) (hop identity.Route, found bool) {
		hop.Destination = o.Address.Masked()
		found = hop.Destination.Contains(to)
		for _, r := range routes {
			if r.Destination.Contains(to) && (!found || r.Destination.Bits() >= hop.Destination.Bits()) {
				hop, found = r, true
			}
		}
		return identity.Route{Gateway: hop.Gateway}, found
	}
	for _, r := range o.Routes {
		first, last := r.Destination.Masked().Addr(), lastOf(r.Destination)
		for _, to := range []netip.Addr{first, first.Prev(), last, last.Next()} {
			if !to.IsValid() {
				continue
			}
			is, isFound := look(got, to)
			want, wantFound := look(o.Routes, to)
			if is != want || isFound != wantFound {
				return false
			}
		}
	}
	return true
}

func lastOf(p netip.Prefix) netip.Addr {
	addr, _ := netip.AddrFromSlice(broadcastOf(p, net.CIDRMask(p.Bits(), 32)))
	return addr
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
