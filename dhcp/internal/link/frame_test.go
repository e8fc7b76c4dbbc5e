package link

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestChecksumsOfRepliesAreRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		message := rapid.SliceOfN(rapid.Byte(), 0, 1472).Draw(t, "message")
		f := AppendFrame(nil, BroadcastMAC, BroadcastMAC, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), message)
		ip := f[EtherLen:]
		if Checksum(0, ip[:IPLen]) != 0 || Checksum(pseudoHeader(ip, len(ip)-IPLen), ip[IPLen:]) != 0 {
			t.Fatalf("%x", f)
		}
		if binary.BigEndian.Uint16(ip[IPLen+6:]) == 0 {
			t.Fatal("the checksum says that there is none")
		}
	})
}
