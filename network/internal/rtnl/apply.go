package rtnl

import (
	"errors"
	"fmt"
	"slices"

	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Executor carries out steps. It is the only code that changes the kernel, and it decides nothing.
type Executor struct {
	NS    namespace
	Conn  *Conn
	NFT   *NFT
	Index map[plan.Role]int
	// Before, if set, is called with the number of each step, from 0, and its error takes the place of the step's.
	Before func(int) error
}

// NewExecutor is for the links that current has.
func NewExecutor(ns namespace, r *Conn, n *NFT, current *plan.Snapshot) *Executor {
	e := &Executor{NS: ns, Conn: r, NFT: n, Index: make(map[plan.Role]int)}
	for _, l := range current.Links {
		e.Index[l.Role] = l.Index
	}
	return e
}

// Apply carries the steps out in turn and stops at the first that fails.
func (e *Executor) Apply(steps []plan.Step) error {
	for i, s := range steps {
		if e.Before != nil {
			if err := e.Before(i); err != nil {
				return fmt.Errorf("%s: %w", s.InWords(), err)
			}
		}
		if err := e.One(s.Change); err != nil {
			return fmt.Errorf("%s: %w", s.InWords(), err)
		}
	}
	return nil
}

// One carries out one change.
func (e *Executor) One(c plan.Change) error {
	now, err := BootTime()
	if err != nil {
		return err
	}
	switch c := c.(type) {
	case plan.CreateLink:
		return e.createLink(c.Link)
	case plan.DeleteLink:
		return Gone(e.Conn.Do(unix.RTM_DELLINK, 0, e.Header(c.Role)))
	case plan.DeleteMarked:
		return Gone(e.Conn.Do(unix.RTM_DELLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC),
			nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(c.Mark))))
	case plan.SetLink:
		return e.setLink(c)
	case plan.AddAddress:
		return e.addAddress(c.Address, now)
	case plan.DeleteAddress:
		return Gone(e.Conn.Do(unix.RTM_DELADDR, 0, EncodeAddressDelete(c.Address, e.Index[c.Address.Link])...))
	case plan.ChangeAddress:
		return e.Conn.Do(unix.RTM_NEWADDR, unix.NLM_F_REPLACE, EncodeAddress(c.Address, e.Index[c.Address.Link], now)...)
	case plan.AddRoute:
		return e.addRoute(c.Route, now)
	case plan.DeleteRoute:
		return Gone(e.Conn.Do(unix.RTM_DELROUTE, 0, encodeRoute(c.Route, e.hopIndex, now)...))
	case plan.AddNeighbour:
		return e.Conn.Do(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, encodeNeighbour(c.Neighbour, e.Index[c.Neighbour.Link])...)
	case plan.DeleteNeighbour:
		return Gone(e.Conn.Do(unix.RTM_DELNEIGH, 0, encodeNeighbour(c.Neighbour, e.Index[c.Neighbour.Link])...))
	case plan.PutFilter:
		return e.NFT.Put(c.Filter, c.Replace)
	case plan.AddQdisc:
		return e.Conn.AddQdisc(e.Index[c.Link])
	case plan.DeleteQdisc:
		return e.Conn.DeleteQdisc(e.Index[c.Link])
	case plan.PutTCFilter:
		return e.Conn.PutTCFilter(e.Index[c.Link], c.Filter, e.Index[c.Filter.Redirect])
	case plan.DeleteTCFilter:
		return e.Conn.DeleteTCFilter(e.Index[c.Link], c.Filter)
	case plan.RemoveFilter:
		return e.NFT.Remove(c.Family, c.Table)
	}
	return fmt.Errorf("no request for a %T", c)
}

// Gone forgives the deletion of what is not there any more: the kernel takes things along, and which ones depends on its
// settings (keep_addr_on_down, promote_secondaries).
func Gone(err error) error {
	for _, missing := range []error{unix.ENOENT, unix.ESRCH, unix.ENODEV, unix.EADDRNOTAVAIL} {
		if errors.Is(err, missing) {
			return nil
		}
	}
	return err
}

// Header begins a message about the link of a role.
func (e *Executor) Header(role plan.Role) *nl.IfInfomsg {
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(e.Index[role])
	return header
}

