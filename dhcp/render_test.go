package dhcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// render makes a frame text that a person can compare with an RFC: its addresses, the header fields that are not zero, and
// the options in the order of the wire. The values are decoded by a library that shares no code with the encoder.
func render(frame []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s > %s ", identity.MAC(frame[6:]), identity.MAC(frame))
	if binary.BigEndian.Uint16(frame[12:]) == link.TypeARP {
		a := frame[link.EtherLen:]
		ip := func(at int) netip.Addr { return netip.AddrFrom4([4]byte(a[at:])) }
		fmt.Fprintf(&b, "ARP op %d: sender %s %s, target %s %s\n", binary.BigEndian.Uint16(a[6:]),
			identity.MAC(a[link.ARPSenderMAC:]), ip(link.ARPSenderIP), identity.MAC(a[link.ARPTargetMAC:]), ip(link.ARPTargetIP))
		return b.String()
	}
	ip := frame[link.EtherLen:]
	fmt.Fprintf(&b, "%s:%d > %s:%d, %d bytes of IPv4\n",
		netip.AddrFrom4([4]byte(ip[12:])), binary.BigEndian.Uint16(ip[20:]),
		netip.AddrFrom4([4]byte(ip[16:])), binary.BigEndian.Uint16(ip[22:]), binary.BigEndian.Uint16(ip[2:]))
	renderMessage(&b, frame[link.EtherLen+link.IPLen+link.UDPLen:])
	return b.String()
}

func renderMessage(b *strings.Builder, m []byte) {
	fmt.Fprintf(b, "  op %d, xid %x, chaddr %s", m[0], m[v4.OffXID:v4.OffXID+4], identity.MAC(m[v4.OffChaddr:]))
	if binary.BigEndian.Uint16(m[v4.OffFlags:])&v4.FlagBroadcast != 0 {
		b.WriteString(", broadcast")
	}
	for _, f := range []struct {
		name string
		at   int
	}{{"ciaddr", v4.OffCiaddr}, {"yiaddr", v4.OffYiaddr}, {"siaddr", v4.OffSiaddr}, {"giaddr", v4.OffGiaddr}} {
		if a := netip.AddrFrom4([4]byte(m[f.at:])); !a.IsUnspecified() {
			fmt.Fprintf(b, ", %s %s", f.name, a)
		}
	}
	b.WriteByte('\n')
	overload := renderOptions(b, m[v4.OffOptions:])
	renderField(b, "file", m[v4.OffFile:v4.OffCookie], overload&v4.OverloadFile != 0)
	renderField(b, "sname", m[v4.OffSname:v4.OffFile], overload&v4.OverloadSname != 0)
}

func renderField(b *strings.Builder, name string, field []byte, options bool) {
	switch {
	case options:
		fmt.Fprintf(b, "  in %s:\n", name)
		renderOptions(b, field)
	case field[0] != 0:
		text, _, _ := strings.Cut(string(field), "\x00")
		fmt.Fprintf(b, "  %s %q\n", name, text)
	}
}

func renderOptions(b *strings.Builder, field []byte) (overload byte) {
	for len(field) > 0 && field[0] != v4.CodeEnd {
		if field[0] == v4.CodePad {
			field = field[1:]
			continue
		}
		code, data := field[0], field[2:2+int(field[1])]
		field = field[2+len(data):]
		if code == v4.CodeOverload {
			overload = data[0]
		}
		fmt.Fprintf(b, "  %3d %s\n", code, renderValue(code, data))
	}
	return overload
}

func renderValue(code uint8, data []byte) string {
	text := strings.Join(strings.Fields(dhcpv4.Options{code: data}.String()), " ")
	name, value, _ := strings.Cut(text, ": ")
	switch {
	case code == v4.CodeParameters:
		value = fmt.Sprint(data)
	case code == v4.CodeLeaseTime && binary.BigEndian.Uint32(data) == v4.InfiniteLease:
		value = "infinite"
	case code == v4.CodeLeaseTime, code == v4.CodeRenewal, code == v4.CodeRebinding:
		value = fmt.Sprint(binary.BigEndian.Uint32(data), " s")
	case code == v4.CodeMTU:
		value = fmt.Sprint(binary.BigEndian.Uint16(data))
	case strings.HasPrefix(name, "unknown"):
		name, value = "extra", fmt.Sprintf("%d bytes %.8x", len(data), data)
	}
	return name + ": " + value
}

func renderEvent(e Event) string {
	text := string(e.Kind)
	if e.Address.IsValid() {
		text += " " + e.Address.String()
	}
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	if e.Changed {
		text += " → " + e.Lease.State
		if e.Lease.Address.IsValid() {
			text += " " + e.Lease.Address.String()
		}
		if !e.Lease.Expires.IsZero() {
			text += " for " + e.Lease.Expires.Sub(testTime).String()
		}
	}
	return text
}
