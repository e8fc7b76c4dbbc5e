package plan

import (
	"fmt"

	"github.com/google/nftables/expr"
)

// The library's interface of expressions takes no types but its own. Ours embed it, to be expressions too: nothing of what
// they embed is ever called, since network/internal/rtnl writes and reads them itself.

// Forward hands the frame to another link, which sends it; the rule is the frame's last (nft's fwd). A rule holds the
// link's index and not its name: when the link is made anew, the rule leads nowhere until it is made anew as well.
type Forward struct {
	expr.Any
	To    string // the link's name
	Index int    // in a rule that was read, where there is no such link
	Copy  bool   // a copy is sent, and the frame goes on (nft's dup)
}

func (f *Forward) String() string {
	verb := "fwd"
	if f.Copy {
		verb = "dup"
	}
	if f.To == "" {
		return fmt.Sprintf("%s to link %d", verb, f.Index)
	}
	return fmt.Sprintf("%s to %s", verb, f.To)
}

// Unknown is an expression of a rule that was read and that no rule of ours has.
type Unknown struct {
	expr.Any
	Name string
}