func (e *Executor) hopIndex(h plan.Hop) int {
	if h.Link != "" {
		return e.Index[h.Link]
	}
	return h.OtherIndex
}

func (e *Executor) createLink(l plan.Link) error {
	if l.TapSettings != nil {
		return e.createTap(l)
	}
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	if l.NoARP {
		header.Flags, header.Change = unix.IFF_NOARP, unix.IFF_NOARP
	}
	err := e.Conn.Do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, header,
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.Name)),
		nl.NewRtAttr(unix.IFLA_ADDRESS, l.MAC.HardwareAddr()),
		nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.MTU))),
		nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(l.Group)),
		bridgeInfo(*l.BridgeSettings))
	if err != nil {
		return err
	}
	e.Index[l.Role], err = e.Conn.IndexOf(l.Name)
	return err
}

// IndexOf asks for a link by name.
func (r *Conn) IndexOf(name string) (int, error) {
	message, err := r.Get(unix.RTM_GETLINK, unix.RTM_NEWLINK,
		nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", name, err)
	}
	l, err := decodeLink(message)
	return l.Index, err
}

func (e *Executor) setLink(c plan.SetLink) error {
	if c.Setting == plan.SettingAltNames {
		return e.setAltNames(c)
	}
	if c.Setting == plan.SettingLRO {
		return e.Conn.SetLRO(c.Want.Name, c.Want.LRO)
	}
	header := e.Header(c.Role)
	data := []nl.NetlinkRequestData{header}
	for _, a := range LinkAttributes[c.Setting](header, &c.Want, e.Index[c.Want.Master]) {
		data = append(data, a)
	}
	// RTM_NEWLINK and not RTM_SETLINK: only the former takes a port's settings (IFLA_INFO_SLAVE_DATA).
	return e.Conn.Do(unix.RTM_NEWLINK, 0, data...)
}

func (e *Executor) setAltNames(c plan.SetLink) error {
	links, err := e.Conn.Links()
	if err != nil {
		return err
	}
	var have []string
	for _, l := range links {
		if l.Index == e.Index[c.Role] {
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
		return e.Conn.Do(command, unix.NLM_F_EXCL|unix.NLM_F_CREATE|unix.NLM_F_APPEND, e.Header(c.Role), list)
	}
	without := func(all, those []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return slices.Contains(those, n) })
	}
	if err := change(unix.RTM_DELLINKPROP, without(have, c.Want.AltNames)); err != nil {
		return err
	}
	return change(unix.RTM_NEWLINKPROP, without(c.Want.AltNames, have))
}

// addAddress adds an address as it was. An IPv6 address that the pod had has passed duplicate address detection; it must
// not be unusable for another second. So it is added with detection off, and the flag that says so is cleared again.
func (e *Executor) addAddress(a plan.Address, now plan.Instant) error {
	index := e.Index[a.Link]
	if a.ValidUntil != 0 && a.ValidUntil <= now {
		return nil // its time ran out in the meantime
	}
	if a.Is4() || a.Flags&unix.IFA_F_NODAD != 0 {
		return e.Conn.Do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, EncodeAddress(a, index, now)...)
	}
	quiet := a
	quiet.Flags |= unix.IFA_F_NODAD
	if err := e.Conn.Do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, EncodeAddress(quiet, index, now)...); err != nil {
		return err
	}
	return e.Conn.Do(unix.RTM_NEWADDR, unix.NLM_F_REPLACE, EncodeAddress(a, index, now)...)
}

// addRoute adds a route behind those of the same destination, as the snapshot has them. For IPv6, where APPEND makes
// multipath of two routes, order is kept by the metric alone.
func (e *Executor) addRoute(r plan.Route, now plan.Instant) error {
	if r.Expires != 0 && r.Expires <= now {
		return nil
	}
	flags := unix.NLM_F_CREATE | unix.NLM_F_APPEND
	if !r.Is4() {
		flags = unix.NLM_F_CREATE
	}
	err := e.Conn.Do(unix.RTM_NEWROUTE, flags, encodeRoute(r, e.hopIndex, now)...)
	if errors.Is(err, unix.EEXIST) {
		return nil // the kernel was first
	}
	return err
}
