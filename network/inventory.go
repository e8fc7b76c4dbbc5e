package network

import (
	"errors"
	"fmt"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/probe"
	"golang.org/x/sys/unix"
)

// Inventory is all that a namespace holds, somebody's things included, for a bug report. Links are named in the place of
// roles.
type Inventory struct {
	Links      []InventoryLink  `json:"links"`
	Addresses  []plan.Address   `json:"addresses"`
	Routes     []plan.Route     `json:"routes"`
	Barriers   []plan.Route     `json:"barriers,omitempty"`
	Rules      []plan.Rule      `json:"rules"`
	Neighbours []plan.Neighbour `json:"neighbours"` // the lasting ones
	// Chains are those of nftables that hang on a hook: family, table, name, hook's number and how many rules.
	Chains []string `json:"chains"`
	// Filter is the bridge table of each interface that podnic serves, rule by rule.
	Filters []plan.Filter `json:"filters"`
	// Unseen says what could not be read, and why.
	Unseen []string `json:"unseen,omitempty"`
}

// InventoryLink is a link with what a snapshot leaves out.
type InventoryLink struct {
	plan.Link
	Carrier  bool   `json:"carrier"`
	Parent   int    `json:"parent,omitempty"`
	Received uint64 `json:"received"`
	Sent     uint64 `json:"sent"`
	Lost     uint64 `json:"lost"`
}

// Inventory lists a namespace. What cannot be read is told and left out.
func (n *Namespace) Inventory() (*Inventory, error) {
	r, err := rtnl.Open(n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	links, err := r.Links()
	if err != nil {
		return nil, err
	}
	s := &Inventory{}
	names := make(map[int]plan.Role, len(links))
	for _, l := range links {
		names[l.Index] = plan.Role(l.Name)
	}
	for _, l := range links {
		l.Master = names[l.MasterIndex]
		s.Links = append(s.Links, InventoryLink{l, l.LowerUp, l.ParentIndex, l.RxFrames, l.TxFrames, l.RxDropped + l.TxDropped})
	}
	see := func(what string, err error) {
		if err != nil {
			s.Unseen = append(s.Unseen, fmt.Sprintf("%s: %v", what, err))
		}
	}
	now, err := rtnl.BootTime()
	see("the time", err)
	s.Addresses, err = r.Addresses(names, now)
	see("addresses", err)
	s.Routes, s.Barriers, err = r.Routes(names, now)
	see("routes", err)
	s.Rules, err = r.Rules()
	see("rules", err)
	s.Neighbours, err = r.Neighbours(names)
	see("neighbours", err)
	see("nftables", s.nftables(n))
	return s, nil
}

func (s *Inventory) nftables(ns *Namespace) (err error) {
	n := &rtnl.NFT{NS: ns}
	defer n.Close()
	s.Chains, s.Filters, err = n.Inventory()
	if errors.Is(err, unix.EPERM) {
		return probe.ErrHidden
	}
	return err
}
