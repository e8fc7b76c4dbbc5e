package dhcp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// compose makes the reply to the request at hand, options and destination.
func (h *handler) compose(kind dhcpv4.MessageType, text string) (link.Response, error) {
	m := &h.request
	client := bootClientOf(m)
	params := h.parameters(client)
	h.header()
	l := v4.Layout{Room: h.room(m.MaxSize()), File: true, Sname: true, Routes: params.routes}
	o := append(h.options[:0],
		v4.Option{Code: v4.CodeMessageType, Data: []byte{byte(kind)}},
		v4.Option{Code: v4.CodeServer, Data: h.offer.ServerIdentifier.AsSlice()})
	switch {
	case kind == dhcpv4.MessageTypeNak:
		// RFC 2131 §4.3.1, table 3: nothing but these, and §4.1: by broadcast, since the client's address is in doubt.
		o = append(o, v4.Option{Code: v4.CodeMessage, Data: []byte(text)})
	case m.Kind == dhcpv4.MessageTypeInform:
		o = params.pick(o, m.Option(v4.CodeParameters), false)
		copy(h.reply[v4.OffCiaddr:v4.OffYiaddr], m.Header[v4.OffCiaddr:])
		l.File, l.Sname = h.boot(client)
	default:
		o = h.leaseTimes(o)
		if kind == dhcpv4.MessageTypeAck && m.Kind == dhcpv4.MessageTypeDiscover {
			o = append(o, v4.Option{Code: v4.CodeRapidCommit, Data: nil})
		}
		o = params.pick(o, m.Option(v4.CodeParameters), true)
		copy(h.reply[v4.OffYiaddr:v4.OffSiaddr], h.offer.Address.Addr().AsSlice())
		l.File, l.Sname = h.boot(client)
		if kind == dhcpv4.MessageTypeAck {
			copy(h.reply[v4.OffCiaddr:v4.OffYiaddr], m.Header[v4.OffCiaddr:])
		}
	}
	// RFC 6842: a client identifier is repeated in every reply. RFC 3046 §2.2: so is option 82, as the last one.
	for _, code := range []uint8{v4.CodeClientID, v4.CodeRelayAgent} {
		if data := m.Option(code); data != nil {
			o = append(o, v4.Option{Code: code, Data: data})
		}
	}
	h.options = o
	r, err := h.finish(o, l)
	if err == nil && kind != dhcpv4.MessageTypeNak && m.Kind != dhcpv4.MessageTypeInform {
		r = h.address(r)
	}
	return r, err
}

// composeBootp makes the reply to a BOOTP request, without an option that only DHCP knows (RFC 1534 §2; RFC 2132 §9 lists
// them: server and file of 66 and 67 are in the header) and without using more of the vendor field than the request had:
// clients exist that have no room for more.
func (h *handler) composeBootp(room int) (link.Response, error) {
	h.header()
	copy(h.reply[v4.OffCiaddr:v4.OffYiaddr], h.request.Header[v4.OffCiaddr:])
	copy(h.reply[v4.OffYiaddr:v4.OffSiaddr], h.offer.Address.Addr().AsSlice())
	client := bootClientOf(&h.request)
	params := h.parameters(client)
	h.boot(client)
	h.options = slices.DeleteFunc(params.pick(h.options[:0], nil, true), func(o v4.Option) bool {
		return o.Code >= v4.CodeRequested && o.Code <= v4.CodeClientID || o.Code == v4.CodeTFTPServer || o.Code == v4.CodeBootFile
	})
	r, err := h.finish(h.options, v4.Layout{Room: min(max(room, v4.MinBootpRoom), h.room(v4.MaxDatagram)), Routes: params.routes})
	return h.address(r), err
}

// room is the size of the options field of a reply that is at most so large a datagram, which is at least MinDatagram.
func (h *handler) room(datagram int) int {
	mtu := h.offer.MTU
	if mtu == 0 {
		mtu = v4.EthernetMTU
	}
	// What the guest is told may be smaller than what its link carries, which is not less than every client takes.
	return min(datagram, max(mtu, v4.MinDatagram)) - v4.HeadersLen - v4.OffOptions
}

