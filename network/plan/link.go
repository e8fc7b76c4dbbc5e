package plan

import (
	"fmt"

	"github.com/podnic/podnic/network/identity"
)

// Role is the part that a link plays in the wiring. Snapshots refer to links by role, since names are swapped on the way
// and an index is known only once the link exists.
type Role string

const (
	NIC         Role = "nic"         // the pod's own link
	Bridge      Role = "bridge"      // joins NIC and tap
	Tap         Role = "tap"         // the guest's end
	Placeholder Role = "placeholder" // shows the pod interface's name, MAC, MTU and addresses
)

// Link kinds as the kernel spells them (IFLA_INFO_KIND).
const (
	KindVeth   = "veth"
	KindBridge = "bridge"
	KindTun    = "tun" // also of taps
	KindIPVLAN = "ipvlan"
	KindNetkit = "netkit"
)

// ModeL2 is the mode of an ipvlan or netkit link that has a MAC.
const ModeL2 = "l2"

// Address generation modes (IFLA_INET6_ADDR_GEN_MODE, include/uapi/linux/if_link.h). A link without IPv6 has none: the
// empty string.
var AddrGenModes = []string{"eui64", "none", "stable-privacy", "random"}

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
	// LRO says that the link merges TCP segments that it receives, beyond what can be told apart again; read of the pod's
	// link alone, where that may (large receive offload).
	LRO      bool     `json:"lro,omitempty"`
	Group    uint32   `json:"group"` // IFLA_GROUP; of our own links, the mark
	Alias    string   `json:"alias,omitempty"`
	AltNames []string `json:"altNames,omitempty"`
	TxQLen   int      `json:"txQueueLength"`
	// AddrGenMode is how the link makes IPv6 link-local addresses; empty where it has no IPv6.
	AddrGenMode string `json:"addrGenMode,omitempty"`
	// Mode is that of an ipvlan or netkit link: l2, l3 or l3s.
	Mode string `json:"mode,omitempty"`
	// LocalSources says that packets from addresses which the pod's stack has itself are taken, as those of a guest are that
	// has the pod's address: accept_local is 1, and rp_filter 2, which asks for a way back by any link. With 0, that of "all"
	// would count, and with 1 no way back leads by the tap. Read of taps alone, and never taken away.
	LocalSources bool `json:"-"`
	// LoopbackSources says that packets from and to 127.0.0.1 are taken: route_localnet is 1. Likewise.
	LoopbackSources bool `json:"-"`
	// Master is the role of the link that this one is a port of. A master that is not ours is in MasterIndex alone.
	Master      Role `json:"master,omitempty"`
	MasterIndex int  `json:"masterIndex,omitempty"`
	// Learning is meaningful for ports of a bridge: whether the port learns the addresses that it hears.
	Learning bool `json:"learning,omitempty"`

	BridgeSettings *BridgeSettings `json:"bridge,omitempty"`
	TapSettings    *TapSettings    `json:"tap,omitempty"`

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

// BridgeSettings are the settings of a bridge that the wiring depends on.
type BridgeSettings struct {
	STP               bool `json:"stp"`
	MulticastSnooping bool `json:"multicastSnooping"`
	// GroupForwardMask has a bit for each of the reserved group addresses 01:80:c2:00:00:00 to 0f whose frames are
	// bridged as others are (IFLA_BR_GROUP_FWD_MASK).
	GroupForwardMask uint16 `json:"groupForwardMask,omitempty"`
}

// TapSettings are the settings of a tap, which its creation fixes.
type TapSettings struct {
	Owner      *uint32 `json:"owner,omitempty"` // the user who may open it without CAP_NET_ADMIN; nil: nobody
	Group      *uint32 `json:"group,omitempty"`
	VNetHdr    bool    `json:"vnetHdr"`
	MultiQueue bool    `json:"multiQueue"`
	Persistent bool    `json:"persistent"`
}

// SameTap compares what the creation of a tap fixes. Whether its frames have a virtio header is not: the
// program that attaches sets it anew, and the tap keeps it (tun_set_iff in drivers/net/tun.c replaces TUN_FEATURES).
func SameTap(a, b *TapSettings) bool {
	same := func(x, y *uint32) bool { return (x == nil) == (y == nil) && (x == nil || *x == *y) }
	if a == nil || b == nil {
		return a == b
	}
	return same(a.Owner, b.Owner) && same(a.Group, b.Group) && a.MultiQueue == b.MultiQueue && a.Persistent == b.Persistent
}

// maxTapMTU is the most that a tap carries: IPv4's longest packet less an Ethernet header (tun_net_init,
// drivers/net/tun.c). Some pod networks without a wire below them have 65535.
const maxTapMTU = 65535 - 14

// tapMTU is the MTU of the tap, and so of the guest, of a link with the given one.
func tapMTU(link int) int { return min(link, maxTapMTU) }

// NameOf is the name of the link with the index.
func NameOf(all []Link, index int) string {
	for _, l := range all {
		if l.Index == index {
			return l.Name
		}
	}
	return fmt.Sprintf("link %d", index)
}
