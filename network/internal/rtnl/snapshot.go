package rtnl

import (
	"errors"
	"fmt"

	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Read takes a snapshot of the link with the index nic and of the links of ours that were made for it, given all links
// of the namespace. The filter is not of rtnetlink, and read elsewhere.
func (r *Conn) Read(all []plan.Link, nic int, names plan.Names) (*plan.Snapshot, error) {
	s := &plan.Snapshot{Links: plan.AssignRoles(all, nic, names)}
	roles := make(map[int]plan.Role, len(s.Links))
	for _, l := range s.Links {
		roles[l.Index] = l.Role
	}
	now, err := BootTime()
	if err != nil {
		return nil, err
	}
	if s.Addresses, err = r.Addresses(roles, now); err != nil {
		return nil, err
	}
	// What stays where it is need not be put back.
	r.lenient = names.Binding.KeepsNIC()
	defer func() { r.lenient = false }()
	if s.Routes, s.Barriers, err = r.Routes(roles, now); err != nil {
		return nil, err
	}
	if s.Rules, err = r.Rules(); err != nil {
		return nil, err
	}
	if s.Neighbours, err = r.Neighbours(roles); err != nil {
		return nil, err
	}
	return s, nil
}

// NexthopObjects lists the nexthop objects (RTM_GETNEXTHOP, Linux 5.3) on a link. They vanish when it is set down.
func (r *Conn) NexthopObjects(link int) ([]uint32, error) {
	messages, err := r.Dump(unix.RTM_GETNEXTHOP, unix.RTM_NEWNEXTHOP, &nhMsg{})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list nexthop objects: %w", err)
	}
	var ids []uint32
	for _, m := range messages {
		attrs, err := attributes(m[min(len(m), unix.SizeofNhmsg):])
		if err != nil {
			return nil, fmt.Errorf("list nexthop objects: %w", err)
		}
		if int(u32(attrs.get(unix.NHA_OIF))) == link {
			ids = append(ids, u32(attrs.get(unix.NHA_ID)))
		}
	}
	return ids, nil
}

// nhMsg is struct nhmsg (include/uapi/linux/nexthop.h), all zero in a dump.
type nhMsg struct{}

func (nhMsg) Len() int { return unix.SizeofNhmsg }

func (nhMsg) Serialize() []byte { return make([]byte, unix.SizeofNhmsg) }

var _ nl.NetlinkRequestData = nhMsg{}
