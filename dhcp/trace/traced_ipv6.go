package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
	"github.com/podnic/podnic/dhcp/internal/nd"
	v6 "github.com/podnic/podnic/dhcp/internal/v6"
	"github.com/podnic/podnic/network/identity"
)

// messageRA is the only message of a router that a guest hears of podnic.
const messageRA = "RA"

// decodeIPv6 reads Neighbor Discovery and DHCPv6.
func decodeIPv6(f *Traced, b []byte, sum link.ChecksumState) {
	f.Protocol, f.Message = ProtocolND, unreadable
	if len(b) < link.IPv6Len+4 || b[0]>>4 != 6 {
		return
	}
	source, destination := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	length := int(binary.BigEndian.Uint16(b[4:]))
	payload := b[link.IPv6Len:]
	if length < len(payload) {
		payload = payload[:length]
	}
	switch b[6] {
	case link.ProtoUDP:
		decodeDHCPv6(f, payload)
	case link.ProtoICMPv6:
		decodeND(f, payload, source, destination)
		if b[7] != link.NDHopLimit {
			f.add("ignored", fmt.Sprintf("its hop limit is %d", b[7]))
		}
	}
	if _, err := link.ParseIPv6(b, sum); err == drop.Checksum {
		f.add("ignored", "its checksum is wrong")
	}
}

// ask6 has the handler of the server of IPv6 say what it does with a frame of the guest.
func (d *decoder) ask6(f *Traced, frame []byte, sum link.ChecksumState) {
	if d.judge6 == nil {
		if f.Protocol == ProtocolDHCPv6 {
			f.Why = "IPv6 is not served on this interface, and is left to the pod network"
		}
		return
	}
	if f.Message != "RS" && f.Message != "NS" && f.Protocol != ProtocolDHCPv6 {
		return
	}
	defer func() {
		if cause := recover(); cause != nil {
			f.Answer, f.Why = "", fmt.Sprintf("the server fails on it: %v", cause)
		}
	}()
	switch v := d.judge6.Frame(frame, sum); {
	case v.Dropped != nil && v.Part != "":
		f.Why = fmt.Sprintf("%s, in %s", explain(v.Dropped), v.Part)
	case errors.Is(v.Dropped, drop.OtherServer):
		f.Why = "it is for another server"
	case errors.Is(v.Dropped, drop.Relayed):
		f.Why = "it comes by a relay, but nothing relays here"
	case errors.Is(v.Dropped, drop.Foreign):
		f.Why = fmt.Sprintf("the sender is %s, but the guest is %s", f.Source, d.client)
	case v.Dropped != nil:
		f.Why = explain(v.Dropped)
	case len(v.Replies) > 0:
		reply := Traced{}
		decodeIPv6(&reply, v.Replies[0].Message[link.EtherLen:], link.ChecksumFinished)
		f.Answer = reply.Message
	case v.Own:
		f.Why = "left alone: it is the guest's own address"
	default:
		f.Why = "left to the pod network"
	}
}

// advertises reports whether it is an advertisement of a router in whose name the server advertises.
func (d *decoder) advertises(f *Traced) bool {
	return d.offer6 != nil && f.Message == messageRA &&
		slices.ContainsFunc(d.offer6.Routers, func(r identity.Router) bool { return r.Address == f.router })
}

// ndForms are where the options of each message begin.
var ndForms = map[byte]struct {
	name    string
	options int
}{
	link.NDRouterSolicitation:    {"RS", 8},
	link.NDRouterAdvertisement:   {messageRA, 16},
	link.NDNeighborSolicitation:  {"NS", 24},
	link.NDNeighborAdvertisement: {"NA", 24},
	link.NDRedirect:              {"REDIRECT", 40},
}

func decodeND(f *Traced, b []byte, source, destination netip.Addr) {
	if len(b) < 4 {
		return
	}
	form, ok := ndForms[b[0]]
	if !ok || len(b) < form.options {
		return
	}
	f.Message = form.name
	switch b[0] {
	case link.NDRouterSolicitation:
		f.subject = messageRA
		f.add("from", source.String())
	case link.NDRouterAdvertisement:
		routerAdvertisement(f, b, source)
	case link.NDNeighborSolicitation:
		target := netip.AddrFrom16([16]byte(b[8:]))
		f.subject = target.String()
		if source.IsUnspecified() {
			f.add("does anybody have", target.String()) // duplicate address detection (RFC 4862 §5.4)
		} else {
			f.add("who has", target.String())
			f.add("tell", source.String())
		}
	case link.NDNeighborAdvertisement:
		neighborAdvertisement(f, b, destination)
	case link.NDRedirect:
		f.add("to", netip.AddrFrom16([16]byte(b[24:])).String())
		f.add("by", netip.AddrFrom16([16]byte(b[8:])).String())
	}
	ndOptions(f, b[form.options:])
}

func routerAdvertisement(f *Traced, b []byte, source netip.Addr) {
	f.router, f.subject = source, messageRA
	f.add("router", source.String())
	f.add("lifetime", fmt.Sprintf("%d s", binary.BigEndian.Uint16(b[6:])))
	for _, flag := range []struct {
		bit  byte
		name string
	}{{0x80, "managed"}, {0x40, "other"}} {
		if b[5]&flag.bit != 0 {
			f.add(flag.name, "")
		}
	}
}

func neighborAdvertisement(f *Traced, b []byte, destination netip.Addr) {
	f.subject = netip.AddrFrom16([16]byte(b[8:])).String()
	f.add("of", f.subject)
	if b[4]&0x80 != 0 {
		f.add("router", "")
	}
	if b[4]&0x40 != 0 {
		f.add("to", destination.String())
	}
}

// ndOptions adds the options that say where something is and what is on the link.
func ndOptions(f *Traced, b []byte) {
	all, err := nd.Options(b)
	for _, o := range all {
		value := printable6(o.Value)
		if o.Ended {
			value += " (no more)"
		}
		f.add(o.Name, value)
	}
	if err != nil {
		f.add("options", "malformed")
	}
}

func decodeDHCPv6(f *Traced, b []byte) {
	f.Protocol = ProtocolDHCPv6
	if len(b) < link.UDPLen+4 {
		return
	}
	m := b[link.UDPLen:]
	f.Message = v6.Type(m[0]).String()
	f.Transaction = fmt.Sprintf("%x", m[1:4])
	f.subject = f.Transaction
	details, ok := v6.Details(m)
	if !ok {
		f.add("options", "malformed")
	}
	for _, d := range details {
		f.Details = append(f.Details, Detail{Name: d.Name, Value: printable6(d.Value), Option: d.Option})
	}
}

// printable6 is printable for values that may be empty, or long.
func printable6(text string) string {
	if text == "" {
		return ""
	}
	return printable(text[:min(len(text), maxValue)])
}
