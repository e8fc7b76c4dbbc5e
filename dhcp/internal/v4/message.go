package v4

import (
	"encoding/binary"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/network/identity"
)

// Offsets of the BOOTP header (RFC 2131 §2).
const (
	OffXID     = 4
	OffFlags   = 10
	OffCiaddr  = 12
	OffYiaddr  = 16
	OffSiaddr  = 20
	OffGiaddr  = 24
	OffChaddr  = 28
	OffSname   = 44
	OffFile    = 108
	OffCookie  = 236
	OffOptions = 240
)

// MagicCookie begins the options (RFC 2131 §3).
const MagicCookie uint32 = 99<<24 | 130<<16 | 83<<8 | 99

// Bits of option 52.
const (
	OverloadFile  = 1
	OverloadSname = 2
)

// Message is what the server reads of a request. Its slices point into the received bytes.
//
// It is decoded here and not by the library that gives the codes their names: that one refuses BOOTP requests without a
// cookie and messages without an end option, both of which boot firmware sends, and does not follow option 52.
type Message struct {
	Header  []byte // OffOptions bytes
	Kind    dhcpv4.MessageType
	Options []Option
}

// Option is one option as it stands in a message.
type Option struct {
	Code uint8
	Data []byte
}

// Decode reads a request into m, whose memory it uses again. Errors are drop.Reasons.
func (m *Message) Decode(b []byte) error {
	if len(b) >= OffOptions && b[0] != OpRequest {
		return drop.Unexpected
	}
	return m.Read(b)
}

// Read is Decode for requests and replies alike.
func (m *Message) Read(b []byte) error {
	m.Kind, m.Options = dhcpv4.MessageTypeNone, m.Options[:0]
	if len(b) < OffOptions {
		return drop.Truncated
	}
	m.Header = b[:OffOptions]
	switch binary.BigEndian.Uint32(b[OffCookie:]) {
	case MagicCookie:
	case 0: // a BOOTP client without vendor information (RFC 951)
		return nil
	default:
		return drop.Malformed
	}
	if err := m.decodeOptions(b[OffOptions:]); err != nil {
		return err
	}
	// The fields follow the options in this order (RFC 3396 §5). Option 52 inside them means nothing.
	if overload := m.Option(CodeOverload); len(overload) == 1 {
		if overload[0]&OverloadFile != 0 {
			if err := m.decodeOptions(b[OffFile:OffCookie]); err != nil {
				return err
			}
		}
		if overload[0]&OverloadSname != 0 {
			if err := m.decodeOptions(b[OffSname:OffFile]); err != nil {
				return err
			}
		}
	}
	switch kind := m.Option(CodeMessageType); {
	case kind == nil:
	case len(kind) == 1 && kind[0] != 0:
		m.Kind = dhcpv4.MessageType(kind[0])
	default:
		return drop.Malformed
	}
	return nil
}

// decodeOptions appends the options of one field. A missing end option is forgiven, an option that runs over the end of
// its field is not.
func (m *Message) decodeOptions(b []byte) error {
	for len(b) > 0 {
		switch code := b[0]; {
		case code == CodePad:
			b = b[1:]
		case code == CodeEnd:
			return nil
		case len(b) < 2 || len(b) < 2+int(b[1]):
			return drop.Malformed
		default:
			end := 2 + int(b[1])
			m.Options = append(m.Options, Option{code, b[2:end:end]})
			b = b[end:]
		}
	}
	return nil
}

// Option is the value of an option, its parts joined (RFC 3396 §7); nil when it is absent.
func (m *Message) Option(code uint8) []byte {
	var data []byte
	for _, o := range m.Options {
		switch {
		case o.Code != code:
		case data == nil:
			data = o.Data
		default:
			data = append(data[:len(data):len(data)], o.Data...)
		}
	}
	return data
}

// Address is the value of an option that holds one address; the zero Addr when it is absent.
func (m *Message) Address(code uint8) (netip.Addr, error) {
	data := m.Option(code)
	if data == nil {
		return netip.Addr{}, nil
	}
	addr, ok := netip.AddrFromSlice(data)
	if !ok || !addr.Is4() {
		return netip.Addr{}, drop.Malformed
	}
	return addr, nil
}

// MaxSize is the largest datagram, IP header included, that the client takes. What it says counts from 576, which every
// host must take (RFC 2132 §9.10).
func (m *Message) MaxSize() int {
	size := MinDatagram
	if data := m.Option(CodeMaxSize); len(data) == 2 {
		size = max(size, int(binary.BigEndian.Uint16(data)))
	}
	return size
}

// XID is the transaction identifier.
func (m *Message) XID() uint32 { return binary.BigEndian.Uint32(m.Header[OffXID:]) }

// Broadcast reports whether the client wants replies by broadcast.
func (m *Message) Broadcast() bool {
	return binary.BigEndian.Uint16(m.Header[OffFlags:])&FlagBroadcast != 0
}

// Ciaddr is the address that the client says it has, 0.0.0.0 for none.
func (m *Message) Ciaddr() netip.Addr { return netip.AddrFrom4([4]byte(m.Header[OffCiaddr:])) }

// Yiaddr is the address that the client is given.
func (m *Message) Yiaddr() netip.Addr { return netip.AddrFrom4([4]byte(m.Header[OffYiaddr:])) }

// Giaddr is the relay that the message came by, 0.0.0.0 for none.
func (m *Message) Giaddr() netip.Addr { return netip.AddrFrom4([4]byte(m.Header[OffGiaddr:])) }

// MAC is the client's, if it is one OverEthernet.
func (m *Message) MAC() identity.MAC { return identity.MAC(m.Header[OffChaddr:]) }

// OverEthernet reports whether the client's hardware address is a MAC.
func (m *Message) OverEthernet() bool { return m.Header[1] == HardwareEthernet && m.Header[2] == 6 }
