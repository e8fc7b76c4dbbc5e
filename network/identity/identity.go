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

// Route is a route as the guest is told of it (RFC 3442).
type Route struct {
	Destination netip.Prefix `json:"destination"`
	// Gateway is the next hop; the zero Addr means that the destination is on the link.
	Gateway netip.Addr `json:"gateway,omitzero"`
}

// Neighbour is an address on the link whose MAC the pod had as a permanent entry, because nobody answers ARP for it there.
type Neighbour struct {
	Address netip.Addr `json:"address"`
	MAC     MAC        `json:"mac"`
}

// Resolver is what the pod's resolver configuration holds, unchecked.
type Resolver struct {
	Servers []netip.Addr `json:"servers,omitempty"`
	Search  []string     `json:"search,omitempty"`
}

// Identity is what the guest has to be so that it is the pod on the network. IPv4 only, for now.
type Identity struct {
	// Interface is the name of the pod's interface, for logs.
	Interface string `json:"interface"`
	MAC       MAC    `json:"mac"`
	// MTU in bytes of IP payload: the smaller of the link's and that of the default route. 0 means unknown.
	MTU int `json:"mtu"`

	// Address is the guest's address with the prefix that it must use: that of the pod where neighbours on the subnet
	// answer ARP, /32 where the pod had no connected route and reached them by its gateway. Not valid when the interface
	// has no IPv4 address: then the guest gets layer 2 only, and nothing is served.
	Address netip.Prefix `json:"address,omitzero"`
	// PodAddress is the same address with the prefix length that it had on the pod's interface.
	PodAddress netip.Prefix `json:"podAddress,omitzero"`
	// Gateway is the next hop of the default route with the lowest metric; the zero Addr when there is none.
	Gateway netip.Addr `json:"gateway,omitzero"`
	// Routes are all the routes that the guest needs besides the connected one that follows from Address, in the order in
	// which they can be installed: destinations on the link first, the default route last.
	Routes []Route `json:"routes,omitempty"`
	// Neighbours are the addresses that must be answered for on the guest's side.
	Neighbours []Neighbour `json:"neighbours,omitempty"`

	// Hostname is the pod's, without a domain. Empty means unknown.
	Hostname string   `json:"hostname,omitempty"`
	Resolver Resolver `json:"resolver,omitzero"`
}

// Layer2Only reports whether the pod's interface had no IPv4 address, so that there is nothing to serve.
func (i Identity) Layer2Only() bool { return !i.Address.IsValid() }

// ServerLinkLocal is the address of the DHCP server where the pod has no gateway whose address it could borrow, and in
// UDP mode: an IPv4 link-local one (RFC 3927), so that it is nobody's on any pod network.
var ServerLinkLocal = netip.AddrFrom4([4]byte{169, 254, 75, 10})
