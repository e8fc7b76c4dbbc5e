package identity

// Carrier is how a server without CAP_NET_RAW has a message of Neighbor Discovery sent or hears of one: as a UDP datagram, of
// which nftables makes the message. UDP's header is as long as what all of these messages begin with, so that only numbers
// change: IPv6's next header, and in the place of UDP's source port the message's type and code. The message's checksum is
// the datagram's destination port.
type Carrier struct {
	// Class is the traffic class that the datagram has, by which it is told from others. The message has none.
	Class byte
	// Type of the ICMPv6 message (RFC 4861, 4).
	Type byte
	// Fixed is what the message has in the place of UDP's length and checksum.
	Fixed [4]byte
	// Unicast: the message goes to one station, which the datagram has as its source, and comes from the address that it
	// tells of. Else the datagram's source is the message's.
	Unicast bool
}

// Carriers are those of all that the server sends: advertisements of routers that are default routers and of others, always
// with M=1 and O=1, and advertisements of neighbours that are routers and that are not, always with O=1, to the one that
// asks (S=1) or to all. Every datagram goes to all nodes.
var Carriers = []Carrier{
	{Class: 0x04, Type: 134, Fixed: [4]byte{0, 0xc0, 0xff, 0xff}},
	{Class: 0x08, Type: 134, Fixed: [4]byte{0, 0xc0, 0, 0}},
	{Class: 0x0c, Type: 136, Fixed: [4]byte{0xe0}, Unicast: true},
	{Class: 0x10, Type: 136, Fixed: [4]byte{0x60}, Unicast: true},
	{Class: 0x14, Type: 136, Fixed: [4]byte{0xa0}},
	{Class: 0x18, Type: 136, Fixed: [4]byte{0x20}},
}

// CarriedReply is the traffic class of a DHCPv6 message, which is UDP all the way: only its addresses change. It goes to
// whom the datagram has as its source, and comes from the server.
const CarriedReply = 0x1c

// How such a server asks the pod network where its gateways are: as datagrams from and to this port, which nftables makes
// messages of and back. What is asked has these traffic classes.
const (
	QuestionPort       = 10547 // in no range of ephemeral ports of Linux' or Windows'
	CarriedQuestion    = 0x20  // a neighbour solicitation
	CarriedEchoRequest = 0x24
)
