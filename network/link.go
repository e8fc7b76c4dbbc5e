package network

import (
	"fmt"
	"net"
	"slices"

	"github.com/podnic/podnic/network/identity"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Role is the part that a link plays in the wiring. Snapshots refer to links by role, since names are swapped on the way
// and an index is known only once the link exists.
type Role string

const (
	NIC         Role = "nic"         // the pod's own link
	Bridge      Role = "bridge"      // joins NIC and tap
	Tap         Role = "tap"         // the guest's end
	Placeholder Role = "placeholder" // keeps the pod interface's name, MAC, MTU and addresses for whoever looks
)

// Link kinds as the kernel spells them (IFLA_INFO_KIND).
const (
	kindVeth   = "veth"
	kindBridge = "bridge"
	kindTun    = "tun" // also of taps
)

// Address generation modes (IFLA_INET6_ADDR_GEN_MODE, include/uapi/linux/if_link.h). A link without IPv6 has none: the
// empty string.
var addrGenModes = []string{"eui64", "none", "stable-privacy", "random"}

// Link is what podnic reads and sets of a network link.
type Link struct {
	Role     Role         `json:"role"`
	Name     string       `json:"name"`
	Index    int          `json:"index,omitempty"` // 0: not made yet. Never compared but for the NIC's.
	Kind     string       `json:"kind,omitempty"`  // empty: a device of the machine
	MAC      identity.MAC `json:"mac,omitzero"`
	MTU      int          `json:"mtu"`
	Up       bool         `json:"up"`           // IFF_UP
	NoARP    bool         `json:"noARP"`        // IFF_NOARP
	Promisc  bool         `json:"promisc"`      // IFF_PROMISC as set by hand; a bridge's own hold does not show
	AllMulti bool         `json:"allMulticast"` // IFF_ALLMULTI likewise
	Group    uint32       `json:"group"`        // IFLA_GROUP; of our own links, the mark
	Alias    string       `json:"alias,omitempty"`
	AltNames []string     `json:"altNames,omitempty"`
	TxQLen   int          `json:"txQueueLength"`
	// AddrGenMode is how the link makes IPv6 link-local addresses; empty where it has no IPv6.
	AddrGenMode string `json:"addrGenMode,omitempty"`
	// Master is the role of the link that this one is a port of. A master that is not ours is in MasterIndex alone.
	Master      Role `json:"master,omitempty"`
	MasterIndex int  `json:"masterIndex,omitempty"`
	// Learning is meaningful for ports of a bridge: whether the port learns the addresses that it hears.
	Learning bool `json:"learning,omitempty"`

	BridgeOptions *BridgeOptions `json:"bridge,omitempty"`
	TapOptions    *TapOptions    `json:"tap,omitempty"`

	// What the kernel says of the state; read for checks and status, never compared and never set.
	LowerUp     bool   `json:"-"` // carrier; on a tap: somebody holds the other end
	HasPeer     bool   `json:"-"` // IFLA_LINK_NETNSID: the other end is in another namespace
	ParentIndex int    `json:"-"` // IFLA_LINK: the link that a macvlan, vlan … stands on; of a veth, its peer
	Type        uint16 `json:"-"` // ARPHRD_…
	// Frames that the link has received and sent since it was made. On a tap, received means from the guest.
	RxFrames, TxFrames uint64 `json:"-"`
	// RxDropped and TxDropped are frames that were lost for want of room, or because nobody held the other end.
	RxDropped, TxDropped uint64 `json:"-"`
}

// BridgeOptions are the settings of a bridge that the wiring depends on.
type BridgeOptions struct {
	STP               bool `json:"stp"`
	MulticastSnooping bool `json:"multicastSnooping"`
	// GroupForwardMask has a bit for each of the reserved group addresses 01:80:c2:00:00:00 to 0f whose frames are
	// bridged as others are (IFLA_BR_GROUP_FWD_MASK).
	GroupForwardMask uint16 `json:"groupForwardMask,omitempty"`
}

// TapOptions are the settings of a tap, which its creation fixes.
type TapOptions struct {
	Owner      *uint32 `json:"owner,omitempty"` // the user who may open it without CAP_NET_ADMIN; nil: nobody
	Group      *uint32 `json:"group,omitempty"`
	VNetHdr    bool    `json:"vnetHdr"`
	MultiQueue bool    `json:"multiQueue"`
	Persistent bool    `json:"persistent"`
}

// sameTap compares what the creation of a tap fixes. Whether its frames have a virtio header is not among that: whoever
// attaches says so anew, and the tap keeps it (tun_set_iff in drivers/net/tun.c replaces TUN_FEATURES).
func sameTap(a, b *TapOptions) bool {
	same := func(x, y *uint32) bool { return (x == nil) == (y == nil) && (x == nil || *x == *y) }
	if a == nil || b == nil {
		return a == b
	}
	return same(a.Owner, b.Owner) && same(a.Group, b.Group) && a.MultiQueue == b.MultiQueue && a.Persistent == b.Persistent
}

// links lists every link of the namespace. Roles are not known yet, and masters are only indexes.
func (r *rtnl) links() ([]Link, error) {
	messages, err := r.dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	links := make([]Link, 0, len(messages))
	for _, m := range messages {
		l, err := decodeLink(m)
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		links = append(links, l)
	}
	return links, nil
}

func decodeLink(m []byte) (Link, error) {
	if len(m) < unix.SizeofIfInfomsg {
		return Link{}, fmt.Errorf("link message of %d bytes", len(m))
	}
	header := nl.DeserializeIfInfomsg(m)
	attrs, err := attributes(m[unix.SizeofIfInfomsg:])
	if err != nil {
		return Link{}, err
	}
	l := Link{
		Name:        text(attrs.get(unix.IFLA_IFNAME)),
		Index:       int(header.Index),
		MTU:         int(u32(attrs.get(unix.IFLA_MTU))),
		Up:          header.Flags&unix.IFF_UP != 0,
		LowerUp:     header.Flags&unix.IFF_LOWER_UP != 0,
		NoARP:       header.Flags&unix.IFF_NOARP != 0,
		Promisc:     header.Flags&unix.IFF_PROMISC != 0,
		AllMulti:    header.Flags&unix.IFF_ALLMULTI != 0,
		Group:       u32(attrs.get(unix.IFLA_GROUP)),
		Alias:       text(attrs.get(unix.IFLA_IFALIAS)),
		TxQLen:      int(u32(attrs.get(unix.IFLA_TXQLEN))),
		MasterIndex: int(u32(attrs.get(unix.IFLA_MASTER))),
		ParentIndex: int(u32(attrs.get(unix.IFLA_LINK))),
		Type:        header.Type,
	}
	_, l.HasPeer = attrs.find(unix.IFLA_LINK_NETNSID)
	if hw := attrs.get(unix.IFLA_ADDRESS); len(hw) == len(identity.MAC{}) {
		l.MAC = identity.MAC(net.HardwareAddr(hw))
	}
	// struct rtnl_link_stats64 (include/uapi/linux/if_link.h): packets, bytes, errors and dropped, each rx and tx.
	if stats := attrs.get(unix.IFLA_STATS64); len(stats) >= 64 {
		l.RxFrames, l.TxFrames = nl.NativeEndian().Uint64(stats), nl.NativeEndian().Uint64(stats[8:])
		l.RxDropped, l.TxDropped = nl.NativeEndian().Uint64(stats[48:]), nl.NativeEndian().Uint64(stats[56:])
	}
	if list, ok := attrs.find(unix.IFLA_PROP_LIST); ok {
		props, err := attributes(list)
		if err != nil {
			return Link{}, fmt.Errorf("alternative names of %s: %w", l.Name, err)
		}
		for kind, name := range props.all {
			if kind == unix.IFLA_ALT_IFNAME {
				l.AltNames = append(l.AltNames, text(name))
			}
		}
		slices.Sort(l.AltNames)
	}
	if err := decodeAddrGenMode(attrs.get(unix.IFLA_AF_SPEC), &l); err != nil {
		return Link{}, err
	}
	if info, ok := attrs.find(unix.IFLA_LINKINFO); ok {
		if err := decodeLinkInfo(info, &l); err != nil {
			return Link{}, fmt.Errorf("details of %s: %w", l.Name, err)
		}
	}
	return l, nil
}

func decodeAddrGenMode(b []byte, l *Link) error {
	families, err := attributes(b)
	if err != nil {
		return err
	}
	inet6, ok := families.find(unix.AF_INET6)
	if !ok {
		return nil
	}
	settings, err := attributes(inet6)
	if err != nil {
		return err
	}
	if mode := u8(settings.get(unix.IFLA_INET6_ADDR_GEN_MODE)); int(mode) < len(addrGenModes) {
		l.AddrGenMode = addrGenModes[mode]
	}
	return nil
}

func decodeLinkInfo(b []byte, l *Link) error {
	info, err := attributes(b)
	if err != nil {
		return err
	}
	l.Kind = text(info.get(unix.IFLA_INFO_KIND))
	data, err := attributes(info.get(unix.IFLA_INFO_DATA))
	if err != nil {
		return err
	}
	switch l.Kind {
	case kindBridge:
		l.BridgeOptions = &BridgeOptions{
			STP:               u32(data.get(unix.IFLA_BR_STP_STATE)) != 0,
			MulticastSnooping: u8(data.get(unix.IFLA_BR_MCAST_SNOOPING)) != 0,
			GroupForwardMask:  u16(data.get(unix.IFLA_BR_GROUP_FWD_MASK)),
		}
	case kindTun:
		l.TapOptions = &TapOptions{
			VNetHdr:    u8(data.get(unix.IFLA_TUN_VNET_HDR)) != 0,
			MultiQueue: u8(data.get(unix.IFLA_TUN_MULTI_QUEUE)) != 0,
			Persistent: u8(data.get(unix.IFLA_TUN_PERSIST)) != 0,
		}
		if v, ok := data.find(unix.IFLA_TUN_OWNER); ok {
			owner := u32(v)
			l.TapOptions.Owner = &owner
		}
		if v, ok := data.find(unix.IFLA_TUN_GROUP); ok {
			group := u32(v)
			l.TapOptions.Group = &group
		}
	}
	if text(info.get(unix.IFLA_INFO_SLAVE_KIND)) == kindBridge {
		port, err := attributes(info.get(unix.IFLA_INFO_SLAVE_DATA))
		if err != nil {
			return err
		}
		l.Learning = u8(port.get(unix.IFLA_BRPORT_LEARNING)) != 0
	}
	return nil
}
