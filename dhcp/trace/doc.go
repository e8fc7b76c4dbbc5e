// Package trace says what passes on the guest's link: DHCP, DHCPv6, ARP and Neighbor Discovery, decoded, and what
// podnic's server makes of each frame of the guest.
//
// A Tracer listens beside the server and asks a dhcp.Judge and a dhcp.Judge6, so that a reason it gives is one by which the server's own
// handler goes. It keeps nothing from one frame to the next but the answers that are to come, and it sends nothing.
//
// Be aware: it does not see what the server's process misses, but by the answer that does not come.
package trace
