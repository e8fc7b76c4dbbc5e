package dhcp

// drop is why something that was received is not answered. It is an error inside the package and a key of Stats.Dropped.
type drop string

func (d drop) Error() string { return string(d) }

const (
	dropTruncated   drop = "truncated"
	dropOversized   drop = "oversized"
	dropMalformed   drop = "malformed"
	dropFragment    drop = "fragment"
	dropChecksum    drop = "checksum"
	dropNotForUs    drop = "not-for-us" // neither DHCP nor ARP that is answered; the kernel's filter keeps most of it away
	dropUnexpected  drop = "unexpected" // a message that only servers send, or that this server does not know
	dropForeign     drop = "foreign-mac"
	dropRelayed     drop = "relayed"
	dropOtherServer drop = "other-server" // addressed to another server
	dropTooMany     drop = "too-many"     // of one kind of message in a second
	dropNoRoom      drop = "no-room"      // what must be in the reply does not fit into it
)
