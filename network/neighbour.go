package network

import (
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"github.com/podnic/podnic/network/identity"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Neighbour is a neighbour entry that somebody set and that taking the link down would lose: a permanent one, one that a
// control plane set (extern_learn, managed), or a proxy entry (an address that the pod answers for).
type Neighbour struct {
	Link    Role         `json:"link"`
	Address netip.Addr   `json:"address"`
	MAC     identity.MAC `json:"mac,omitzero"` // proxy entries have none, and that of a managed entry is the kernel's to find out
	Proxy   bool         `json:"proxy,omitempty"`
	Router  bool         `json:"router,omitempty"` // NTF_ROUTER
	NoARP   bool         `json:"noARP,omitempty"`  // NUD_NOARP in place of NUD_PERMANENT
	// Dynamic entries are in a state that the kernel moves on, in place of NUD_PERMANENT.
	Dynamic     bool   `json:"dynamic,omitempty"`
	ExternLearn bool   `json:"externLearn,omitempty"` // NTF_EXT_LEARNED
	ExtFlags    uint32 `json:"extFlags,omitempty"`    // NTF_EXT_…, NDA_FLAGS_EXT
	Protocol    uint8  `json:"protocol,omitempty"`    // RTPROT_…, NDA_PROTOCOL
}

func (n Neighbour) String() string {
	switch {
	case n.Proxy:
		return "proxy " + n.Address.String()
	case n.MAC.IsZero():
		return n.Address.String()
	}
	return fmt.Sprintf("%s lladdr %s", n.Address, n.MAC)
}

// ndaProtocol is NDA_PROTOCOL (include/uapi/linux/neighbour.h, Linux 5.2).
const ndaProtocol = 12

// Extended flags of a neighbour (include/uapi/linux/neighbour.h): the kernel keeps it resolved (Linux 5.16), or a control
// plane vouches for it (Linux 6.17).
const (
	ndaFlagsExt     = 15 // NDA_FLAGS_EXT
	ntfExtManaged   = 1 << 0
	ntfExtValidated = 1 << 2
)

// ndMsg is struct ndmsg (include/uapi/linux/neighbour.h).
type ndMsg struct {
	family  uint8
	_       [3]byte
	ifindex int32
	state   uint16
	flags   uint8
	kind    uint8
}

const sizeofNdMsg = int(unsafe.Sizeof(ndMsg{}))

func (m *ndMsg) Len() int { return sizeofNdMsg }

func (m *ndMsg) Serialize() []byte {
	b := make([]byte, sizeofNdMsg)
	b[0] = m.family
	nl.NativeEndian().PutUint32(b[4:], uint32(m.ifindex))
	nl.NativeEndian().PutUint16(b[8:], m.state)
	b[10], b[11] = m.flags, m.kind
	return b
}

// neighbours lists the lasting entries of the given links. Proxy entries come in a dump of their own, asked for by the flag.
func (r *rtnl) neighbours(roles map[int]Role) ([]Neighbour, error) {
	var all []Neighbour
	for _, flags := range []uint8{0, unix.NTF_PROXY} {
		messages, err := r.dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &ndMsg{family: unix.AF_UNSPEC, flags: flags})
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, m := range messages {
			n, keep, err := decodeNeighbour(m, roles)
			if err != nil {
				return nil, fmt.Errorf("list neighbours: %w", err)
			}
			if keep {
				all = append(all, n)
			}
		}
	}
	return all, nil
}

func decodeNeighbour(m []byte, roles map[int]Role) (n Neighbour, keep bool, err error) {
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
	n = Neighbour{
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
		return n, false, unsupportedError(fmt.Sprintf("the neighbour %s has flags (NDA_FLAGS_EXT %#x) that podnic does not know and could not put back", n, unknown))
	}
	return n, true, nil
}

func encodeNeighbour(n Neighbour, index int) []nl.NetlinkRequestData {
	m := &ndMsg{family: unix.AF_INET, ifindex: int32(index), state: unix.NUD_PERMANENT}
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
