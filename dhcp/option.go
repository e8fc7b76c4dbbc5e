package dhcp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// maxExtra bounds the value of one extra option, in bytes: more would never fit in a message.
const maxExtra = 1024

// Option is a DHCP option as it goes on the wire: a code (1–254) and its bytes.
type Option struct {
	Code uint8
	Data []byte
}

// reservedFor says why an option cannot be set by hand: the code belongs to the protocol and is computed for each message.
// Empty means that it can.
func reservedFor(code uint8) string {
	switch code {
	case v4.CodePad:
		return "it is padding"
	case v4.CodeEnd:
		return "it ends the options"
	case v4.CodeMask:
		return "use --subnet-mask"
	case v4.CodeLeaseTime, v4.CodeRenewal, v4.CodeRebinding:
		return "use --lease-time"
	case v4.CodeServer:
		return "it must be an address that this server answers for"
	case v4.CodeOverload, v4.CodeMessageType, v4.CodeMessage, v4.CodeRapidCommit:
		return "it depends on the message"
	case v4.CodeRequested, v4.CodeParameters, v4.CodeMaxSize:
		return "only a client sends it"
	case v4.CodeClientID, v4.CodeRelayAgent:
		return "it repeats what the client sent"
	}
	return ""
}

// ParseOption reads CODE=TYPE:VALUE. The types are
//
//	ip       one or more IPv4 addresses, separated by commas
//	string   text as it stands
//	hex      bytes in hexadecimal, optionally separated by colons
//	uint8, uint16, uint32   an unsigned number, in network order
//	bool     true or false
//	domains  one or more domain names, separated by commas, compressed (RFC 3397)
//
// An option that is also made from the pod's identity is replaced by it.
func ParseOption(s string) (Option, error) {
	code, typed, ok := strings.Cut(s, "=")
	if !ok {
		return Option{}, fmt.Errorf("option %q: want CODE=TYPE:VALUE", s)
	}
	n, err := strconv.ParseUint(code, 10, 8)
	if err != nil {
		return Option{}, fmt.Errorf("option %q: the code %q is not a number from 1 to 254", s, code)
	}
	o := Option{Code: uint8(n)}
	if why := reservedFor(o.Code); why != "" {
		return Option{}, fmt.Errorf("option %d cannot be set: %s", o.Code, why)
	}
	kind, value, ok := strings.Cut(typed, ":")
	if !ok {
		return Option{}, fmt.Errorf("option %q: want CODE=TYPE:VALUE", s)
	}
	encode, ok := encoders()[kind]
	if !ok {
		return Option{}, fmt.Errorf("option %d: unknown type %q, want ip, string, hex, uint8, uint16, uint32, bool or domains", o.Code, kind)
	}
	if value == "" {
		return Option{}, fmt.Errorf("option %d: the value is empty", o.Code)
	}
	if o.Data, err = encode(value); err != nil {
		return Option{}, fmt.Errorf("option %d: %w", o.Code, err)
	}
	if len(o.Data) > maxExtra {
		return Option{}, fmt.Errorf("option %d: the value has %d bytes, at most %d can be sent", o.Code, len(o.Data), maxExtra)
	}
	return o, nil
}

func encoders() map[string]func(string) ([]byte, error) {
	return map[string]func(string) ([]byte, error){
		"ip":      encodeIPs,
		"string":  func(s string) ([]byte, error) { return []byte(s), nil },
		"hex":     encodeHex,
		"uint8":   encodeUint(1),
		"uint16":  encodeUint(2),
		"uint32":  encodeUint(4),
		"bool":    encodeBool,
		"domains": encodeDomains,
	}
}

func encodeIPs(s string) ([]byte, error) {
	var data []byte
	for field := range strings.SplitSeq(s, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(field))
		if err != nil || !addr.Is4() {
			return nil, fmt.Errorf("%q is not an IPv4 address", field)
		}
		data = append(data, addr.AsSlice()...)
	}
	return data, nil
}

func encodeHex(s string) ([]byte, error) {
	data, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil {
		return nil, fmt.Errorf("%q is not hexadecimal: want two digits for each byte, such as 0a:ff", s)
	}
	if len(data) == 0 {
		return nil, errors.New("the value is empty")
	}
	return data, nil
}

func encodeUint(size int) func(string) ([]byte, error) {
	return func(s string) ([]byte, error) {
		n, err := strconv.ParseUint(s, 0, 8*size)
		if err != nil {
			return nil, fmt.Errorf("%q is not an unsigned number of %d bits", s, 8*size)
		}
		return binary.BigEndian.AppendUint64(nil, n)[8-size:], nil
	}
}

func encodeBool(s string) ([]byte, error) {
	switch s {
	case "true":
		return []byte{1}, nil
	case "false":
		return []byte{0}, nil
	}
	return nil, fmt.Errorf("%q is neither true nor false", s)
}

func encodeDomains(s string) ([]byte, error) {
	var names []string
	for field := range strings.SplitSeq(s, ",") {
		name, err := v4.CleanName(strings.TrimSpace(field))
		if err != nil {
			return nil, fmt.Errorf("domain %q: %w", field, err)
		}
		names = append(names, name)
	}
	return v4.EncodeNames(names), nil
}

// String is a form that ParseOption reads.
func (o Option) String() string { return fmt.Sprintf("%d=hex:%x", o.Code, o.Data) }

// MarshalText makes the option text in JSON and YAML.
func (o Option) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what ParseOption reads.
func (o *Option) UnmarshalText(text []byte) error {
	parsed, err := ParseOption(string(text))
	if err != nil {
		return err
	}
	*o = parsed
	return nil
}
