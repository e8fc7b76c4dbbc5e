package dhcp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// compose makes the reply to the request at hand, options and destination.
func (h *handler) compose(kind dhcpv4.MessageType, text string) (response, error) {
	m := &h.request
	client := bootClientOf(m)
	params := h.parameters(client)
	h.header()
	l := layout{room: h.room(m.maxSize()), file: true, sname: true, routes: params.routes}
	o := append(h.options[:0],
		wireOption{codeMessageType, []byte{byte(kind)}},
		wireOption{codeServer, h.offer.ServerIdentifier.AsSlice()})
	switch {
	case kind == dhcpv4.MessageTypeNak:
		// RFC 2131 §4.3.1, table 3: nothing but these, and §4.1: by broadcast, since the client's address is in doubt.
		o = append(o, wireOption{codeMessage, []byte(text)})
	case m.kind == dhcpv4.MessageTypeInform:
		o = params.pick(o, m.option(codeParameters), false)
		copy(h.reply[offCiaddr:offYiaddr], m.header[offCiaddr:])
		l.file, l.sname = h.boot(client)
	default:
		o = h.leaseTimes(o)
		if kind == dhcpv4.MessageTypeAck && m.kind == dhcpv4.MessageTypeDiscover {
			o = append(o, wireOption{codeRapidCommit, nil})
		}
		o = params.pick(o, m.option(codeParameters), true)
		copy(h.reply[offYiaddr:offSiaddr], h.offer.Address.Addr().AsSlice())
		l.file, l.sname = h.boot(client)
		if kind == dhcpv4.MessageTypeAck {
			copy(h.reply[offCiaddr:offYiaddr], m.header[offCiaddr:])
		}
	}
	// RFC 6842: a client identifier is repeated in every reply. RFC 3046 §2.2: so is option 82, as the last one.
	for _, code := range []uint8{codeClientID, codeRelayAgent} {
		if data := m.option(code); data != nil {
			o = append(o, wireOption{code, data})
		}
	}
	h.options = o
	r, err := h.finish(o, l)
	if err == nil && kind != dhcpv4.MessageTypeNak && m.kind != dhcpv4.MessageTypeInform {
		r = h.address(r)
	}
	return r, err
}

// composeBootp makes the reply to a BOOTP request, without an option that only DHCP knows (RFC 1534 §2; RFC 2132 §9 lists
// them: server and file of 66 and 67 are in the header) and without using more of the vendor field than the request had:
// clients exist that have no room for more.
func (h *handler) composeBootp(room int) (response, error) {
	h.header()
	copy(h.reply[offCiaddr:offYiaddr], h.request.header[offCiaddr:])
	copy(h.reply[offYiaddr:offSiaddr], h.offer.Address.Addr().AsSlice())
	client := bootClientOf(&h.request)
	params := h.parameters(client)
	h.boot(client)
	h.options = slices.DeleteFunc(params.pick(h.options[:0], nil, true), func(o wireOption) bool {
		return o.code >= codeRequested && o.code <= codeClientID || o.code == codeTFTPServer || o.code == codeBootFile
	})
	r, err := h.finish(h.options, layout{room: min(max(room, minBootpRoom), h.room(maxDatagram)), routes: params.routes})
	return h.address(r), err
}

// room is the size of the options field of a reply that is at most so large a datagram, which is at least minDatagram.
func (h *handler) room(datagram int) int {
	mtu := h.offer.MTU
	if mtu == 0 {
		mtu = ethernetMTU
	}
	// What the guest is told may be smaller than what its link carries, which is not less than every client takes.
	return min(datagram, max(mtu, minDatagram)) - headersLen - offOptions
}

// leaseTimes appends the lease time and, unless it is infinite, the times of renewal and rebinding at half and 7/8 of it
// (RFC 2131 §4.4.5). They are sent asked or not, like the lease time itself.
func (h *handler) leaseTimes(o []wireOption) []wireOption {
	seconds := h.offer.LeaseSeconds
	if seconds == 0 {
		return append(o, wireOption{codeLeaseTime, binary.BigEndian.AppendUint32(nil, infiniteLease)})
	}
	times := make([]byte, 0, 12)
	times = binary.BigEndian.AppendUint32(times, seconds)
	times = binary.BigEndian.AppendUint32(times, seconds/2)
	times = binary.BigEndian.AppendUint32(times, uint32(uint64(seconds)*7/8))
	return append(o, wireOption{codeLeaseTime, times[:4]}, wireOption{codeRenewal, times[4:8]}, wireOption{codeRebinding, times[8:]})
}

// header begins the reply with what every kind of it repeats from the request.
func (h *handler) header() {
	m := &h.request
	h.reply = append(h.reply[:0], m.header...)
	clear(h.reply[offCiaddr:offGiaddr])
	clear(h.reply[offSname:offCookie])
	h.reply[0] = opReply
	h.reply[3] = 0             // hops
	clear(h.reply[8:offFlags]) // secs
	binary.BigEndian.PutUint32(h.reply[offCookie:], magicCookie)
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
		p.replace(codeBootFile, []byte(file))
	}
	if c.ipxe {
		p.replace(codeIPXE, noProxyDHCP)
	}
	if c.http && file != "" {
		p.replace(codeVendorClass, classHTTP)
		p.unasked = append(p.unasked, codeVendorClass)
	}
	return &p
}

// boot fills the header fields that boot firmware reads and reports which of them are free for options.
func (h *handler) boot(c bootClient) (file, sname bool) {
	name := h.offer.bootFile(c)
	if addr, err := netip.ParseAddr(h.offer.TFTPServer); err == nil && addr.Is4() {
		copy(h.reply[offSiaddr:offGiaddr], addr.AsSlice())
	}
	copy(h.reply[offSname:offFile], h.offer.TFTPServer)
	copy(h.reply[offFile:offCookie], name)
	return name == "", h.offer.TFTPServer == ""
}

// address says where an offer or an acknowledgement goes (RFC 2131 §4.1).
func (h *handler) address(r response) response {
	m := &h.request
	switch {
	case !m.ciaddr().IsUnspecified():
		r.to, r.configured = m.ciaddr(), true
	case !m.broadcast():
		r.to = h.offer.Address.Addr()
	}
	return r
}

// finish lays out the options and reports what had to be left out.
func (h *handler) finish(options []wireOption, l layout) (response, error) {
	out, short, err := lay(h.reply, options, l)
	h.leftOut = short.text(l.room + offOptions + headersLen)
	if h.leftOut != "" {
		h.stats.OptionsLeftOut += uint64(len(short.leftOut) + len(short.cut))
		h.noteMessage(KindLeftOut, netip.Addr{}, h.leftOut)
	}
	if err != nil {
		return response{}, err
	}
	if pad := minMessage - len(out); pad > 0 {
		out = slices.Grow(out, pad)[:minMessage]
		clear(out[minMessage-pad:])
	}
	h.reply = out
	return response{message: out}, nil
}
