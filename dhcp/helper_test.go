package dhcp

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

var (
	guestMAC  = identity.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x05}
	serverMAC = identity.MAC{0x02, 0x00, 0x00, 0x00, 0x00, 0x67}
	otherMAC  = identity.MAC{0x02, 0x00, 0x00, 0x00, 0x00, 0x99}
	testTime  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

var equateAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, addr(s))
	}
	return all
}

// via and onLink make routes.
func via(destination, gateway string) identity.Route {
	return identity.Route{Destination: prefix(destination), Gateway: addr(gateway)}
}
func onLink(destination string) identity.Route {
	return identity.Route{Destination: prefix(destination)}
}

// The shapes that pods have.
func bridgePod() identity.Identity {
	return identity.Identity{
		Interface: "eth0", MAC: guestMAC, MTU: 1450,
		Address: prefix("10.244.1.5/24"), PodAddress: prefix("10.244.1.5/24"), Gateway: addr("10.244.1.1"),
		Routes:   []identity.Route{via("0.0.0.0/0", "10.244.1.1")},
		Hostname: "vm-0",
		Resolver: identity.Resolver{
			Servers: addrs("10.96.0.10"),
			Search:  []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
		},
	}
}

func ptpPod() identity.Identity {
	id := bridgePod()
	id.Address = prefix("10.244.1.5/32")
	id.Routes = []identity.Route{
		onLink("10.244.1.1/32"), via("10.244.1.0/24", "10.244.1.1"), via("0.0.0.0/0", "10.244.1.1"),
	}
	return id
}

func calicoPod() identity.Identity {
	id := bridgePod()
	id.Address, id.PodAddress, id.Gateway = prefix("10.244.1.5/32"), prefix("10.244.1.5/32"), addr("169.254.1.1")
	id.Routes = []identity.Route{onLink("169.254.1.1/32"), via("0.0.0.0/0", "169.254.1.1")}
	return id
}

func awsPod() identity.Identity {
	id := calicoPod()
	id.Neighbours = []identity.Neighbour{{Address: addr("169.254.1.1"), MAC: otherMAC}}
	return id
}

func isolatedPod() identity.Identity {
	id := bridgePod()
	id.Gateway, id.Routes = netip.Addr{}, nil
	return id
}

func mustOffer(t testing.TB, id identity.Identity, o Options) Offer {
	t.Helper()
	offer, _, err := NewOffer(id, o)
	if err != nil {
		t.Fatal(err)
	}
	return offer
}

func testHandler(t testing.TB, id identity.Identity, o Options) *handler {
	t.Helper()
	return newHandler(mustOffer(t, id, o), guestMAC, serverMAC, Lease{}, func() time.Time { return testTime })
}

// ask makes the bytes of a request with the guest's MAC. The library that encodes it is not the one under test.
func ask(kind dhcpv4.MessageType, modify ...dhcpv4.Modifier) []byte {
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{0xc0, 0xff, 0xee, 0x01}),
		dhcpv4.WithHwAddr(guestMAC.HardwareAddr()),
		dhcpv4.WithMessageType(kind),
	}, modify...)...)
	if err != nil {
		panic(err)
	}
	return m.ToBytes()
}

func withOption(code uint8, data ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), data)
}

func withText(code uint8, text string) dhcpv4.Modifier { return withOption(code, []byte(text)...) }

func withAddr(code uint8, s string) dhcpv4.Modifier { return withOption(code, addr(s).AsSlice()...) }

func withParameters(codes ...uint8) dhcpv4.Modifier { return withOption(v4.CodeParameters, codes...) }

func withCiaddr(s string) dhcpv4.Modifier {
	return func(m *dhcpv4.DHCPv4) { m.ClientIPAddr = net.IP(addr(s).AsSlice()) }
}

// fromGuest wraps a request as the guest's kernel would.
func fromGuest(request []byte, source, destination string) []byte {
	to := serverMAC
	if destination == everybody {
		to = link.BroadcastMAC
	}
	f := link.AppendFrame(nil, to, guestMAC, addr(source), addr(destination), request)
	udp := f[link.EtherLen+link.IPLen:]
	udp[1], udp[3] = v4.ClientPort, v4.ServerPort // a sum does not change when its parts change places
	return f
}
