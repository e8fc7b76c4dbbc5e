package plan

import (
	"fmt"
	"strings"
)

// Step is one change of the kernel's state, in words and in data.
type Step struct {
	Do     string `json:"do"`     // the verb: rename, add address, …
	Object string `json:"object"` // the link, by the name that it has then
	Detail string `json:"detail,omitempty"`

	Change Change `json:"-"`
}

// String is the step as a line of a dry run.
func (s Step) String() string {
	return strings.TrimRight(fmt.Sprintf("%-18s %-15s %s", s.Do, s.Object, s.Detail), " ")
}

// InWords is the step as the beginning of an error.
func (s Step) InWords() string {
	words := s.Do + " " + s.Object
	if s.Detail != "" {
		words += " " + s.Detail
	}
	return words
}

// Change is what a step does. There is one type for each kind of netlink request; model.go knows what the kernel makes of
// it, network/internal/rtnl how to ask for it.
type Change interface{ isChange() }

type (
	// CreateLink makes a link of ours, down, with what its creation can set: name, mark, MAC, MTU, ARP, kind.
	CreateLink struct{ Link Link }
	// DeleteLink removes one link of ours.
	DeleteLink struct{ Role Role }
	// DeleteMarked removes all links of ours with one request: one grace period in place of three.
	DeleteMarked struct{ Mark uint32 }
	// SetLink sets one property of a link to what it is in want.
	SetLink struct {
		Role    Role
		Setting *LinkSetting
		Want    Link
	}
	AddAddress    struct{ Address Address }
	DeleteAddress struct{ Address Address }
	// ChangeAddress sets the lifetimes of an address that is there.
	ChangeAddress   struct{ Address Address }
	AddRoute        struct{ Route Route }
	DeleteRoute     struct{ Route Route }
	AddNeighbour    struct{ Neighbour Neighbour }
	DeleteNeighbour struct{ Neighbour Neighbour }
	// PutFilter puts our table in place, or in place of the one of that name that is there.
	PutFilter struct {
		Filter  *Filter
		Replace bool
	}
	RemoveFilter struct {
		Family *FilterFamily
		Table  string
	}
)

func (CreateLink) isChange() {}

func (DeleteLink) isChange() {}

func (DeleteMarked) isChange() {}

func (SetLink) isChange() {}

func (AddAddress) isChange() {}

func (DeleteAddress) isChange() {}

func (ChangeAddress) isChange() {}

func (AddRoute) isChange() {}

func (DeleteRoute) isChange() {}

func (AddNeighbour) isChange() {}

func (DeleteNeighbour) isChange() {}

func (PutFilter) isChange() {}

func (RemoveFilter) isChange() {}
