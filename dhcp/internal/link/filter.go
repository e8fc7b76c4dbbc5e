package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	v4 "github.com/podnic/podnic/dhcp/internal/v4"
	"github.com/podnic/podnic/network/identity"
)

// Watch is what the filter lets through besides what the server answers.
type Watch struct {
	// Address: ARP that shows the guest using its address. Needed until it was seen once.
	Address bool
	// Foreign: DHCP of other MACs. Closed for a while when too much of it came.
	Foreign bool
}

// filter is a classic BPF program under construction. It is put together from sections that end in a verdict of their own,
// so every jump is over the section that follows it and no offset is counted by hand.
type filter []bpf.Instruction

// Verdicts: how many bytes of the packet are kept.
var (
	pass = bpf.RetConstant{Val: 0xffff}
	stop = bpf.RetConstant{Val: 0}
)

// when runs the body if the accumulator passes the test, and what follows it if not.
func when(test bpf.JumpTest, value uint32, body filter) filter {
	return append(filter{
		bpf.JumpIf{Cond: test, Val: value, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(body))},
	}, body...)
}

// need stops unless the accumulator passes the test.
func need(test bpf.JumpTest, value uint32) filter {
	return filter{bpf.JumpIf{Cond: test, Val: value, SkipTrue: 1}, stop}
}

func concat(parts ...filter) filter { return slices.Concat(parts...) }

func word(mac identity.MAC) (high, low uint32) {
	return binary.BigEndian.Uint32(mac[:]), uint32(binary.BigEndian.Uint16(mac[4:]))
}

func addressWord(addr netip.Addr) uint32 {
	b := addr.As4()
	return binary.BigEndian.Uint32(b[:])
}

// FrameFilter is for the packet socket: whole frames, the VLAN tag already taken off by the kernel.
func FrameFilter(s Service, w Watch) ([]bpf.RawInstruction, error) {
	return concat(
		ownNetwork(),
		filter{bpf.LoadAbsolute{Off: 12, Size: 2}},
		when(bpf.JumpEqual, TypeARP, arpFilter(s, w)),
		need(bpf.JumpEqual, TypeIPv4),
		filter{bpf.LoadAbsolute{Off: EtherLen + 9, Size: 1}},
		need(bpf.JumpEqual, ProtoUDP),
		filter{bpf.LoadAbsolute{Off: EtherLen + 6, Size: 2}},
		need(bpf.JumpBitsNotSet, 0x3fff), // not a fragment
		filter{
			bpf.LoadMemShift{Off: EtherLen}, // X: length of the IP header
			bpf.LoadIndirect{Off: EtherLen + 2, Size: 2},
		},
		need(bpf.JumpEqual, v4.ServerPort),
		messageFilter(s.Client, w, EtherLen+UDPLen),
	).assemble()
}

// ownNetwork stops what has a VLAN tag. One with VLAN 0 is only a priority (IEEE 802.1Q §6.9.1). Any other one is a network
// that is not the pod's.
func ownNetwork() filter {
	return concat(
		filter{bpf.LoadExtension{Num: bpf.ExtVLANTagPresent}},
		when(bpf.JumpNotEqual, 0, concat(
			filter{
				bpf.LoadExtension{Num: bpf.ExtVLANTag},
				bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0fff},
			},
			when(bpf.JumpNotEqual, 0, filter{stop}),
		)),
	)
}

// DatagramFilter is for the UDP socket, whose filter sees the UDP header and what follows it.
func DatagramFilter(client identity.MAC, w Watch) ([]bpf.RawInstruction, error) {
	return concat(
		filter{bpf.LoadConstant{Dst: bpf.RegX, Val: 0}},
		messageFilter(client, w, UDPLen),
	).assemble()
}

