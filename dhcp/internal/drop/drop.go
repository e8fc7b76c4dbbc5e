// Package drop names the reasons for which something that was received is not answered.
package drop

// Reason is why something that was received is not answered. The codec, the sockets and the handler return it as an error.
type Reason string

// Error is the reason as it is counted.
func (d Reason) Error() string { return string(d) }

// The reasons. A reason is an error inside of package dhcp, and a key of its Stats.Dropped.
const (
	Truncated   Reason = "truncated"
	Oversized   Reason = "oversized"
	Malformed   Reason = "malformed"
	Fragment    Reason = "fragment"
	Checksum    Reason = "checksum"
	NotForUs    Reason = "not-for-us" // neither DHCP nor ARP that is answered; the kernel's filter keeps most of it away
	Unexpected  Reason = "unexpected" // a message that only servers send, or that this server does not know
	Foreign     Reason = "foreign-mac"
	Relayed     Reason = "relayed"
	OtherServer Reason = "other-server" // addressed to another server
	TooMany     Reason = "too-many"     // of one kind of message in a second
	NoRoom      Reason = "no-room"      // what must be in the reply does not fit into it
)
