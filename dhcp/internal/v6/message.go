package v6

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/network/identity"
)

// Type is that of a message (RFC 8415 §7.3).
type Type uint8

// The types that this server knows.
const (
	Solicit            Type = 1
	Advertise          Type = 2
	Request            Type = 3
	Confirm            Type = 4
	Renew              Type = 5
	Rebind             Type = 6
	Reply              Type = 7
	Release            Type = 8
	Decline            Type = 9
	InformationRequest Type = 11
	RelayForward       Type = 12
	RelayReply         Type = 13
)

// String is the name that RFC 8415 §7.3 has.
func (t Type) String() string {
	switch t {
	case InformationRequest:
		return "INFORMATION-REQUEST"
	case RelayForward:
		return "RELAY-FORW"
	case RelayReply:
		return "RELAY-REPL"
	case 0:
		return "TYPE 0"
	}
	if name := dhcpv6.MessageType(t).String(); !strings.HasPrefix(strings.ToLower(name), "unknown") {
		return strings.ToUpper(name)
	}
	return fmt.Sprintf("TYPE %d", uint8(t))
}

// Options that this server knows, of RFC 8415 §21 unless it says otherwise.
const (
	CodeClientID     uint16 = 1
	CodeServerID     uint16 = 2
	CodeIANA         uint16 = 3
	CodeIATA         uint16 = 4
	CodeWanted       uint16 = 6 // option request
	CodeStatus       uint16 = 13
	CodeRapidCommit  uint16 = 14
	CodeUserClass    uint16 = 15
	CodeDNS          uint16 = 23 // RFC 3646
	CodeSearch       uint16 = 24 // RFC 3646
	CodeIAPD         uint16 = 25
	CodeSNTP         uint16 = 31 // RFC 4075
	CodeFQDN         uint16 = 39 // RFC 4704
	CodeNTP          uint16 = 56 // RFC 5908
	CodeBootFile     uint16 = 59 // RFC 5970
	CodeArchitecture uint16 = 61 // RFC 5970
)

// IA is an identity association: something that a client wants addresses or prefixes for.
type IA struct {
	Code      uint16 // CodeIANA, CodeIATA or CodeIAPD
	ID        [4]byte
	Addresses []netip.Addr // that the client has, or wants
}

// Flags of the name option (RFC 4704 §4.1).
const (
	FQDNServer   = 1 // the server updates the DNS
	FQDNOverride = 2 // and it does other than the client wanted
	FQDNNone     = 4 // it updates nothing
)

// FQDN is what the client says of its name.
type FQDN struct {
	Flags uint8
	Name  string // as it stands
}

// Message is what a client asks.
type Message struct {
	Type        Type
	Transaction uint32 // 24 bits
	// Client and Server are DUIDs as they stand; nil without the option.
	Client, Server []byte
	IAs            []IA
	Wanted         []uint16 // the codes that it asks for; nil without a list
	RapidCommit    bool
	FQDN           *FQDN
	Architectures  []uint16
	UserClasses    [][]byte
}

// MalformedError is a message that cannot be read because of one option. It is drop.Malformed.
type MalformedError struct {
	Option uint16 // 0 where it is not an option that is wrong
}

// Error is the reason as it is counted.
func (e *MalformedError) Error() string { return drop.Malformed.Error() }

// Unwrap is drop.Malformed.
func (e *MalformedError) Unwrap() error { return drop.Malformed }

// String names the option.
func (e *MalformedError) String() string {
	if e.Option == 0 {
		return "the message"
	}
	return fmt.Sprintf("the option %s", OptionName(e.Option))
}

// headerLen is that of the type and the transaction (RFC 8415 §8).
const headerLen = 4

// Decode reads a message of a client. Errors are drop.Truncated, drop.Relayed, and a MalformedError.
func Decode(b []byte) (*Message, error) {
	if len(b) < headerLen {
		return nil, drop.Truncated
	}
	m := &Message{Type: Type(b[0]), Transaction: binary.BigEndian.Uint32(b) & 0xffffff}
	if m.Type == RelayForward || m.Type == RelayReply {
		return m, drop.Relayed
	}
	parsed, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		return m, &MalformedError{culprit(b[headerLen:])}
	}
	for _, o := range parsed.Options.Options {
		m.read(o)
	}
	return m, nil
}

// culprit is the code of the first option that cannot be read; 0 where the options do not end with the message.
func culprit(b []byte) uint16 {
	for len(b) >= 4 {
		code, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if length > len(b)-4 {
			return code
		}
		if _, err := dhcpv6.ParseOption(dhcpv6.OptionCode(code), b[4:4+length]); err != nil {
			return code
		}
		b = b[4+length:]
	}
	return 0
}

func (m *Message) read(o dhcpv6.Option) {
	switch code := uint16(o.Code()); code {
	case CodeClientID:
		m.Client = first(m.Client, o.ToBytes())
	case CodeServerID:
		m.Server = first(m.Server, o.ToBytes())
	case CodeIANA, CodeIATA, CodeIAPD:
		m.IAs = append(m.IAs, readIA(o))
	case CodeWanted:
		for data := o.ToBytes(); len(data) >= 2; data = data[2:] {
			m.Wanted = append(m.Wanted, binary.BigEndian.Uint16(data))
		}
	case CodeRapidCommit:
		m.RapidCommit = true
	case CodeFQDN:
		f := o.(*dhcpv6.OptFQDN)
		m.FQDN = &FQDN{Flags: f.Flags, Name: strings.Join(f.DomainName.Labels, " ")}
	case CodeArchitecture:
		for data := o.ToBytes(); len(data) >= 2; data = data[2:] {
			m.Architectures = append(m.Architectures, binary.BigEndian.Uint16(data))
		}
	case CodeUserClass:
		m.UserClasses = append(m.UserClasses, o.(*dhcpv6.OptUserClass).UserClasses...)
	}
}

// first keeps what was there: an option that may be there once counts once. One that is there is not nil.
func first(have, data []byte) []byte {
	if have != nil {
		return have
	}
	return append([]byte{}, data...)
}

func readIA(o dhcpv6.Option) IA {
	ia := IA{Code: uint16(o.Code())}
	var inner dhcpv6.IdentityOptions
	switch o := o.(type) {
	case *dhcpv6.OptIANA:
		ia.ID, inner = o.IaId, o.Options
	case *dhcpv6.OptIATA:
		ia.ID, inner = o.IaId, o.Options
	case *dhcpv6.OptIAPD:
		ia.ID = o.IaId
	}
	for _, a := range inner.Addresses() {
		if addr, ok := netip.AddrFromSlice(a.IPv6Addr); ok {
			ia.Addresses = append(ia.Addresses, addr)
		}
	}
	return ia
}

// LinkDUID is the identifier of a server by its MAC (RFC 8415 §11.4, DUID-LL).
func LinkDUID(mac identity.MAC) []byte {
	return (&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac.HardwareAddr()}).ToBytes()
}

// For reports whether a message names a server, and this one.
func (m *Message) For(server []byte) bool { return bytes.Equal(m.Server, server) }

// OptionName is the name of an option, as the library has it, and its code.
func OptionName(code uint16) string {
	name := dhcpv6.OptionCode(code).String()
	if strings.HasPrefix(strings.ToLower(name), "unknown") {
		return fmt.Sprint(code)
	}
	return fmt.Sprintf("%d (%s)", code, strings.ToLower(name))
}
