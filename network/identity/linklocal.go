package identity

import "net/netip"

// Link-local addresses of IPv6 (RFC 4291 §2.5.6) that podnic answers for on the guest's side, and that the filter keeps
// there. Their interface identifiers are the letters "podnic" and a number, so that they are no EUI-64 of a MAC.
var (
	// VirtualRouter is the guest's next hop where the pod's has no link-local address that anybody answers for. Where there are
	// several such gateways, the others are NextVirtualRouter's.
	VirtualRouter = netip.MustParseAddr("fe80::706f:646e:6963:1")
	// ServerLinkLocal6 is the address of the DHCPv6 server.
	ServerLinkLocal6 = netip.MustParseAddr("fe80::706f:646e:6963:2")
)

// furtherRouters is what stands for the first further one: fe80::706f:646e:6963:101.
const furtherRouters = 0x101

// IsVirtualRouter reports whether an address stands for a router that nobody else answers for.
func IsVirtualRouter(a netip.Addr) bool {
	b, first := a.As16(), VirtualRouter.As16()
	return a == VirtualRouter || [14]byte(b[:]) == [14]byte(first[:]) && b[14] == furtherRouters>>8 && b[15] > 0
}

// NextVirtualRouter is the address after one of those.
func NextVirtualRouter(a netip.Addr) netip.Addr {
	if a != VirtualRouter {
		return a.Next()
	}
	b := a.As16()
	b[14], b[15] = furtherRouters>>8, furtherRouters&0xff
	return netip.AddrFrom16(b)
}

// LinkLocalOf is the address that a link makes of its MAC (RFC 4291, appendix A).
func LinkLocalOf(mac MAC) netip.Addr {
	b := [16]byte{0: 0xfe, 1: 0x80, 11: 0xff, 12: 0xfe}
	copy(b[8:], mac[:3])
	copy(b[13:], mac[3:])
	b[8] ^= 2
	return netip.AddrFrom16(b)
}

// Asker is the address that a server without CAP_NET_RAW asks the pod network's gateways from: the letters "pn" and the pod's
// MAC, so that nobody else has it. What is answered to it is for the server, and not for the guest.
func Asker(mac MAC) netip.Addr {
	b := [16]byte{0: 0xfe, 1: 0x80, 8: 'p', 9: 'n'}
	copy(b[10:], mac[:])
	return netip.AddrFrom16(b)
}

// Addresses by which a guest and the containers that share its address reach each other: nobody has them on a pod network.
// That of IPv4 is [ServerLinkLocal].
var (
	// Other6 is the other one's, whoever asks: of the addresses that KubeVirt gives to guests behind NAT, and unique local.
	Other6 = netip.MustParseAddr("fd10:0:2::2")
	// Localhost4 is what the guest sees where a container asks it by 127.0.0.1.
	Localhost4 = ServerLinkLocal.Next()
)
