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

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// TestSmallMTUIsServed has the guest told an MTU that no reply fits into: its link carries more.
func TestSmallMTUIsServed(t *testing.T) {
	for _, mtu := range []int{68, 300, 575} {
		o := boot() // so that the fields file and sname are in use
		o.MTU = mtu
		h := testHandler(t, ptpPod(), o)
		r := h.datagram(ask(dhcpv4.MessageTypeDiscover, withParameters(dhclient...)), addr("0.0.0.0"))
		if r.Message == nil || h.leftOut != "" {
			t.Errorf("MTU %d: dropped %v, left out %q", mtu, h.stats.Dropped, h.leftOut)
		}
	}
}

// TestReplyKeepsItsPromises draws options of the operator and parameter lists of the client, and checks of every reply what must
// hold for all: it stays inside the limit, what the protocol needs is in it, nothing is lost or damaged unless it is
// reported as left out, and header fields in use are not touched.
func TestReplyKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o Settings
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
		requested := rapid.SliceOfN(rapid.ByteRange(1, 250), 0, 60).Draw(t, "parameters")
		size := rapid.IntRange(0, 2000).Draw(t, "maximum size")
		id := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "client identifier")
		modify := []dhcpv4.Modifier{withOption(v4.CodeMaxSize, byte(size>>8), byte(size))}
		if len(requested) > 0 {
			modify = append(modify, withParameters(requested...))
		}
		if len(id) > 0 {
			modify = append(modify, withOption(v4.CodeClientID, id...))
		}

		h := testHandler(testingTB{}, ptpPod(), o)
		r := h.datagram(ask(dhcpv4.MessageTypeDiscover, modify...), addr("0.0.0.0"))
		if r.Message == nil {
			t.Fatalf("no reply, dropped: %v", h.stats.Dropped)
		}
		limit := max(min(max(size, v4.MinDatagram), h.offer.MTU), v4.MinDatagram)
		if got := len(r.Message) + v4.HeadersLen; got > limit {
			t.Fatalf("%d bytes, the limit is %d", got, limit)
		}
		if got := r.Message[v4.OffOptions : v4.OffOptions+3]; !bytes.Equal(got, []byte{v4.CodeMessageType, 1, byte(dhcpv4.MessageTypeOffer)}) {
			t.Fatalf("the first option is %v", got)
		}
		for name, field := range map[string][]byte{o.TFTPServer: r.Message[v4.OffSname:v4.OffFile], bootFile: r.Message[v4.OffFile:v4.OffCookie]} {
			if name != "" && !bytes.HasPrefix(field, append([]byte(name), 0)) {
				t.Fatalf("%q became %q", name, field)
			}
		}

		var m v4.Message
		r.Message[0] = v4.OpRequest // the decoder reads requests only
		if err := m.Decode(r.Message); err != nil {
			t.Fatal(err)
		}
		for _, code := range []uint8{v4.CodeMask, v4.CodeLeaseTime, v4.CodeServer} {
			if len(m.Option(code)) != 4 {
				t.Fatalf("option %d is %v", code, m.Option(code))
			}
		}
		if len(id) > 0 && !bytes.Equal(m.Option(v4.CodeClientID), id) {
			t.Fatalf("client identifier %x, want %x", m.Option(v4.CodeClientID), id)
		}
		missing := uint64(0)
		for _, p := range h.params.list {
			asked := len(requested) == 0 && p.Code != v4.CodeRoutesMS || slices.Contains(requested, p.Code) ||
				p.Code == v4.CodeRoutes && !slices.Contains(requested, v4.CodeRoutesMS)
			switch got := m.Option(p.Code); {
			case asked && got == nil && p.Code == v4.CodeRoutesMS && m.Option(v4.CodeRoutes) != nil: // says the same
			case asked && got == nil:
				missing++
			case v4.IsRoutes(p.Code) && bytes.Equal(got, h.params.routes.Lean): // says the same
			case got != nil && !bytes.Equal(got, p.Data):
				t.Fatalf("option %d is %x, want %x", p.Code, got, p.Data)
			case got != nil && !asked && p.Code != v4.CodeMask:
				t.Fatalf("option %d was not asked for", p.Code)
			}
		}
		if missing != h.stats.OptionsLeftOut {
			t.Fatalf("%d options are missing, %d were reported", missing, h.stats.OptionsLeftOut)
		}
	})
}

