package rtnl

import (
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ndaProtocol is NDA_PROTOCOL (include/uapi/linux/neighbour.h, Linux 5.2).
const ndaProtocol = 12

// Extended flags of a neighbour (include/uapi/linux/neighbour.h): the kernel keeps it resolved (Linux 5.16), or a control
// plane vouches for it (Linux 6.17).
const (
	ndaFlagsExt     = 15 // NDA_FLAGS_EXT
	ntfExtManaged   = 1 << 0
	ntfExtValidated = 1 << 2
)

// NdMsg is struct ndmsg (include/uapi/linux/neighbour.h).
type NdMsg struct {
	family  uint8
	_       [3]byte
	ifindex int32
	state   uint16
	flags   uint8
	kind    uint8
}

const sizeofNdMsg = int(unsafe.Sizeof(NdMsg{}))

// Len is the size of the structure in bytes.
func (m *NdMsg) Len() int { return sizeofNdMsg }

// Serialize writes it as the kernel reads it.
func (m *NdMsg) Serialize() []byte {
	b := make([]byte, sizeofNdMsg)
	b[0] = m.family
	nl.NativeEndian().PutUint32(b[4:], uint32(m.ifindex))
	nl.NativeEndian().PutUint16(b[8:], m.state)
	b[10], b[11] = m.flags, m.kind
	return b
}

// Neighbours lists the lasting entries of the given links. Proxy entries come in a dump of their own, asked for by the flag.
func (r *Conn) Neighbours(roles map[int]plan.Role) ([]plan.Neighbour, error) {
	var all []plan.Neighbour
	for _, flags := range []uint8{0, unix.NTF_PROXY} {
		messages, err := r.Dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &NdMsg{family: unix.AF_UNSPEC, flags: flags})
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, m := range messages {
			n, keep, err := decodeNeighbour(m, roles)
			if r.refuses(err) {
				return nil, fmt.Errorf("list neighbours: %w", err)
			}
			if keep {
				all = append(all, n)
			}
		}
	}
	return all, nil
}

func decodeNeighbour(m []byte, roles map[int]plan.Role) (n plan.Neighbour, keep bool, err error) {
	if len(m) < sizeofNdMsg {
		return n, false, fmt.Errorf("neighbour message of %d bytes", len(m))
	}
	family, index := m[0], int(int32(u32(m[4:])))
	state, flags := nl.NativeEndian().Uint16(m[8:]), m[10]
	role, ok := roles[index]
	if !ok || family != unix.AF_INET && family != unix.AF_INET6 {
		return n, false, nil
	}
	attrs, err := attributes(m[sizeofNdMsg:])
	if err != nil {
		return n, false, err
	}
	n = plan.Neighbour{
		Link:        role,
		Proxy:       flags&unix.NTF_PROXY != 0,
		Router:      flags&unix.NTF_ROUTER != 0,
		NoARP:       state&unix.NUD_NOARP != 0,
		ExternLearn: flags&unix.NTF_EXT_LEARNED != 0,
		ExtFlags:    u32(attrs.get(ndaFlagsExt)),
		Protocol:    u8(attrs.get(ndaProtocol)),
	}
	n.Dynamic = !n.Proxy && state&(unix.NUD_PERMANENT|unix.NUD_NOARP) == 0
	if n.Address, ok = netip.AddrFromSlice(attrs.get(unix.NDA_DST)); !ok {
		return n, false, nil
	}
	if hw := attrs.get(unix.NDA_LLADDR); len(hw) == len(identity.MAC{}) && n.ExtFlags&ntfExtManaged == 0 {
		n.MAC = identity.MAC(net.HardwareAddr(hw))
	}
	if n.NoARP && !n.ExternLearn && n.ExtFlags == 0 {
		// The kernel makes such entries for multicast, and for every address on a link without ARP. Nobody sets those.
		return n, !n.Address.IsMulticast() && !n.MAC.IsZero() && n.Protocol != 0, nil
	}
	if n.Dynamic && n.ExtFlags&ntfExtManaged == 0 && (n.MAC.IsZero() || !n.ExternLearn && n.ExtFlags == 0) {
		return n, false, nil // the kernel has found it out, or failed to
	}
	if unknown := n.ExtFlags &^ (ntfExtManaged | ntfExtValidated); unknown != 0 {
		return n, true, UnsupportedError(fmt.Sprintf("the neighbour %s has flags (NDA_FLAGS_EXT %#x) that podnic does not know and could not put back", n, unknown))
	}
	return n, true, nil
}

func encodeNeighbour(n plan.Neighbour, index int) []nl.NetlinkRequestData {
	m := &NdMsg{family: unix.AF_INET, ifindex: int32(index), state: unix.NUD_PERMANENT}
	if n.Address.Is6() {
		m.family = unix.AF_INET6
	}
	switch {
	case n.NoARP:
		m.state = unix.NUD_NOARP
	case n.Dynamic && n.MAC.IsZero():
		m.state = unix.NUD_NONE
	case n.Dynamic:
		m.state = unix.NUD_STALE
	}
	if n.Proxy {
		m.flags |= unix.NTF_PROXY
		m.state = 0
	}
	if n.Router {
		m.flags |= unix.NTF_ROUTER
	}
	if n.ExternLearn {
		m.flags |= unix.NTF_EXT_LEARNED
	}
	data := []nl.NetlinkRequestData{m, nl.NewRtAttr(unix.NDA_DST, n.Address.AsSlice())}
	if n.ExtFlags != 0 {
		data = append(data, nl.NewRtAttr(ndaFlagsExt, nl.Uint32Attr(n.ExtFlags)))
	}
	if !n.MAC.IsZero() {
		data = append(data, nl.NewRtAttr(unix.NDA_LLADDR, n.MAC.HardwareAddr()))
	}
	if n.Protocol != 0 {
		data = append(data, nl.NewRtAttr(ndaProtocol, []byte{n.Protocol}))
	}
	return data
}
