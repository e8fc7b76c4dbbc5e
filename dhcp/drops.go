package dhcp

import "github.com/podnic/podnic/dhcp/internal/drop"

// DropReasons are the keys that Stats.Dropped can have, in the order in which a message meets them.
func DropReasons() []string {
	return []string{
		string(drop.Oversized), string(drop.Truncated), string(drop.Malformed), string(drop.Fragment), string(drop.Checksum),
		string(drop.NotForUs), string(drop.Unexpected), string(drop.Foreign), string(drop.Relayed), string(drop.OtherServer),
		string(drop.TooMany), string(drop.NoRoom),
	}
}
