package dhcp

// DropReasons are the keys that Stats.Dropped can have, in the order in which a message meets them.
func DropReasons() []string {
	return []string{
		string(dropOversized), string(dropTruncated), string(dropMalformed), string(dropFragment), string(dropChecksum),
		string(dropNotForUs), string(dropUnexpected), string(dropForeign), string(dropRelayed), string(dropOtherServer),
		string(dropTooMany), string(dropNoRoom),
	}
}
