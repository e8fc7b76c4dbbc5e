package dhcp

// IPv6, as far as Neighbor Discovery needs it.
const (
	typeIPv6    = 0x86dd
	ipv6Len     = 40
	protoICMPv6 = 58
)

// Types of ICMPv6 messages (RFC 4861 §4).
const (
	ndRouterSolicitation    = 133
	ndRouterAdvertisement   = 134
	ndNeighborSolicitation  = 135
	ndNeighborAdvertisement = 136
	ndRedirect              = 137
)

// Ports of DHCPv6 (RFC 8415 §7.2).
const (
	clientPort6 = 546
	serverPort6 = 547
)
