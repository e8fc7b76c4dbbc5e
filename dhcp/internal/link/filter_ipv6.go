package link

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
)

// maxWatched bounds how many addresses of each kind the filter knows, so that it is not longer than the kernel takes
// (BPF_MAXINSNS, 4096). A solicitation for one more wakes nobody.
const maxWatched = 64

// FrameFilter6 is for the packet socket of a server of IPv6: of the guest's MAC, router solicitations, DHCPv6 to a server,
// and neighbour solicitations for what is answered, and to all for routers. None of them has extension headers.
func FrameFilter6(s Service, w Watch) ([]bpf.RawInstruction, error) {
	high, low := word(s.Client)
	return concat(
		ownNetwork(),
		filter{bpf.LoadAbsolute{Off: 12, Size: 2}},
		need(bpf.JumpEqual, TypeIPv6),
		filter{bpf.LoadAbsolute{Off: 6, Size: 4}},
		need(bpf.JumpEqual, high),
		filter{bpf.LoadAbsolute{Off: 10, Size: 2}},
		need(bpf.JumpEqual, low),
		filter{bpf.LoadAbsolute{Off: EtherLen + 6, Size: 1}},
		when(bpf.JumpEqual, ProtoUDP, concat(
			filter{bpf.LoadAbsolute{Off: EtherLen + IPv6Len + 2, Size: 2}},
			need(bpf.JumpEqual, ServerPort6),
			filter{pass},
		)),
		need(bpf.JumpEqual, ProtoICMPv6),
		filter{bpf.LoadAbsolute{Off: EtherLen + IPv6Len, Size: 1}},
		when(bpf.JumpEqual, NDRouterSolicitation, filter{pass}),
		need(bpf.JumpEqual, NDNeighborSolicitation),
		neighborFilter(s, w),
	).assemble()
}

// neighborFilter passes solicitations for what is answered, and those that show the guest using an address while that is
// watched for.
func neighborFilter(s Service, w Watch) filter {
	const (
		source = EtherLen + 8
		target = EtherLen + IPv6Len + 8
	)
	var f filter
	for _, a := range s.Answers6[:min(len(s.Answers6), maxWatched)] {
		f = append(f, whenAddress6(target, a)...)
	}
	for _, a := range s.Routers6[:min(len(s.Routers6), maxWatched)] {
		f = append(f, bpf.LoadAbsolute{Off: 0, Size: 2})
		f = append(f, when(bpf.JumpEqual, multicastMAC6, whenAddress6(target, a))...)
	}
	if w.Address {
		for _, a := range s.Addresses6[:min(len(s.Addresses6), maxWatched)] {
			f = append(f, whenAddress6(target, a)...)
			f = append(f, whenAddress6(source, a)...)
		}
	}
	return append(f, stop)
}

// multicastMAC6 is what MACs of IPv6's groups begin with (RFC 2464 §7).
const multicastMAC6 = 0x3333

// whenAddress6 passes if an address is somewhere in the frame.
func whenAddress6(at uint32, addr netip.Addr) filter {
	b := addr.As16()
	body := filter{pass}
	for i := 12; i >= 0; i -= 4 {
		body = concat(
			filter{bpf.LoadAbsolute{Off: at + uint32(i), Size: 4}},
			when(bpf.JumpEqual, binary.BigEndian.Uint32(b[i:]), body),
		)
	}
	return body
}