// TestRoutesTakeNothingAlong draws routes, sizes and parameter lists: what a guest needs most is there whatever the routes are, each
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
			if !slices.ContainsFunc(id.V4.Routes, func(o identity.Route) bool { return o.Destination == r.Destination }) {
				id.V4.Routes = append(id.V4.Routes, r)
			}
		}
		requested := rapid.SliceOfNDistinct(rapid.SampledFrom([]uint8{1, 3, 6, 12, 15, 26, 28, 42, 119, 121, 249}), 1, 11, rapid.ID).Draw(t, "parameters")
		size := rapid.OneOf(rapid.Just(v4.MinDatagram), rapid.IntRange(300, 1600)).Draw(t, "maximum size")
		o := Settings{UDP: rapid.Bool().Draw(t, "udp"), NTP: addrs("10.0.0.123")}
		discover := ask(dhcpv4.MessageTypeDiscover, withOption(v4.CodeMaxSize, byte(size>>8), byte(size)), withParameters(requested...))

		h := testHandler(testingTB{}, id, o)
		m := readReply(t, h, discover)
		for _, code := range []uint8{v4.CodeRouter, v4.CodeDNS, v4.CodeMTU, v4.CodeHostname} {
			if p, ok := h.params.find(code); ok && slices.Contains(requested, code) && !bytes.Equal(m.Option(code), p.Data) {
				t.Fatalf("option %d is %x, want %x", code, m.Option(code), p.Data)
			}
		}
		asked := slices.Contains(requested, v4.CodeRoutes)
		for _, code := range []uint8{v4.CodeRoutes, v4.CodeRoutesMS} {
			got := m.Option(code)
			switch wanted := slices.Contains(requested, code); {
			case got == nil && wanted && h.params.routes.Whole != nil && (code == v4.CodeRoutes || !asked):
				t.Fatalf("option %d is missing", code)
			case got == nil:
				continue
			case !bytes.Equal(got, h.params.routes.Whole) && !bytes.Equal(got, h.params.routes.Lean) && !bytes.Equal(got, h.params.routes.Bare):
				t.Fatalf("option %d has some of the routes", code)
			case h.stats.OptionsLeftOut == 0 && !sameRoutes(decodeRoutes(t, got), h.offer):
				t.Fatalf("option %d says something else than the routes %v", code, h.offer.Routes)
			}
			for _, part := range m.Options {
				if part.Code == code {
					decodeRoutes(t, part.Data)
				}
			}
		}
		if short := h.leftOut != ""; short != (h.stats.OptionsLeftOut > 0) {
			t.Fatalf("%d options are counted as left out, and the warning is %q", h.stats.OptionsLeftOut, h.leftOut)
		}
	})
}

// readReply is what the library of nobody but this package makes of an answer.
func readReply(t *rapid.T, h *handler, request []byte) *v4.Message {
	r := h.datagram(request, addr("0.0.0.0"))
	var m v4.Message
	if r.Message == nil {
		t.Fatalf("no reply, dropped: %v", h.stats.Dropped)
	}
	if err := m.Read(slices.Clone(r.Message)); err != nil {
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
	h := testHandler(t, ptpPod(), Settings{Extra: []Option{{224, long}}})
	r := h.datagram(ask(dhcpv4.MessageTypeDiscover, withOption(v4.CodeMaxSize, 0x05, 0xdc)), addr("0.0.0.0"))
	m, err := dhcpv4.FromBytes(r.Message)
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
	if m.YourIPAddr.String() != "10.244.1.5" || m.IPAddressLeaseTime(0).Seconds() != v4.InfiniteLease {
		t.Errorf("got %s", m.Summary())
	}
}
