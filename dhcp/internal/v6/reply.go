package v6

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/podnic/podnic/dhcp/internal/drop"
)

// Status says what came of a request (RFC 8415 §21.13).
type Status uint16

// The codes that this server uses.
const (
	Success       Status = 0
	NoAddrsAvail  Status = 2
	NotOnLink     Status = 4
	NoPrefixAvail Status = 6
)

// Infinite is a lifetime without an end, in seconds (RFC 8415 §7.7).
const Infinite = 0xffffffff

// Address is one that a client gets, with its lifetimes in seconds.
type Address struct {
	Addr             netip.Addr
	Preferred, Valid uint32
}

// Binding is what a client gets for an identity association.
type Binding struct {
	Code      uint16 // of the association
	ID        [4]byte
	T1, T2    uint32 // seconds
	Addresses []Address
	// Status is of the association; nil is none, and so success.
	Status *StatusText
}

// StatusText is a status and its words.
type StatusText struct {
	Status Status
	Text   string
}

// Answer is a message of the server.
type Answer struct {
	Type           Type
	Transaction    uint32
	Client, Server []byte
	Bindings       []Binding
	Status         *StatusText // of the message
	RapidCommit    bool
	// What follows is left out where it does not fit, the last first.
	DNS      []netip.Addr
	Search   []string
	FQDN     *FQDN
	NTP      []netip.Addr
	SNTP     []netip.Addr
	BootFile string
}

// Encode lays the answer out in at most so many bytes. leftOut names what did not fit:
// no list is cut, since half of it would find other names than all of it. The error is drop.NoRoom where what
// the protocol wants does not.
func (a *Answer) Encode(size int) (b []byte, leftOut []string, err error) {
	m := &dhcpv6.Message{MessageType: dhcpv6.MessageType(a.Type)}
	var transaction [4]byte
	binary.BigEndian.PutUint32(transaction[:], a.Transaction)
	copy(m.TransactionID[:], transaction[1:])
	for _, o := range a.needed() {
		m.AddOption(o)
	}
	used := headerLen + len(m.Options.ToBytes())
	if used > size {
		return nil, nil, drop.NoRoom
	}
	for _, o := range a.further() {
		length := 4 + len(o.ToBytes())
		if used+length > size {
			leftOut = append(leftOut, OptionName(uint16(o.Code())))
			continue
		}
		used += length
		m.AddOption(o)
	}
	return m.ToBytes(), leftOut, nil
}

// needed are the options that the protocol wants. The sizes of their parts are bounded, so none is longer than its field
// can say when all fit into a message.
func (a *Answer) needed() []dhcpv6.Option {
	var all []dhcpv6.Option
	for _, id := range []struct {
		code dhcpv6.OptionCode
		data []byte
	}{{dhcpv6.OptionClientID, a.Client}, {dhcpv6.OptionServerID, a.Server}} {
		if id.data != nil {
			all = append(all, &dhcpv6.OptionGeneric{OptionCode: id.code, OptionData: id.data})
		}
	}
	if a.RapidCommit {
		all = append(all, &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
	}
	if a.Status != nil {
		all = append(all, a.Status.option())
	}
	for _, b := range a.Bindings {
		all = append(all, b.option())
	}
	return all
}

func (s *StatusText) option() dhcpv6.Option {
	return &dhcpv6.OptStatusCode{StatusCode: iana.StatusCode(s.Status), StatusMessage: s.Text}
}

func (b *Binding) option() dhcpv6.Option {
	var inner dhcpv6.Options
	for _, a := range b.Addresses {
		inner.Add(&dhcpv6.OptIAAddress{
			IPv6Addr: net.IP(a.Addr.AsSlice()), PreferredLifetime: seconds(a.Preferred), ValidLifetime: seconds(a.Valid),
		})
	}
	if b.Status != nil {
		inner.Add(b.Status.option())
	}
	switch b.Code {
	case CodeIATA:
		return &dhcpv6.OptIATA{IaId: b.ID, Options: dhcpv6.IdentityOptions{Options: inner}}
	case CodeIAPD:
		return &dhcpv6.OptIAPD{IaId: b.ID, T1: seconds(b.T1), T2: seconds(b.T2), Options: dhcpv6.PDOptions{Options: inner}}
	}
	return &dhcpv6.OptIANA{IaId: b.ID, T1: seconds(b.T1), T2: seconds(b.T2), Options: dhcpv6.IdentityOptions{Options: inner}}
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

// further are the options that a client can do without, none of them empty.
func (a *Answer) further() []dhcpv6.Option {
	var all []dhcpv6.Option
	if dns := addresses(a.DNS); len(dns) > 0 {
		all = append(all, dhcpv6.OptDNS(dns...))
	}
	if len(a.Search) > 0 {
		all = append(all, dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: a.Search}))
	}
	if a.FQDN != nil && a.FQDN.Name != "" {
		all = append(all, &dhcpv6.OptFQDN{Flags: a.FQDN.Flags, DomainName: &rfc1035label.Labels{Labels: []string{a.FQDN.Name}}})
	}
	if a.BootFile != "" {
		all = append(all, dhcpv6.OptBootFileURL(a.BootFile))
	}
	if ntp := addresses(a.NTP); len(ntp) > 0 {
		var servers dhcpv6.Options
		for _, ip := range ntp {
			server := dhcpv6.NTPSuboptionSrvAddr(ip)
			servers.Add(&server)
		}
		all = append(all, &dhcpv6.OptNTPServer{Suboptions: servers})
	}
	if sntp := addresses(a.SNTP); len(sntp) > 0 {
		all = append(all, dhcpv6.OptSNTP(sntp...))
	}
	return all
}

