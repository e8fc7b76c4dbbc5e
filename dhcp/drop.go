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
	dropNoRoom      drop = "no-room"      // what must be in the reply does not fit into it
)

// DropReasons are the keys that Stats.Dropped can have, in the order in which a message meets them.
func DropReasons() []string {
	return []string{
		string(dropOversized), string(dropTruncated), string(dropMalformed), string(dropFragment), string(dropChecksum),
		string(dropNotForUs), string(dropUnexpected), string(dropForeign), string(dropRelayed), string(dropOtherServer),
		string(dropNoRoom),
	}
}