// messageFilter passes requests over Ethernet that have DHCP's cookie, or none as BOOTP may (RFC 951). Offsets count from
// base plus the register X.
func messageFilter(client identity.MAC, w Watch, base uint32) filter {
	others := stop
	if w.Foreign {
		others = pass
	}
	high, low := word(client)
	return concat(
		filter{
			bpf.LoadIndirect{Off: base, Size: 4}, // op, htype, hlen, hops
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xffffff00},
		},
		need(bpf.JumpEqual, v4.OpRequest<<24|v4.HardwareEthernet<<16|6<<8),
		filter{bpf.LoadIndirect{Off: base + v4.OffCookie, Size: 4}},
		when(bpf.JumpNotEqual, v4.MagicCookie, need(bpf.JumpEqual, 0)),
		filter{bpf.LoadIndirect{Off: base + v4.OffChaddr, Size: 4}},
		when(bpf.JumpEqual, high, concat(
			filter{bpf.LoadIndirect{Off: base + v4.OffChaddr + 4, Size: 2}},
			when(bpf.JumpEqual, low, filter{pass}),
		)),
		filter{others},
	)
}

// arpFilter passes the guest's use of its address while that is watched for, and requests for what is answered.
func arpFilter(s Service, w Watch) filter {
	guest := addressWord(s.Address)
	high, low := word(s.Client)
	f := filter{bpf.LoadAbsolute{Off: EtherLen, Size: 4}}
	f = append(f, need(bpf.JumpEqual, v4.HardwareEthernet<<16|TypeIPv4)...)
	if w.Address {
		f = append(f, bpf.LoadAbsolute{Off: EtherLen + ARPSenderIP, Size: 4})
		f = append(f, when(bpf.JumpEqual, guest, concat(
			filter{bpf.LoadAbsolute{Off: EtherLen + ARPSenderMAC, Size: 4}},
			when(bpf.JumpEqual, high, concat(
				filter{bpf.LoadAbsolute{Off: EtherLen + ARPSenderMAC + 4, Size: 2}},
				when(bpf.JumpEqual, low, filter{pass}),
			)),
		))...)
	}
	if len(s.Answers) == 0 {
		return append(f, stop)
	}
	f = append(f, bpf.LoadAbsolute{Off: EtherLen + 6, Size: 2})
	f = append(f, need(bpf.JumpEqual, ARPRequest)...)
	f = append(f, bpf.LoadAbsolute{Off: EtherLen + ARPTargetIP, Size: 4})
	f = append(f, need(bpf.JumpNotEqual, guest)...)
	f = append(f, bpf.TAX{})
	for _, a := range s.Answers {
		for _, except := range a.Except { // only the last answer has any
			f = append(f, whenIn(except, stop)...)
		}
		f = append(f, whenIn(a.Destination, pass)...)
	}
	return append(f, stop)
}

// whenIn has a verdict on an address in the register X.
func whenIn(p netip.Prefix, verdict bpf.Instruction) filter {
	return append(
		filter{bpf.TXA{}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: addressWord(maskOf(p))}},
		when(bpf.JumpEqual, addressWord(p.Masked().Addr()), filter{verdict})...)
}

func maskOf(p netip.Prefix) netip.Addr {
	return netip.PrefixFrom(LimitedBroadcast(), p.Bits()).Masked().Addr()
}

func (f filter) assemble() ([]bpf.RawInstruction, error) {
	raw, err := bpf.Assemble(f)
	if err != nil {
		return nil, fmt.Errorf("assemble socket filter: %w", err)
	}
	return raw, nil
}

// deletionFilter is for a netlink socket: it passes what tells of a link that was deleted. It loads as from a network, and
// netlink is in the machine's order.
func deletionFilter() ([]bpf.RawInstruction, error) {
	var kind [2]byte
	binary.NativeEndian.PutUint16(kind[:], unix.RTM_DELLINK)
	return concat(
		filter{bpf.LoadAbsolute{Off: 4, Size: 2}}, // struct nlmsghdr, nlmsg_type
		need(bpf.JumpEqual, uint32(binary.BigEndian.Uint16(kind[:]))),
		filter{pass},
	).assemble()
}
