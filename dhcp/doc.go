// Package dhcp serves exactly one client: the virtual machine that takes over a pod's place on the network. Of IPv4 it is a
// DHCP server, and of IPv6 one of DHCPv6 and the routers that advertise themselves.
//
// What the guest is told is an Offer, computed once by NewOffer from the pod's Identity and the operator's Settings. A Server
// hands it out and follows RFC 2131 while doing so: it answers DISCOVER, REQUEST in all its states and INFORM, takes note
// of DECLINE and RELEASE, refuses (NAK) every address that is not the pod's, and gives a BOOTP client a BOOTP reply. The
// one client is known by its MAC, never by its client identifier, because boot firmware and the system that it boots send
// different ones.
//
// An Offer6 and a Server6 are the same for IPv6 (RFC 8415, RFC 4861): all of the pod's addresses, routes by advertisements in
// the name of the pod's routers, and the answers to neighbour solicitations that nobody else answers.
//
// The package is in three layers, each testable without the next:
//
//   - values: Settings, Option, Offer, Lease, and ParseResolvConf, all pure;
//   - the handler: bytes of a frame or datagram in, bytes of the answer and Events out, no socket, no clock of its own;
//   - the station, which a Server and a Server6 are: a socket with a kernel filter, the loop that retries it, and the guard
//     that keeps a panic in one frame from ending the process that the guest depends on.
//
// Below it are internal/link, which has the sockets and the frames, internal/v4, internal/v6 and internal/nd, the message
// codecs, and internal/drop, the reasons for which nothing is answered. Through a packet socket the server also answers ARP
// for addresses that nobody else answers for. Above it is dhcp/trace, which asks a Judge and a Judge6 what a server makes of
// a frame.
//
// Be aware: the package changes nothing in the kernel but its own sockets. That no other server hears the guest, and that
// no DHCP of the guest leaves the pod, is the work of the filter that package network installs. Leases are not a scarce
// resource here: the address is the guest's whether it holds a lease or not, and an expired lease is renewed as if nothing
// had happened.
package dhcp
