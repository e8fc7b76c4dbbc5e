package nd

import (
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"

	"github.com/podnic/podnic/dhcp/internal/drop"
	"github.com/podnic/podnic/network/identity"
)

// Solicitation is what a guest asks of its neighbours.
type Solicitation struct {
	// Target is the address whose owner is asked for; not valid of a router solicitation, which asks for routers.
	Target netip.Addr
	// MAC is the sender's as its message has it; zero where it has none.
	MAC identity.MAC
}

// Router reports whether routers are asked for.
func (s Solicitation) Router() bool { return !s.Target.IsValid() }

// solicitedNode is the prefix of the groups in which an address is asked for (RFC 4291 §2.7.1).
var solicitedNode = netip.MustParsePrefix("ff02::1:ff00:0/104")

// Decode reads an ICMPv6 message whose checksum and hop limit are right, and what RFC 4861 §6.1.1 and §7.1.1 have a node
// check of it. Messages that are not solicitations are drop.NotForUs.
func Decode(message []byte, source, destination netip.Addr) (Solicitation, error) {
	if len(message) < 2 {
		return Solicitation{}, drop.Truncated
	}
	if message[1] != 0 {
		return Solicitation{}, drop.Malformed
	}
	m, err := ndp.ParseMessage(message)
	if err != nil {
		return Solicitation{}, drop.Malformed
	}
	var (
		s       Solicitation
		options []ndp.Option
	)
	switch m := m.(type) {
	case *ndp.RouterSolicitation:
		options = m.Options
	case *ndp.NeighborSolicitation:
		s.Target, options = m.TargetAddress, m.Options
		if s.Target.IsMulticast() || s.Target.IsUnspecified() || source.IsUnspecified() && !solicitedNode.Contains(destination) {
			return Solicitation{}, drop.Malformed
		}
	default:
		return Solicitation{}, drop.NotForUs
	}
	for _, o := range options {
		lla, ok := o.(*ndp.LinkLayerAddress)
		if !ok || lla.Direction != ndp.Source {
			continue
		}
		if source.IsUnspecified() { // a guest without an address cannot be answered by unicast
			return Solicitation{}, drop.Malformed
		}
		if s.MAC, err = identity.FromHardwareAddr(net.HardwareAddr(lla.Addr)); err != nil {
			return Solicitation{}, drop.Malformed
		}
	}
	return s, nil
}
