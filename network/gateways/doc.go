// Package gateways asks on a pod's link where the pod's gateways are, as the pod would ask: in a wired namespace no stack does
// that any more. [Resolve] asks for the MAC of one by ARP, [FindRouters] for the IPv6 routers by neighbour discovery and
// echo requests, and [RoutersNow] asks for these again while an interface is served.
//
// It asks by a packet socket, or, for a server that has no capability, by a UDP socket whose datagrams the filter turns into
// questions. It changes nothing in the namespace, and knows of a wiring what a [Wiring] says.
package gateways
