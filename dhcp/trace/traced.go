package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// Values of Traced.Peer.
const (
	PeerServer  = "server"  // podnic's DHCP server
	PeerNetwork = "network" // another station of the pod network
	PeerAll     = "all"     // a group address
)

// Values of Traced.Protocol.
const (
	ProtocolDHCP   = "DHCP"
	ProtocolARP    = "ARP"
	ProtocolND     = "ND"
	ProtocolDHCPv6 = "DHCPv6"
)

// Traced is one frame that passed the guest's tap, decoded, or the absence of an answer. Its JSON is part of the command
// line's contract.
type Traced struct {
	At        time.Time `json:"at"`
	FromGuest bool      `json:"fromGuest"`
	// Peer is who the guest speaks to, or hears: PeerServer, PeerNetwork or PeerAll.
	Peer        string       `json:"peer"`
	Source      identity.MAC `json:"source,omitzero"`
	Destination identity.MAC `json:"destination,omitzero"`
	// VLAN is that of the frame's tag, 0 without one.
	VLAN     uint16 `json:"vlan,omitempty"`
	Protocol string `json:"protocol"`
	// Message is its type, as the RFCs name it: DISCOVER, NS; for ARP, what is asked or said.
	Message string `json:"message"`
	// Transaction is the DHCP transaction identifier in hexadecimal.
	Transaction string `json:"transaction,omitempty"`
	// State is that of a client which sends a REQUEST (RFC 2131 §4.3.2).
	State string `json:"state,omitempty"`
	// Answer is what the server answers: OFFER, ACK, NAK, BOOTP or ARP.
	Answer string `json:"answer,omitempty"`
	// Why is why the server does not answer, or refuses.
	Why     string   `json:"why,omitempty"`
	Details []Detail `json:"details,omitempty"`

	// Length is the frame's in bytes, with its tag; 0 for the absence of an answer.
	Length int `json:"length,omitempty"`
	// Data is the frame, valid until the next one is asked for.
	Data []byte `json:"-"`

	subject string     // what an answer has in common with its question
	router  netip.Addr // of a router advertisement, who sends it
}

// Detail is a field of a message that is set, or an option.
type Detail struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	// Option is its code; 0 for what is not an option.
	Option uint16 `json:"option,omitempty"`
}

func (f *Traced) add(name, value string) {
	f.Details = append(f.Details, Detail{Name: name, Value: value})
}

// unreadable stands for the message of a frame that breaks off, or is something else than its headers say.
const unreadable = "unreadable"

// messageType is the name that RFC 2131 §3.1 has, and BOOTP for what has none.
func messageType(kind dhcpv4.MessageType) string {
	switch {
	case kind == dhcpv4.MessageTypeNone:
		return "BOOTP"
	case kind > dhcpv4.MessageTypeInform:
		return fmt.Sprintf("TYPE %d", kind)
	}
	return kind.String()
}

// decoder tells what frames say, and by the server's own handler what the server makes of those of the guest. It keeps
// nothing from one frame to the next.
type decoder struct {
	client, server identity.MAC
	offer          *dhcp.Offer
	offer6         *dhcp.Offer6
	judge          *dhcp.Judge  // nil where there is no server of IPv4
	judge6         *dhcp.Judge6 // nil where there is none of IPv6
}

func newDecoder(client, server identity.MAC, offer *dhcp.Offer, offer6 *dhcp.Offer6) *decoder {
	d := &decoder{client: client, server: server, offer: offer, offer6: offer6}
	if offer != nil {
		d.judge = dhcp.NewJudge(*offer, client, server)
	}
	if offer6 != nil {
		d.judge6 = dhcp.NewJudge6(*offer6, client, server)
	}
	return d
}

// decode reads a frame without its tag.
func (d *decoder) decode(frame []byte, vlan uint16, fromGuest bool, sum link.ChecksumState) Traced {
	f := Traced{FromGuest: fromGuest, VLAN: vlan, Length: len(frame), Data: frame}
	if len(frame) < link.EtherLen {
		f.Peer, f.Protocol, f.Message, f.Why = PeerNetwork, "Ethernet", unreadable, explain(drop.Truncated)
		return f
	}
	f.Destination, f.Source = identity.MAC(frame), identity.MAC(frame[6:])
	payload := frame[link.EtherLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case link.TypeARP:
		d.arp(&f, payload)
	case link.TypeIPv4:
		d.message(&f, payload, sum)
	default:
		decodeIPv6(&f, payload, sum)
	}
	f.Peer = d.peer(&f)
	switch {
	case !fromGuest:
		d.judgeReply(&f)
	case vlan != 0:
		f.Answer, f.Why = "", fmt.Sprintf("it is tagged for VLAN %d, but the pod's network has no tag", vlan)
	case f.Protocol == ProtocolDHCP || f.Protocol == ProtocolARP:
		d.ask(&f, frame, sum)
	case f.Protocol == ProtocolND || f.Protocol == ProtocolDHCPv6:
		d.ask6(&f, frame, sum)
	}
	return f
}

