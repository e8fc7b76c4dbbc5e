package network

import (
	"fmt"
	"strings"
)

// Step is one change of the kernel's state, in words and in data.
type Step struct {
	Do     string `json:"do"`     // the verb: rename, add address, …
	Object string `json:"object"` // the link, by the name that it has then
	Detail string `json:"detail,omitempty"`

	change change
}

// String is the step as a line of a dry run.
func (s Step) String() string {
	return strings.TrimRight(fmt.Sprintf("%-18s %-15s %s", s.Do, s.Object, s.Detail), " ")
}

// inWords is the step as the beginning of an error.
func (s Step) inWords() string {
	words := s.Do + " " + s.Object
	if s.Detail != "" {
		words += " " + s.Detail
	}
	return words
}

// change is what a step does. There is one type for each kind of netlink request; model.go knows what the kernel makes of
// it, apply.go how to ask for it.
type change interface{ isChange() }

type (
	// createLink makes a link of ours, down, with what its creation can set: name, mark, MAC, MTU, ARP, kind.
	createLink struct{ link Link }
	// deleteLink removes one link of ours.
	deleteLink struct{ role Role }
	// deleteMarked removes all links of ours with one request: one grace period in place of three.
	deleteMarked struct{ mark uint32 }
	// setLink sets one property of a link to what it is in want.
	setLink struct {
		role    Role
		setting *linkSetting
		want    Link
	}
	addAddress    struct{ address Address }
	deleteAddress struct{ address Address }
	// changeAddress sets the lifetimes of an address that is there.
	changeAddress   struct{ address Address }
	addRoute        struct{ route Route }
	deleteRoute     struct{ route Route }
	addNeighbour    struct{ neighbour Neighbour }
	deleteNeighbour struct{ neighbour Neighbour }
	// putFilter puts our table in place, or in place of the one of that name that is there.
	putFilter struct {
		filter  *Filter
		replace bool
	}
	removeFilter struct{ table string }
)

func (createLink) isChange()      {}
func (deleteLink) isChange()      {}
func (deleteMarked) isChange()    {}
func (setLink) isChange()         {}
func (addAddress) isChange()      {}
func (deleteAddress) isChange()   {}
func (changeAddress) isChange()   {}
func (addRoute) isChange()        {}
func (deleteRoute) isChange()     {}
func (addNeighbour) isChange()    {}
func (deleteNeighbour) isChange() {}
func (putFilter) isChange()       {}
func (removeFilter) isChange()    {}