// leaseTimes appends the lease time and, unless it is infinite, the times of renewal and rebinding at half and 7/8 of it
// (RFC 2131 §4.4.5). They are sent asked or not, like the lease time itself.
func (h *handler) leaseTimes(o []v4.Option) []v4.Option {
	seconds := h.offer.LeaseSeconds
	if seconds == 0 {
		return append(o, v4.Option{Code: v4.CodeLeaseTime, Data: binary.BigEndian.AppendUint32(nil, v4.InfiniteLease)})
	}
	times := make([]byte, 0, 12)
	times = binary.BigEndian.AppendUint32(times, seconds)
	times = binary.BigEndian.AppendUint32(times, seconds/2)
	times = binary.BigEndian.AppendUint32(times, uint32(uint64(seconds)*7/8))
	return append(o, v4.Option{Code: v4.CodeLeaseTime, Data: times[:4]}, v4.Option{Code: v4.CodeRenewal, Data: times[4:8]}, v4.Option{Code: v4.CodeRebinding, Data: times[8:]})
}

// header begins the reply with what every kind of it repeats from the request.
func (h *handler) header() {
	m := &h.request
	h.reply = append(h.reply[:0], m.Header...)
	clear(h.reply[v4.OffCiaddr:v4.OffGiaddr])
	clear(h.reply[v4.OffSname:v4.OffCookie])
	h.reply[0] = v4.OpReply
	h.reply[3] = 0                // hops
	clear(h.reply[8:v4.OffFlags]) // secs
	binary.BigEndian.PutUint32(h.reply[v4.OffCookie:], v4.MagicCookie)
}

// parameters are those of the offer for a client.
func (h *handler) parameters(c bootClient) *parameters {
	file := h.offer.bootFile(c)
	if !c.is && file == h.offer.BootFile {
		return &h.params
	}
	p := h.params
	if c.is && (c.ipxe || h.offer.BootAddress.Contains(h.offer.Gateway)) {
		p = h.bootParams
	}
	p.list = slices.Clone(p.list)
	if file != h.offer.BootFile {
		p.replace(v4.CodeBootFile, []byte(file))
	}
	if c.ipxe {
		p.replace(v4.CodeIPXE, noProxyDHCP)
	}
	if c.http && file != "" {
		p.replace(v4.CodeVendorClass, classHTTP)
		p.unasked = append(p.unasked, v4.CodeVendorClass)
	}
	return &p
}

// boot fills the header fields that boot firmware reads and reports which of them are free for options.
func (h *handler) boot(c bootClient) (file, sname bool) {
	name := h.offer.bootFile(c)
	if addr, err := netip.ParseAddr(h.offer.TFTPServer); err == nil && addr.Is4() {
		copy(h.reply[v4.OffSiaddr:v4.OffGiaddr], addr.AsSlice())
	}
	copy(h.reply[v4.OffSname:v4.OffFile], h.offer.TFTPServer)
	copy(h.reply[v4.OffFile:v4.OffCookie], name)
	return name == "", h.offer.TFTPServer == ""
}

// address says where an offer or an acknowledgement goes (RFC 2131 §4.1).
func (h *handler) address(r link.Response) link.Response {
	m := &h.request
	switch {
	case !m.Ciaddr().IsUnspecified():
		r.To, r.Configured = m.Ciaddr(), true
	case !m.Broadcast():
		r.To = h.offer.Address.Addr()
	}
	return r
}

// finish lays out the options and reports what had to be left out.
func (h *handler) finish(options []v4.Option, l v4.Layout) (link.Response, error) {
	out, short, err := v4.Lay(h.reply, options, l)
	h.leftOut = short.Text(l.Room + v4.OffOptions + v4.HeadersLen)
	if h.leftOut != "" {
		h.stats.OptionsLeftOut += uint64(len(short.LeftOut) + len(short.Cut))
		h.noteMessage(KindLeftOut, netip.Addr{}, h.leftOut)
	}
	if err != nil {
		return link.Response{}, err
	}
	if pad := v4.MinMessage - len(out); pad > 0 {
		out = slices.Grow(out, pad)[:v4.MinMessage]
		clear(out[v4.MinMessage-pad:])
	}
	h.reply = out
	return link.Response{Message: out}, nil
}