func (d *decoder) peer(f *Traced) string {
	other := f.Source
	if f.FromGuest {
		other = f.Destination
		if other[0]&1 != 0 {
			return PeerAll
		}
	}
	if other == d.server || f.FromGuest && f.Protocol == ProtocolDHCP || !f.FromGuest && d.advertises(f) {
		return PeerServer
	}
	return PeerNetwork
}

// ask has the server's handler say what it does with a frame of the guest.
func (d *decoder) ask(f *Traced, frame []byte, sum link.ChecksumState) {
	if d.judge == nil {
		f.Why = "IPv4 is not served on this interface"
		return
	}
	defer func() {
		if cause := recover(); cause != nil {
			f.Answer, f.Why = "", fmt.Sprintf("the server fails on it: %v", cause)
		}
	}()
	v := d.judge.Frame(frame, sum)
	f.State = v.State
	if v.Refused != "" {
		f.Why = v.Refused
	}
	switch {
	case v.Dropped != nil:
		f.Why = d.why(v)
	case v.Reply != nil && f.Protocol == ProtocolARP:
		f.Answer = ProtocolARP
	case v.Reply != nil:
		var reply v4.Message
		if err := reply.Read(v.Reply[link.EtherLen+link.IPLen+link.UDPLen:]); err == nil {
			f.Answer = messageType(reply.Kind)
		}
	case f.Protocol == ProtocolARP:
		d.leave(f, frame[link.EtherLen:])
	}
}

// leave says of an ARP request why the server leaves it alone.
func (d *decoder) leave(f *Traced, b []byte) {
	if binary.BigEndian.Uint16(b[6:]) != link.ARPRequest {
		return
	}
	switch sender, target := link.ARPAddresses(b); {
	case sender == target:
	case target == d.offer.Address.Addr():
		f.Why = "left alone: it is the guest's own address"
	case d.offer.Socket == dhcp.SocketUDP && target == d.offer.ServerIdentifier:
		f.Answer = ProtocolARP // by the kernel, which has the address on the bridge
	default:
		f.Why = "left to the pod network"
	}
}

// judgeReply says what is odd about what the guest is told.
func (d *decoder) judgeReply(f *Traced) {
	switch {
	case f.Source == d.client:
		f.Why = "the guest's own frame comes back from the pod network" // a bridge port in hairpin mode, for one
	case f.Protocol == ProtocolDHCP && f.Peer != PeerServer:
		f.Why = "it is not podnic's: another DHCP server answers, or another client asks"
	case d.judge6 == nil || f.Peer == PeerServer:
	case f.Protocol == ProtocolDHCPv6:
		f.Why = "it is not podnic's: another DHCPv6 server answers, or another client asks"
	case f.Message == messageRA:
		f.Why = "it is not podnic's: another router advertises itself to the guest"
	}
}

// why puts a drop into words.
func (d *decoder) why(v dhcp.Verdict) string {
	m := v.Request
	switch v.Dropped {
	case drop.Foreign:
		return fmt.Sprintf("the client is %s, but the guest is %s", m.MAC(), d.client)
	case drop.Relayed:
		return fmt.Sprintf("it comes by the relay %s, but nothing relays here", m.Giaddr())
	case drop.OtherServer:
		server, _ := m.Address(v4.CodeServer)
		return fmt.Sprintf("it is for the server %s, but this one is %s", server, d.offer.ServerIdentifier)
	}
	return explain(v.Dropped)
}

// explain puts a drop into words that do not depend on the message.
func explain(err error) string {
	if errors.Is(err, drop.Malformed) {
		return "it is malformed"
	}
	switch err {
	case drop.Truncated:
		return "it is cut off"
	case drop.Fragment:
		return "it is a fragment"
	case drop.Checksum:
		return "its checksum is wrong"
	case drop.NotForUs:
		return "it is not to a server"
	case drop.Unexpected:
		return "only servers send such a message, or nobody does"
	case drop.NoRoom:
		return "what must be in the answer does not fit"
	}
	return err.Error()
}

// arp reads an ARP packet (RFC 826, RFC 5227).
func (d *decoder) arp(f *Traced, b []byte) {
	f.Protocol = ProtocolARP
	if len(b) < link.ARPLen || binary.BigEndian.Uint64(b)>>16 != link.ARPPrefix {
		f.Message = unreadable
		return
	}
	sender, target := link.ARPAddresses(b)
	mac := identity.MAC(b[link.ARPSenderMAC:])
	f.subject = target.String()
	switch operation := binary.BigEndian.Uint16(b[6:]); {
	case sender == target:
		f.Message = fmt.Sprintf("%s announces that it is at %s", sender, mac)
	case operation == link.ARPReply:
		f.subject = sender.String()
		f.Message = fmt.Sprintf("%s is at %s", sender, mac)
	case operation != link.ARPRequest:
		f.Message = fmt.Sprintf("operation %d", operation)
	case sender.IsUnspecified():
		f.Message = fmt.Sprintf("does anybody have %s?", target)
	default:
		f.Message = fmt.Sprintf("who has %s? tell %s", target, sender)
	}
}
