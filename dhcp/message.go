package dhcp

import (
	"encoding/binary"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/network/identity"
)

// Offsets of the BOOTP header (RFC 2131 §2).
const (
	offXID     = 4
	offFlags   = 10
	offCiaddr  = 12
	offYiaddr  = 16
	offSiaddr  = 20
	offGiaddr  = 24
	offChaddr  = 28
	offSname   = 44
	offFile    = 108
	offCookie  = 236
	offOptions = 240
)

// magicCookie begins the options (RFC 2131 §3).
const magicCookie uint32 = 99<<24 | 130<<16 | 83<<8 | 99

// Bits of option 52.
const (
	overloadFile  = 1
	overloadSname = 2
)

// message is what the server reads of a request. Its slices point into the received bytes.
//
// It is decoded here and not by the library that gives the codes their names: that one refuses BOOTP requests without a
// cookie and messages without an end option, both of which boot firmware sends, and does not follow option 52.
type message struct {
	header  []byte // offOptions bytes
	kind    dhcpv4.MessageType
	options []wireOption
}

// wireOption is one option as it stands in a message.
type wireOption struct {
	code uint8
	data []byte
}

// decode reads a request into m, whose memory it uses again. Errors are drops.
func (m *message) decode(b []byte) error {
	if len(b) >= offOptions && b[0] != opRequest {
		return dropUnexpected
	}
	return m.read(b)
}

// read is decode for requests and replies alike.
func (m *message) read(b []byte) error {
	m.kind, m.options = dhcpv4.MessageTypeNone, m.options[:0]
	if len(b) < offOptions {
		return dropTruncated
	}
	m.header = b[:offOptions]
	switch binary.BigEndian.Uint32(b[offCookie:]) {
	case magicCookie:
	case 0: // a BOOTP client without vendor information (RFC 951)
		return nil
	default:
		return dropMalformed
	}
	if err := m.decodeOptions(b[offOptions:]); err != nil {
		return err
	}
	// The fields follow the options in this order (RFC 3396 §5). Option 52 inside them means nothing.
	if overload := m.option(codeOverload); len(overload) == 1 {
		if overload[0]&overloadFile != 0 {
			if err := m.decodeOptions(b[offFile:offCookie]); err != nil {
				return err
			}
		}
		if overload[0]&overloadSname != 0 {
			if err := m.decodeOptions(b[offSname:offFile]); err != nil {
				return err
			}
		}
	}
	switch kind := m.option(codeMessageType); {
	case kind == nil:
	case len(kind) == 1 && kind[0] != 0:
		m.kind = dhcpv4.MessageType(kind[0])
	default:
		return dropMalformed
	}
	return nil
}

// decodeOptions appends the options of one field. A missing end option is forgiven, an option that runs over the end of
// its field is not.
func (m *message) decodeOptions(b []byte) error {
	for len(b) > 0 {
		switch code := b[0]; {
		case code == codePad:
			b = b[1:]
		case code == codeEnd:
			return nil
		case len(b) < 2 || len(b) < 2+int(b[1]):
			return dropMalformed
		default:
			end := 2 + int(b[1])
			m.options = append(m.options, wireOption{code, b[2:end:end]})
			b = b[end:]
		}
	}
	return nil
}

// option is the value of an option, its parts joined (RFC 3396 §7); nil when it is absent.
func (m *message) option(code uint8) []byte {
	var data []byte
	for _, o := range m.options {
		switch {
		case o.code != code:
		case data == nil:
			data = o.data
		default:
			data = append(data[:len(data):len(data)], o.data...)
		}
	}
	return data
}

// address is the value of an option that holds one address; the zero Addr when it is absent.
func (m *message) address(code uint8) (netip.Addr, error) {
	data := m.option(code)
	if data == nil {
		return netip.Addr{}, nil
	}
	addr, ok := netip.AddrFromSlice(data)
	if !ok || !addr.Is4() {
		return netip.Addr{}, dropMalformed
	}
	return addr, nil
}

// maxSize is the largest datagram, IP header included, that the client takes. What it says counts from 576, which every
// host must take (RFC 2132 §9.10).
func (m *message) maxSize() int {
	size := minDatagram
	if data := m.option(codeMaxSize); len(data) == 2 {
		size = max(size, int(binary.BigEndian.Uint16(data)))
	}
	return size
}

func (m *message) xid() uint32 { return binary.BigEndian.Uint32(m.header[offXID:]) }
func (m *message) broadcast() bool {
	return binary.BigEndian.Uint16(m.header[offFlags:])&flagBroadcast != 0
}
func (m *message) ciaddr() netip.Addr { return netip.AddrFrom4([4]byte(m.header[offCiaddr:])) }
func (m *message) yiaddr() netip.Addr { return netip.AddrFrom4([4]byte(m.header[offYiaddr:])) }
func (m *message) giaddr() netip.Addr { return netip.AddrFrom4([4]byte(m.header[offGiaddr:])) }
func (m *message) mac() identity.MAC  { return identity.MAC(m.header[offChaddr:]) }
func (m *message) overEthernet() bool { return m.header[1] == hardwareEthernet && m.header[2] == 6 }
