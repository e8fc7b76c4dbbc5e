package link

import (
	"encoding/binary"
	"net/netip"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// An ARP packet for IPv4 over Ethernet (RFC 826): where its addresses are, and its size.
const (
	ARPSenderMAC = 8
	ARPSenderIP  = 14
	ARPTargetMAC = 18
	ARPTargetIP  = 24
	ARPLen       = 28

	ARPRequest = 1
	ARPReply   = 2
)

// ARPPrefix is what each such packet begins with: Ethernet, IPv4 and the sizes of their addresses.
const ARPPrefix = v4.HardwareEthernet<<32 | TypeIPv4<<16 | 6<<8 | 4

// AppendARPReply appends the frame that answers an ARP request, of at least ARPLen bytes: its target is at the answer.
func AppendARPReply(f, request []byte, answer identity.MAC) []byte {
	f = append(f, request[ARPSenderMAC:ARPSenderIP]...)
	f = append(f, answer[:]...)
	f = binary.BigEndian.AppendUint16(f, TypeARP)
	f = append(f, request[:6]...)
	f = append(f, 0, ARPReply)
	f = append(f, answer[:]...)
	f = append(f, request[ARPTargetIP:ARPLen]...)
	f = append(f, request[ARPSenderMAC:ARPTargetMAC]...)
	return f
}

// ARPAddresses are the protocol addresses of a packet of at least ARPLen bytes.
func ARPAddresses(b []byte) (sender, target netip.Addr) {
	return netip.AddrFrom4([4]byte(b[ARPSenderIP:])), netip.AddrFrom4([4]byte(b[ARPTargetIP:]))
}
