package plan

import (
	"fmt"
	"net/netip"

	"github.com/podnic/podnic/network/identity"
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
