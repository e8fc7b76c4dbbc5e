package network

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// executor carries out steps. It is the only code that changes the kernel, and it decides nothing.
type executor struct {
	ns    namespace
	rtnl  *rtnl
	nft   *nft
	index map[Role]int
	// before, if set, is called with the number of each step, from 0, and its error takes the place of the step's.
	before func(int) error
}

// newExecutor is for the links that current has.
func newExecutor(ns namespace, r *rtnl, n *nft, current *Snapshot) *executor {
	e := &executor{ns: ns, rtnl: r, nft: n, index: make(map[Role]int)}
	for _, l := range current.Links {
		e.index[l.Role] = l.Index
	}
	return e
}

// apply carries the steps out in turn and stops at the first that fails.
func (e *executor) apply(steps []Step) error {
	for i, s := range steps {
		if e.before != nil {
			if err := e.before(i); err != nil {
				return fmt.Errorf("%s: %w", s.inWords(), err)
			}
		}
		if err := e.one(s.change); err != nil {
			return fmt.Errorf("%s: %w", s.inWords(), err)
		}
	}
	return nil
}

func (e *executor) one(c change) error {
	now, err := bootTime()
	if err != nil {
		return err
	}
	switch c := c.(type) {
	case createLink:
		return e.createLink(c.link)
	case deleteLink:
		return gone(e.rtnl.do(unix.RTM_DELLINK, 0, e.header(c.role)))
	case deleteMarked:
		return gone(e.rtnl.do(unix.RTM_DELLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC),
			nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(c.mark))))
	case setLink:
		return e.setLink(c)
	case addAddress:
		return e.addAddress(c.address, now)
	case deleteAddress:
		return gone(e.rtnl.do(unix.RTM_DELADDR, 0, encodeAddressDelete(c.address, e.index[c.address.Link])...))
	case changeAddress:
		return e.rtnl.do(unix.RTM_NEWADDR, unix.NLM_F_REPLACE, encodeAddress(c.address, e.index[c.address.Link], now)...)
	case addRoute:
		return e.addRoute(c.route, now)
	case deleteRoute:
		return gone(e.rtnl.do(unix.RTM_DELROUTE, 0, encodeRoute(c.route, e.hopIndex, now)...))
	case addNeighbour:
		return e.rtnl.do(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, encodeNeighbour(c.neighbour, e.index[c.neighbour.Link])...)
	case deleteNeighbour:
		return gone(e.rtnl.do(unix.RTM_DELNEIGH, 0, encodeNeighbour(c.neighbour, e.index[c.neighbour.Link])...))
	case putFilter:
		return e.nft.put(c.filter, c.replace)
	case removeFilter:
		return e.nft.remove(bridgeFilter, c.table)
	}
	return fmt.Errorf("no request for a %T", c)
}

// gone forgives the deletion of what is not there any more: the kernel takes things along, and which ones depends on its
// settings (keep_addr_on_down, promote_secondaries).
func gone(err error) error {
	for _, missing := range []error{unix.ENOENT, unix.ESRCH, unix.ENODEV, unix.EADDRNOTAVAIL} {
		if errors.Is(err, missing) {
			return nil
		}
	}
	return err
}

func (e *executor) header(role Role) *nl.IfInfomsg {
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(e.index[role])
	return header
}

func (e *executor) hopIndex(h Hop) int {
	if h.Link != "" {
		return e.index[h.Link]
	}
	return h.OtherIndex
}

func (e *executor) createLink(l Link) error {
	if l.TapOptions != nil {
		return e.createTap(l)
	}
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	if l.NoARP {
		header.Flags, header.Change = unix.IFF_NOARP, unix.IFF_NOARP
	}
	err := e.rtnl.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, header,
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.Name)),
		nl.NewRtAttr(unix.IFLA_ADDRESS, l.MAC.HardwareAddr()),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.MTU))),
		nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(l.Group)),
		bridgeInfo(*l.BridgeOptions))
	if err != nil {
		return err
	}
	e.index[l.Role], err = e.rtnl.indexOf(l.Name)
	return err
}

// indexOf asks for a link by name.
func (r *rtnl) indexOf(name string) (int, error) {
	message, err := r.get(unix.RTM_GETLINK, unix.RTM_NEWLINK,
		nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", name, err)
	}
	l, err := decodeLink(message)
	return l.Index, err
}

func (e *executor) setLink(c setLink) error {
	if c.setting == settingAltNames {
		return e.setAltNames(c)
	}
	header := e.header(c.role)
	data := []nl.NetlinkRequestData{header}
	for _, a := range linkAttributes[c.setting](header, &c.want, e.index[c.want.Master]) {
		data = append(data, a)
	}
	// RTM_NEWLINK and not RTM_SETLINK: only the former takes a port's settings (IFLA_INFO_SLAVE_DATA).
	return e.rtnl.do(unix.RTM_NEWLINK, 0, data...)
}

func (e *executor) setAltNames(c setLink) error {
	links, err := e.rtnl.links()
	if err != nil {
		return err
	}
	var have []string
	for _, l := range links {
		if l.Index == e.index[c.role] {
			have = l.AltNames
		}
	}
	change := func(command int, names []string) error {
		if len(names) == 0 {
			return nil
		}
		list := nl.NewRtAttr(unix.IFLA_PROP_LIST|unix.NLA_F_NESTED, nil)
		for _, n := range names {
			list.AddRtAttr(unix.IFLA_ALT_IFNAME, nl.ZeroTerminated(n))
		}
		return e.rtnl.do(command, unix.NLM_F_EXCL|unix.NLM_F_CREATE|unix.NLM_F_APPEND, e.header(c.role), list)
	}
	without := func(all, those []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return slices.Contains(those, n) })
	}
	if err := change(unix.RTM_DELLINKPROP, without(have, c.want.AltNames)); err != nil {
		return err
	}
	return change(unix.RTM_NEWLINKPROP, without(c.want.AltNames, have))
}

// addAddress adds an address as it was. An IPv6 address that the pod had has passed duplicate address detection; it must
// not be unusable for another second. So it is added with detection off, and the flag that says so is cleared again.
func (e *executor) addAddress(a Address, now Instant) error {
	index := e.index[a.Link]
	if a.ValidUntil != 0 && a.ValidUntil <= now {
		return nil // its time ran out in the meantime
	}
	if a.is4() || a.Flags&unix.IFA_F_NODAD != 0 {
		return e.rtnl.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, encodeAddress(a, index, now)...)
	}
	quiet := a
	quiet.Flags |= unix.IFA_F_NODAD
	if err := e.rtnl.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, encodeAddress(quiet, index, now)...); err != nil {
		return err
	}
	return e.rtnl.do(unix.RTM_NEWADDR, unix.NLM_F_REPLACE, encodeAddress(a, index, now)...)
}

// addRoute adds a route behind those of the same destination, as the snapshot has them. For IPv6, where APPEND makes
// multipath of two routes, order is kept by the metric alone.
func (e *executor) addRoute(r Route, now Instant) error {
	if r.Expires != 0 && r.Expires <= now {
		return nil
	}
	flags := unix.NLM_F_CREATE | unix.NLM_F_APPEND
	if !r.is4() {
		flags = unix.NLM_F_CREATE
	}
	err := e.rtnl.do(unix.RTM_NEWROUTE, flags, encodeRoute(r, e.hopIndex, now)...)
	if errors.Is(err, unix.EEXIST) {
		return nil // the kernel was first
	}
	return err
}
