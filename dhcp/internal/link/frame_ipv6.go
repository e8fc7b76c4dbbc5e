package link

// IPv6, as far as Neighbor Discovery needs it.
const (
	TypeIPv6    = 0x86dd
	IPv6Len     = 40
	ProtoICMPv6 = 58
)

// Types of ICMPv6 messages (RFC 4861 §4).
const (
	NDRouterSolicitation    = 133
	NDRouterAdvertisement   = 134
	NDNeighborSolicitation  = 135
	NDNeighborAdvertisement = 136
	NDRedirect              = 137
)

// Ports of DHCPv6 (RFC 8415 §7.2).
const (
	ClientPort6 = 546
	ServerPort6 = 547
)
