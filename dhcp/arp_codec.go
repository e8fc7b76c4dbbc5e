package dhcp

import (
	"encoding/binary"
	"net/netip"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// An ARP packet for IPv4 over Ethernet (RFC 826): where its addresses are, and its size.
const (
	arpSenderMAC = 8
	arpSenderIP  = 14
	arpTargetMAC = 18
	arpTargetIP  = 24
	arpLen       = 28

	arpRequest = 1
	arpReply   = 2
)

// arpPrefix is what each such packet begins with: Ethernet, IPv4 and the sizes of their addresses.
const arpPrefix = v4.HardwareEthernet<<32 | typeIPv4<<16 | 6<<8 | 4

// appendARPReply appends the frame that answers an ARP request, of at least arpLen bytes: its target is at the answer.
func appendARPReply(f, request []byte, answer identity.MAC) []byte {
	f = append(f, request[arpSenderMAC:arpSenderIP]...)
	f = append(f, answer[:]...)
	f = binary.BigEndian.AppendUint16(f, typeARP)
	f = append(f, request[:6]...)
	f = append(f, 0, arpReply)
	f = append(f, answer[:]...)
	f = append(f, request[arpTargetIP:arpLen]...)
	f = append(f, request[arpSenderMAC:arpTargetMAC]...)
	return f
}

// arpAddresses are the protocol addresses of a packet of at least arpLen bytes.
func arpAddresses(b []byte) (sender, target netip.Addr) {
	return netip.AddrFrom4([4]byte(b[arpSenderIP:])), netip.AddrFrom4([4]byte(b[arpTargetIP:]))
}
