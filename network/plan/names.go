package plan

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/identity"
)

// MaxName is how long a link's name may be: IFNAMSIZ less the final zero.
const MaxName = 15

// Names are what the links of the wiring are called.
type Names struct {
	Interface string `json:"interface"` // the pod's name for its link, the placeholder's while wired
	NIC       string `json:"nic"`
	Bridge    string `json:"bridge,omitempty"`
	Tap       string `json:"tap"`
	// Aside is the placeholder's name for the moments in which the NIC still or again has the interface's.
	Aside string `json:"-"`

	Binding Binding `json:"-"` // how the links are joined
}

// Of is the name of the link of a role.
func (n Names) Of(r Role) string {
	switch r {
	case NIC:
		return n.NIC
	case Bridge:
		return n.Bridge
	case Tap:
		return n.Tap
	}
	return n.Interface
}

// Has reports whether such a wiring has a link of the role.
func (n Names) Has(r Role) bool {
	switch r {
	case Bridge:
		return n.Bridge != ""
	case Placeholder:
		return n.NIC != n.Interface
	}
	return true
}

// derivedName appends a suffix. A name that would get too long keeps its beginning and gets four characters of its hash,
// so that two long names that begin alike stay apart.
func derivedName(iface, suffix string) string {
	if len(iface)+len(suffix) <= MaxName {
		return iface + suffix
	}
	sum := sha256.Sum256([]byte(iface))
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:4]
	return iface[:MaxName-len(suffix)-len(hash)] + hash + suffix
}

// derivedMAC makes the address of one of our links from the pod's: always the same one, so that a second run wants what
// the first run made, and another one for each pod and role. It is locally administered and unicast (IEEE 802, clause 8).
func derivedMAC(pod identity.MAC, role Role) identity.MAC {
	for n := byte(0); ; n++ {
		sum := sha256.Sum256(append(append(pod[:], n), role...))
		mac := identity.MAC(sum[:6])
		mac[0] = mac[0]&^0x01 | 0x02
		if mac != pod {
			return mac
		}
	}
}

// CheckTap refuses a tap of a name that another link of the wiring has, or has for a moment.
func (n Names) CheckTap() error {
	if i := slices.Index([]string{n.Interface, n.NIC, n.Bridge, n.Aside}, n.Tap); i >= 0 && n.Tap != "" {
		return Refuse("the tap cannot be called %s: the wiring of %s needs that name itself; choose another with --tap (in a domain, <target dev=…>; in a CNI configuration, tap)", n.Tap, n.Interface)
	}
	return nil
}
