package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// parameters are the options of an offer that do not depend on the message, in the order in which a client without a
// parameter list gets them.
type parameters struct {
	list []v4.Option
	// routes are those of the list, unless the operator has set the option.
	routes v4.RouteForms
	// routesNeeded: without option 121 the client could not reach its gateway, or this server, so it is sent unasked.
	routesNeeded bool
	// unasked are sent whatever the client asks for, where the list has them.
	unasked []uint8
	// operators are the codes that the operator has set.
	operators []uint8
}

func newParameters(o Offer) parameters {
	var p parameters
	mask := net.CIDRMask(o.Address.Bits(), 32)
	p.add(v4.CodeMask, mask)
	if o.Gateway.IsValid() {
		p.add(v4.CodeRouter, o.Gateway.AsSlice())
	}
	p.add(v4.CodeDNS, addresses(o.DNS))
	p.add(v4.CodeHostname, []byte(o.Hostname))
	p.add(v4.CodeDomainName, []byte(o.DomainName))
	if o.MTU > 0 {
		p.add(v4.CodeMTU, binary.BigEndian.AppendUint16(nil, uint16(o.MTU)))
	}
	if o.Address.Bits() < 31 { // a /31 and a /32 have no broadcast address (RFC 3021)
		p.add(v4.CodeBroadcast, broadcastOf(o.Address, mask))
	}
	p.add(v4.CodeNTP, addresses(o.NTP))
	p.add(v4.CodeTFTPServer, []byte(o.TFTPServer))
	p.add(v4.CodeBootFile, []byte(o.BootFile))
	p.add(v4.CodeSearch, v4.EncodeNames(o.Search))
	p.routes = newRouteForms(o)
	p.add(v4.CodeRoutes, p.routes.Whole)
	p.add(v4.CodeRoutesMS, p.routes.Whole)
	for _, extra := range o.Options {
		p.list = slices.DeleteFunc(p.list, func(w v4.Option) bool { return w.Code == extra.Code })
		p.add(extra.Code, extra.Data)
		p.operators = append(p.operators, extra.Code)
	}
	// RFC 3442 has a client ask for option 121, and most do. One that does not, but knows it, is better off with it than
	// with a gateway outside its subnet.
	onLink := func(addr netip.Addr) bool { return o.Address.Contains(addr) }
	p.routesNeeded = o.Gateway.IsValid() && !onLink(o.Gateway) || !o.Gateway.IsValid() && !onLink(o.ServerIdentifier)
	return p
}

// add skips empty values: an option of zero bytes is not the same as none, and clients trip over it.
func (p *parameters) add(code uint8, data []byte) {
	if len(data) > 0 {
		p.list = append(p.list, v4.Option{Code: code, Data: data})
	}
}

// replace puts another value into the place of an option, or adds it; an empty one takes it away. What the operator has set
// stays.
func (p *parameters) replace(code uint8, data []byte) {
	if slices.Contains(p.operators, code) {
		return
	}
	p.list = slices.DeleteFunc(p.list, func(w v4.Option) bool { return w.Code == code })
	p.add(code, data)
}

func (p *parameters) find(code uint8) (v4.Option, bool) {
	i := slices.IndexFunc(p.list, func(w v4.Option) bool { return w.Code == code })
	if i < 0 {
		return v4.Option{}, false
	}
	return p.list[i], true
}

// pick appends the options that a client gets, in the order of its parameter list (RFC 2131 §4.3.1). Without a list it
// gets all but 249, which only means something to a client that asks for it. The mask is sent asked or not if it must be,
// and always before the router option (RFC 2132 §3.3).
func (p *parameters) pick(to []v4.Option, wanted []byte, withMask bool) []v4.Option {
	if wanted == nil {
		for _, o := range p.list {
			if o.Code != v4.CodeRoutesMS {
				to = append(to, o)
			}
		}
		return to
	}
	add := func(code uint8) {
		o, ok := p.find(code)
		if ok && !slices.ContainsFunc(to, func(w v4.Option) bool { return w.Code == code }) {
			to = append(to, o)
		}
	}
	if withMask && !slices.Contains(wanted, v4.CodeMask) {
		add(v4.CodeMask)
	}
	for _, code := range wanted {
		if code == v4.CodeRouter && slices.Contains(wanted, v4.CodeMask) {
			add(v4.CodeMask)
		}
		add(code)
	}
	for _, code := range p.unasked {
		add(code)
	}
	if p.routesNeeded && !slices.Contains(wanted, v4.CodeRoutesMS) { // a client that asks for 249 may not know 121
		add(v4.CodeRoutes)
	}
	return to
}

func addresses(addrs []netip.Addr) []byte {
	var data []byte
	for _, addr := range addrs {
		data = append(data, addr.AsSlice()...)
	}
	return data
}

func broadcastOf(p netip.Prefix, mask net.IPMask) []byte {
	addr := p.Addr().As4()
	for i := range addr {
		addr[i] |= ^mask[i]
	}
	return addr[:]
}
