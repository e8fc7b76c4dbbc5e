package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
)

// message reads a DHCP message in an IPv4 packet, to a server or to a client. Where it is
// unreadable, the server's handler knows what is wrong with it.
func (d *decoder) message(f *Traced, packet []byte, sum link.ChecksumState) {
	f.Protocol, f.Message = ProtocolDHCP, unreadable
	payload, source, err := link.ParseDatagram(packet, sum, v4.ServerPort, v4.ClientPort)
	if err != nil {
		f.Why = explain(err)
		return
	}
	var m v4.Message
	if err := m.Read(payload); err != nil {
		f.Why = explain(err)
		return
	}
	f.Message = messageType(m.Kind)
	f.Transaction = fmt.Sprintf("%08x", m.XID())
	f.subject = f.Transaction
	f.addresses(&m, source)
	f.options(&m)
}

// addresses adds the header fields that are set.
func (f *Traced) addresses(m *v4.Message, source netip.Addr) {
	if f.FromGuest {
		if m.OverEthernet() && m.MAC() != f.Source {
			f.add("client", m.MAC().String())
		}
		f.addAddress("has", m.Ciaddr())
	} else {
		f.addAddress("gives", m.Yiaddr())
	}
	f.addAddress("relay", m.Giaddr())
	if f.FromGuest && !source.IsUnspecified() && source != m.Ciaddr() {
		f.addAddress("sent from", source)
	}
	if file := m.Header[v4.OffFile]; file != 0 && len(m.Option(v4.CodeOverload)) == 0 {
		text, _, _ := strings.Cut(string(m.Header[v4.OffFile:v4.OffCookie]), "\x00")
		f.add("file", printable(text))
	}
}

func (f *Traced) addAddress(name string, a netip.Addr) {
	if !a.IsUnspecified() {
		f.add(name, a.String())
	}
}

// value writes the bytes of an option; false where they are not what the option is made of.
type value func(b []byte) (string, bool)

// named is an option that has a name and a form here.
type named struct {
	code  uint8
	name  string
	value value
}

// namedOptions are those that guests and the server send, by the names that people have for them. They are told in this
// order, since a line has an end.
var namedOptions = []named{
	{v4.CodeMessage, "says", textValue},
	{v4.CodeRequested, "wants", addressesValue},
	{v4.CodeMask, "mask", addressesValue},
	{v4.CodeRouter, "router", addressesValue},
	{v4.CodeServer, "server", addressesValue},
	{v4.CodeLeaseTime, "lease", secondsValue},
	{v4.CodeRoutes, "routes", routesValue},
	{v4.CodeDNS, "dns", addressesValue},
	{v4.CodeHostname, "hostname", textValue},
	{v4.CodeMTU, "mtu", numberValue},
	{v4.CodeDomainName, "domain", textValue},
	{v4.CodeSearch, "search", namesValue},
	{v4.CodeRenewal, "renew", secondsValue},
	{v4.CodeRebinding, "rebind", secondsValue},
	{v4.CodeRapidCommit, "rapid commit", nil},
	{v4.CodeNTP, "ntp", addressesValue},
	{v4.CodeTFTPServer, "tftp server", textValue},
	{v4.CodeBootFile, "boot file", textValue},
	{v4.CodeBroadcast, "broadcast", addressesValue},
	{v4.CodeRoutesMS, "routes (249)", routesValue},
	{uint8(dhcpv4.OptionClassIdentifier), "vendor class", textValue},
	{uint8(dhcpv4.OptionUserClassInformation), "user class", textValue},
	{v4.CodeMaxSize, "max size", numberValue},
	{v4.CodeClientID, "client id", hexValue},
	{v4.CodeRelayAgent, "relay agent", hexValue},
}

// options adds the options, those that have a name here first and what the client asks for last.
func (f *Traced) options(m *v4.Message) {
	var told [256]bool
	for _, code := range []uint8{v4.CodeMessageType, v4.CodeParameters, v4.CodeOverload} {
		told[code] = true
	}
	for _, o := range namedOptions {
		told[o.code] = true
		if data := m.Option(o.code); data != nil {
			f.option(o.code, o.name, o.value, data)
		}
	}
	for _, o := range m.Options {
		if !told[o.Code] {
			told[o.Code] = true
			f.option(o.Code, optionName(o.Code), hexValue, m.Option(o.Code))
		}
	}
	if wanted := m.Option(v4.CodeParameters); wanted != nil {
		names := make([]string, len(wanted))
		for i, code := range wanted {
			names[i] = optionName(code)
		}
		f.Details = append(f.Details, Detail{Name: "asks for", Value: strings.Join(names, ", "), Option: uint16(v4.CodeParameters)})
	}
}

// maxValue bounds what is told of one option, in bytes: compressed names can be very much longer than the message.
const maxValue = 1024

func (f *Traced) option(code uint8, name string, write value, data []byte) {
	d := Detail{Name: name, Option: uint16(code)}
	if write != nil {
		text, ok := write(data)
		if !ok {
			text, _ = hexValue(data)
		}
		d.Value = text[:min(len(text), maxValue)]
	}
	f.Details = append(f.Details, d)
}

// optionName is the name of an option, as the library has it where it is not one of the above.
func optionName(code uint8) string {
	if i := slices.IndexFunc(namedOptions, func(o named) bool { return o.code == code }); i >= 0 {
		return namedOptions[i].name
	}
	var list dhcpv4.OptionCodeList
	_ = list.FromBytes([]byte{code}) // every byte is a code
	if name := list.String(); !strings.HasPrefix(name, "unknown") {
		return strings.ToLower(name)
	}
	return "option " + strconv.Itoa(int(code))
}

func addressesValue(b []byte) (string, bool) {
	if len(b) == 0 || len(b)%4 != 0 {
		return "", false
	}
	var texts []string
	for ; len(b) > 0; b = b[4:] {
		texts = append(texts, netip.AddrFrom4([4]byte(b)).String())
	}
	return strings.Join(texts, " "), true
}

func secondsValue(b []byte) (string, bool) {
	if len(b) != 4 {
		return "", false
	}
	if seconds := binary.BigEndian.Uint32(b); seconds != v4.InfiniteLease {
		return fmt.Sprintf("%d s", seconds), true
	}
	return "infinite", true
}

func numberValue(b []byte) (string, bool) {
	if len(b) != 2 {
		return "", false
	}
	return strconv.Itoa(int(binary.BigEndian.Uint16(b))), true
}

func textValue(b []byte) (string, bool) { return printable(string(b)), true }

func hexValue(b []byte) (string, bool) { return fmt.Sprintf("%x", b), true }

func namesValue(b []byte) (string, bool) {
	labels, err := rfc1035label.FromBytes(b)
	if err != nil {
		return "", false
	}
	return printable(strings.Join(labels.Labels, " ")), true
}

// routesValue reads what EncodeRoutes writes.
func routesValue(b []byte) (string, bool) {
	var routes dhcpv4.Routes
	if err := routes.FromBytes(b); err != nil {
		return "", false
	}
	texts := make([]string, len(routes))
	for i, r := range routes {
		texts[i] = r.Dest.String()
		if !r.Router.IsUnspecified() {
			texts[i] += " via " + r.Router.String()
		}
	}
	return strings.Join(texts, ", "), true
}

// printable quotes what a terminal should not be given: a guest chooses these texts.
func printable(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r) || r == '"' || r == unicode.ReplacementChar
	}) {
		return strconv.QuoteToASCII(text)
	}
	return text
}
