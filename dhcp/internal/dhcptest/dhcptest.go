// Package dhcptest has the pods, guests and requests that the tests of package dhcp and of those beside it share. No program
// imports it.
package dhcptest

import (
	"errors"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/dhcp/internal/link"
	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// The stations of the tests.
var (
	GuestMAC  = identity.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x05}
	ServerMAC = identity.MAC{0x02, 0x00, 0x00, 0x00, 0x00, 0x67}
	OtherMAC  = identity.MAC{0x02, 0x00, 0x00, 0x00, 0x00, 0x99}
)

// Everybody is the address of every station.
const Everybody = "255.255.255.255"

// Parameter lists as clients send them.
var (
	Udhcpc   = []uint8{1, 3, 6, 12, 15, 28, 42}
	Dhclient = []uint8{1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42}
	Windows  = []uint8{1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252}
)

// Addr, Prefix and Addrs read what is known to be right.
func Addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func Prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// Addrs is Addr for several.
func Addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, Addr(s))
	}
	return all
}

// Via and OnLink make routes.
func Via(destination, gateway string) identity.Route {
	return identity.Route{Destination: Prefix(destination), Gateway: Addr(gateway)}
}

// OnLink is a route without a gateway.
func OnLink(destination string) identity.Route {
	return identity.Route{Destination: Prefix(destination)}
}

// BridgePod is a pod of the bridge plugin, and what follows are the other shapes that pods have.
func BridgePod() identity.Identity {
	return identity.Identity{
		Interface: "eth0", MAC: GuestMAC, MTU: 1450,
		V4: identity.Family{
			Addresses: []identity.Address{{Prefix: Prefix("10.244.1.5/24"), Pod: Prefix("10.244.1.5/24")}},
			Gateway:   Addr("10.244.1.1"),
			Routes:    []identity.Route{Via("0.0.0.0/0", "10.244.1.1")},
		},
		Hostname: "vm-0",
		Resolver: identity.Resolver{
			Servers: Addrs("10.96.0.10"),
			Search:  []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
		},
	}
}

// PtpPod has a gateway outside of its mask.
func PtpPod() identity.Identity {
	id := BridgePod()
	id.V4.Addresses[0].Prefix = Prefix("10.244.1.5/32")
	id.V4.Routes = []identity.Route{
		OnLink("10.244.1.1/32"), Via("10.244.1.0/24", "10.244.1.1"), Via("0.0.0.0/0", "10.244.1.1"),
	}
	return id
}

// CalicoPod has a gateway that is link-local.
func CalicoPod() identity.Identity {
	id := BridgePod()
	id.V4.Addresses = []identity.Address{{Prefix: Prefix("10.244.1.5/32"), Pod: Prefix("10.244.1.5/32")}}
	id.V4.Gateway = Addr("169.254.1.1")
	id.V4.Routes = []identity.Route{OnLink("169.254.1.1/32"), Via("0.0.0.0/0", "169.254.1.1")}
	return id
}

// AWSPod has a gateway that is a permanent neighbour.
func AWSPod() identity.Identity {
	id := CalicoPod()
	id.V4.Neighbours = []identity.Neighbour{{Address: Addr("169.254.1.1"), MAC: OtherMAC}}
	return id
}

// IsolatedPod has no gateway.
func IsolatedPod() identity.Identity {
	id := BridgePod()
	id.V4.Gateway, id.V4.Routes = netip.Addr{}, nil
	return id
}

// Ask makes the bytes of a request with the guest's MAC. The library that encodes it is not the one under test.
func Ask(kind dhcpv4.MessageType, modify ...dhcpv4.Modifier) []byte {
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{0xc0, 0xff, 0xee, 0x01}),
		dhcpv4.WithHwAddr(GuestMAC.HardwareAddr()),
		dhcpv4.WithMessageType(kind),
	}, modify...)...)
	if err != nil {
		panic(err)
	}
	return m.ToBytes()
}

// WithOption, WithText, WithAddr and WithParameters add an option.
func WithOption(code uint8, data ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), data)
}

// WithText is WithOption for a text.
func WithText(code uint8, text string) dhcpv4.Modifier { return WithOption(code, []byte(text)...) }

// WithAddr is WithOption for an address.
func WithAddr(code uint8, s string) dhcpv4.Modifier { return WithOption(code, Addr(s).AsSlice()...) }

// WithParameters says what the client asks for.
func WithParameters(codes ...uint8) dhcpv4.Modifier { return WithOption(v4.CodeParameters, codes...) }

// WithCiaddr says which address the client has.
func WithCiaddr(s string) dhcpv4.Modifier {
	return func(m *dhcpv4.DHCPv4) { m.ClientIPAddr = net.IP(Addr(s).AsSlice()) }
}

// FromGuest wraps a request as the guest's kernel would.
func FromGuest(request []byte, source, destination string) []byte {
	to := ServerMAC
	if destination == Everybody {
		to = link.BroadcastMAC
	}
	f := link.AppendFrame(nil, to, GuestMAC, Addr(source), Addr(destination), request)
	udp := f[link.EtherLen+link.IPLen:]
	udp[1], udp[3] = v4.ClientPort, v4.ServerPort // a sum does not change when its parts change places
	return f
}

// ARPFrame is an ARP packet to everybody.
func ARPFrame(op byte, mac [6]byte, sender, target string) []byte {
	f := append(link.BroadcastMAC.HardwareAddr(), mac[:]...)
	f = append(f, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, op)
	f = append(append(f, mac[:]...), Addr(sender).AsSlice()...)
	return append(append(f, make([]byte, 6)...), Addr(target).AsSlice()...)
}

// Edit returns a copy of the frame with some bytes replaced.
func Edit(frame []byte, at int, b ...byte) []byte {
	f := append([]byte(nil), frame...)
	copy(f[at:], b)
	return f
}

// Seeds are requests of every kind, for fuzzing.
func Seeds() [][]byte {
	return [][]byte{
		Ask(dhcpv4.MessageTypeDiscover, WithParameters(Dhclient...), WithOption(61, 1, 2, 3)),
		Ask(dhcpv4.MessageTypeDiscover, WithOption(80), WithOption(57, 5, 220)),
		Ask(dhcpv4.MessageTypeRequest, WithAddr(50, "10.244.1.5"), WithAddr(54, "10.244.1.1")),
		Ask(dhcpv4.MessageTypeRequest, WithCiaddr("10.244.1.5")),
		Ask(dhcpv4.MessageTypeRequest, WithAddr(50, "10.9.9.9"), WithOption(82, make([]byte, 300)...)),
		Ask(dhcpv4.MessageTypeInform, WithParameters(Windows...), WithOption(52, 3)),
		Ask(dhcpv4.MessageTypeDecline, WithAddr(50, "10.244.1.5")),
		Ask(dhcpv4.MessageTypeRelease, WithCiaddr("10.244.1.5")),
		Ask(dhcpv4.MessageTypeNone),
	}
}

// KernelVerdict asks the kernel: a filter on one end of a socket pair decides whether what the other end sends arrives.
// That needs no privilege, and shows what the kernel makes of the program, not what an emulator makes of it.
func KernelVerdict(program []bpf.RawInstruction, data []byte) (bool, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if err := link.AttachFilter(fds[1], program); err != nil {
		return false, err
	}
	if _, err := unix.Write(fds[0], data); err != nil && !errors.Is(err, unix.EPERM) {
		return false, err
	}
	_, err = unix.Read(fds[1], make([]byte, 4096))
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return false, err
	}
	return err == nil, nil
}
