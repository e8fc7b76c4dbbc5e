package link

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// TestControlMessagesOfAFrameAreRead has them as the kernel lays them out (struct tpacket_auxdata, struct timespec).
func TestControlMessagesOfAFrameAreRead(t *testing.T) {
	aux := func(status uint32, tci, tpid uint16) []byte {
		b := make([]byte, unix.CmsgSpace(20))
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(20)))
		binary.NativeEndian.PutUint32(b[8:], unix.SOL_PACKET)
		binary.NativeEndian.PutUint32(b[12:], unix.PACKET_AUXDATA)
		binary.NativeEndian.PutUint32(b[16:], status)
		binary.NativeEndian.PutUint16(b[32:], tci)
		binary.NativeEndian.PutUint16(b[34:], tpid)
		return b
	}
	plain := readAux(aux(unix.TP_STATUS_CSUMNOTREADY, 0, 0))
	if plain.Tagged || plain.Sum != ChecksumPending {
		t.Errorf("%+v", plain)
	}
	tagged := readAux(aux(unix.TP_STATUS_VLAN_VALID|unix.TP_STATUS_VLAN_TPID_VALID, 0x6005, 0x88a8))
	if !tagged.Tagged || tagged.VLAN() != 5 || tagged.Tag != [4]byte{0x88, 0xa8, 0x60, 5} {
		t.Errorf("%+v", tagged)
	}
	stamp := make([]byte, unix.CmsgSpace(16))
	binary.NativeEndian.PutUint64(stamp, uint64(unix.CmsgLen(16)))
	binary.NativeEndian.PutUint32(stamp[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(stamp[12:], unix.SO_TIMESTAMPNS)
	binary.NativeEndian.PutUint64(stamp[16:], 1_700_000_000)
	binary.NativeEndian.PutUint64(stamp[24:], 5)
	if at := readAux(append(aux(0, 0, 0), stamp...)).At; at.UnixNano() != 1_700_000_000_000_000_005 {
		t.Error(at)
	}
}
