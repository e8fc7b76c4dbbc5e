// Package identity holds what podnic knows of a pod's place on the network, as plain values.
//
// It is the only thing that the packages network (which finds the identity), dhcp (which hands it to the guest) and
// domain (which puts its MAC and MTU into a domain's XML) share. It reads nothing and decides nothing, and it depends on
// the standard library alone.
package identity

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// MAC is an Ethernet (EUI-48) hardware address. Unlike net.HardwareAddr it can be compared, and in JSON it is text.
type MAC [6]byte

// ParseMAC reads an address in any form that net.ParseMAC knows, provided that it has six bytes.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil {
		return MAC{}, err
	}
	return FromHardwareAddr(hw)
}

// FromHardwareAddr converts the library type. Addresses that are not six bytes long (InfiniBand, none at all) are errors.
func FromHardwareAddr(hw net.HardwareAddr) (MAC, error) {
	if len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("hardware address %q has %d bytes, an Ethernet address has 6", hw, len(hw))
	}
	return MAC(hw), nil
}

// IsZero reports whether no address is set.
func (m MAC) IsZero() bool { return m == MAC{} }

// HardwareAddr is the address as the standard library has it, in memory of its own.
func (m MAC) HardwareAddr() net.HardwareAddr { return net.HardwareAddr(m[:]) }

// String is the address in lower case with colons.
func (m MAC) String() string { return m.HardwareAddr().String() }

// MarshalText makes the address text in JSON and YAML; the zero address is empty.
func (m MAC) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (m *MAC) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = MAC{}
		return nil
	}
	parsed, err := ParseMAC(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// Route is a route as the guest is told of it (RFC 3442, RFC 4191).
type Route struct {
	Destination netip.Prefix `json:"destination"`
	// Gateway is the next hop; the zero Addr means that the destination is on the link.
	Gateway netip.Addr `json:"gateway,omitzero"`
}

// Neighbour is an address on the link whose MAC the pod had as a permanent entry, because nobody answers ARP for it there, or
// neighbour discovery.
type Neighbour struct {
	Address netip.Addr `json:"address"`
	MAC     MAC        `json:"mac"`
}

// Resolver is what the pod's resolver configuration holds, unchecked.
type Resolver struct {
	Servers []netip.Addr `json:"servers,omitempty"`
	Search  []string     `json:"search,omitempty"`
}

// Address is an address of the pod's interface that becomes the guest's.
type Address struct {
	// Prefix is the address with the prefix length that the guest must use. IPv4: that of the pod where neighbours on the
	// subnet answer ARP, /32 where the pod had no connected route and reached them by its gateway. IPv6: /128.
	Prefix netip.Prefix
	// Pod is the same address with the prefix length that it had on the pod's interface.
	Pod netip.Prefix
}

// Family is what the guest has to be in one address family.
type Family struct {
	// Addresses are the guest's; the first is the one that the pod sends from. None: the guest is not served this family.
	Addresses []Address
	// Gateway is the next hop of the default route with the lowest metric; the zero Addr when there is none. IPv6: it may be
	// link-local.
	Gateway netip.Addr
	// Routes are all the routes that the guest needs, in the order in which they can be installed: destinations on the link
	// first, the default route last. IPv4: besides the connected one, which follows from the first address. IPv6: that one
	// too, since no address handed out has a prefix length (RFC 8415, 6.2).
	Routes []Route
	// Neighbours are the addresses that must be answered for on the guest's side.
	Neighbours []Neighbour
}

// Router is where a gateway of the pod is, so that router advertisements can be sent in its name (RFC 4861, 4.2: their
// source is link-local).
type Router struct {
	// Gateway is the pod's next hop.
	Gateway netip.Addr `json:"gateway"`
	// Address is a link-local address of the gateway: that of Gateway if it is link-local, else one that the same machine
	// was found to have, else one that nobody has. In a record the zero Addr says that nobody answered for the gateway.
	Address netip.Addr `json:"address,omitzero"`
	// MAC is the gateway's; zero where it is not known.
	MAC MAC `json:"mac"`
	// Answered says that nobody on the pod network answers neighbour solicitations for Address, so that the server has to,
	// with MAC.
	Answered bool `json:"answered,omitempty"`
}

// Gateways are the next hops of the routes, that of the default route first.
func (f Family) Gateways() []netip.Addr {
	var all []netip.Addr
	for _, gateway := range append([]netip.Addr{f.Gateway}, gatewaysOf(f.Routes)...) {
		if gateway.IsValid() && !slices.Contains(all, gateway) {
			all = append(all, gateway)
		}
	}
	return all
}

func gatewaysOf(routes []Route) []netip.Addr {
	all := make([]netip.Addr, len(routes))
	for i, r := range routes {
		all[i] = r.Gateway
	}
	return all
}

// Served reports whether there is an address to hand out.
func (f Family) Served() bool { return len(f.Addresses) > 0 }

// First is the address that the pod sends from; the zero Address where there is none.
func (f Family) First() Address {
	if !f.Served() {
		return Address{}
	}
	return f.Addresses[0]
}

// Identity is what the guest has to be so that it is the pod on the network.
type Identity struct {
	// Interface is the name of the pod's interface, for logs.
	Interface string
	MAC       MAC
	// MTU in bytes of IP payload: the smaller of the link's and that of the default route. 0 means unknown.
	MTU int

	// V4 is IPv4. It has one address at most, since DHCP hands out one.
	V4 Family
	// V6 is IPv6: all of the pod's global addresses, as it prefers them. Empty where IPv6 is not served.
	V6 Family
	// Routers are the gateways of V6's routes, that of the default route first.
	Routers []Router

	// Hostname is the pod's, without a domain. Empty means unknown.
	Hostname string
	Resolver Resolver
}

// Layer2Only reports whether there is nothing to serve, so that the guest gets frames and no more.
func (i Identity) Layer2Only() bool { return !i.V4.Served() && !i.V6.Served() }

// ServerLinkLocal is the address of the DHCP server where the pod has no gateway whose address it could borrow, and in
// UDP mode: an IPv4 link-local one (RFC 3927), so that no station of a pod network has it.
var ServerLinkLocal = netip.AddrFrom4([4]byte{169, 254, 75, 10})