// addresses are those of IPv6, as the library has them.
func addresses(addrs []netip.Addr) []net.IP {
	var all []net.IP
	for _, a := range addrs {
		if a.Is6() && !a.Is4In6() {
			all = append(all, net.IP(a.AsSlice()))
		}
	}
	return all
}

// Asks reports whether a client asks for an option. A client without an option list is sent the resolver.
func (m *Message) Asks(code uint16) bool {
	if m.Wanted == nil {
		return code == CodeDNS || code == CodeSearch
	}
	return slices.Contains(m.Wanted, code)
}

// Detail is an option of a message, in words.
type Detail struct {
	Name, Value string
	Option      uint16
}

// Details are the options of a message of either side, in their order, for a reader. ok is false where it cannot be read.
func Details(b []byte) (details []Detail, ok bool) {
	m, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		return nil, false
	}
	for _, o := range m.Options.Options {
		details = append(details, describe(o)...)
	}
	return details, true
}

func describe(o dhcpv6.Option) []Detail {
	code := uint16(o.Code())
	one := func(name, value string) []Detail { return []Detail{{name, value, code}} }
	switch o := o.(type) {
	case *dhcpv6.OptIANA:
		return append(one("ia", fmt.Sprintf("%x", o.IaId)+times(o.T1, o.T2)), inside(o.Options.Options)...)
	case *dhcpv6.OptIATA:
		return append(one("temporary ia", fmt.Sprintf("%x", o.IaId)), inside(o.Options.Options)...)
	case *dhcpv6.OptIAPD:
		return append(one("prefix ia", fmt.Sprintf("%x", o.IaId)+times(o.T1, o.T2)), inside(o.Options.Options)...)
	case *dhcpv6.OptIAAddress:
		addr, _ := netip.AddrFromSlice(o.IPv6Addr)
		text := fmt.Sprintf("%s preferred %s valid %s", addr, lifetime(o.PreferredLifetime), lifetime(o.ValidLifetime))
		return append(one("address", text), inside(o.Options.Options)...)
	case *dhcpv6.OptIAPrefix:
		text := "any"
		if o.Prefix != nil {
			text = o.Prefix.String()
		}
		return one("prefix", text)
	case *dhcpv6.OptStatusCode:
		return one("status", strings.TrimSuffix(fmt.Sprintf("%s: %s", o.StatusCode, o.StatusMessage), ": "))
	case *dhcpv6.OptFQDN:
		return one("name", fmt.Sprintf("%s flags %d", strings.Join(o.DomainName.Labels, " "), o.Flags))
	}
	data := o.ToBytes()
	switch code {
	case CodeClientID:
		return one("client", fmt.Sprintf("%x", data))
	case CodeServerID:
		return one("server", fmt.Sprintf("%x", data))
	case CodeRapidCommit:
		return one("rapid commit", "")
	case CodeDNS, CodeSNTP:
		var texts []string
		for a := data; len(a) >= 16; a = a[16:] {
			texts = append(texts, netip.AddrFrom16([16]byte(a)).String())
		}
		if code == CodeSNTP {
			return one("sntp", strings.Join(texts, " "))
		}
		return one("dns", strings.Join(texts, " "))
	case CodeSearch:
		if labels, err := rfc1035label.FromBytes(data); err == nil {
			return one("search", strings.Join(labels.Labels, " "))
		}
	case CodeBootFile:
		return one("boot file", string(data))
	case CodeWanted:
		var names []string
		for a := data; len(a) >= 2; a = a[2:] {
			names = append(names, OptionName(binary.BigEndian.Uint16(a)))
		}
		return one("asks for", strings.Join(names, ", "))
	case CodeNTP:
		var texts []string
		for _, s := range o.(*dhcpv6.OptNTPServer).Suboptions {
			if addr, ok := netip.AddrFromSlice(s.ToBytes()); ok && s.Code() == dhcpv6.NTPSuboptionSrvAddrCode {
				texts = append(texts, addr.String())
			}
		}
		return one("ntp", strings.Join(texts, " "))
	}
	name, _, _ := strings.Cut(o.String(), ":")
	return one(strings.ToLower(name), fmt.Sprintf("%x", data))
}

func inside(options dhcpv6.Options) []Detail {
	var all []Detail
	for _, o := range options {
		all = append(all, describe(o)...)
	}
	return all
}

func times(t1, t2 time.Duration) string {
	if t1 == 0 && t2 == 0 {
		return ""
	}
	return fmt.Sprintf(" renew %s rebind %s", lifetime(t1), lifetime(t2))
}

func lifetime(d time.Duration) string {
	if d == seconds(Infinite) {
		return "infinite"
	}
	return fmt.Sprintf("%d s", d/time.Second)
}
