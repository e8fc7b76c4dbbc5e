package network

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// bare is what prepare and restore are measured against: a program that is made for one pod (the shape "ptp") and sends
// the requests that rewire it, in an order worked out by hand. One socket, one dump of each kind, as few requests as the
// kernel takes, and no plan, record, lock, rollback or look at the result. Killed half-way it leaves a pod without network.
type bare struct{ *rtnl.Executor }

// newBare opens the socket and dumps what there is: the links to know their indexes, the rest as whoever has nothing
// written down would have to.
func newBare(ns *Namespace) (*bare, error) {
	r, err := rtnl.Open(ns)
	if err != nil {
		return nil, err
	}
	b := &bare{&rtnl.Executor{NS: ns, Conn: r, NFT: &rtnl.NFT{NS: ns}, Index: make(map[plan.Role]int)}}
	links, err := r.Links()
	for _, l := range links {
		switch {
		case l.Kind == plan.KindVeth:
			b.Index[plan.NIC] = l.Index
		case l.Name == "eth0-br":
			b.Index[plan.Bridge] = l.Index
		}
	}
	_, addresses := r.Dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	_, routes := r.Dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{})
	_, neighbours := r.Dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &rtnl.NdMsg{})
	if err := errors.Join(err, addresses, routes, neighbours); err != nil {
		r.Close()
		return nil, err
	}
	return b, nil
}

// wire makes of the original what wanted holds.
func (b *bare) wire(original, wanted *plan.Snapshot) error {
	defer b.close()
	nic, bridge, tap, placeholder := wanted.Link(plan.NIC), wanted.Link(plan.Bridge), wanted.Link(plan.Tap), wanted.Link(plan.Placeholder)
	requests := []func() error{
		b.change(plan.CreateLink{Link: *bridge}),
		b.link(plan.Bridge, 0, quiet()),
		b.link(plan.Bridge, unix.IFF_UP),
		b.change(plan.CreateLink{Link: *tap}),
		func() error { return b.link(plan.Tap, 0, quiet(), b.master(plan.Bridge))() },
		b.change(plan.SetLink{Role: plan.Tap, Setting: plan.SettingLearning, Want: *tap}),
		b.link(plan.Tap, unix.IFF_UP),
		b.change(plan.PutFilter{Filter: wanted.Filter}),
		b.link(plan.NIC, -unix.IFF_UP),
		func() error {
			return b.link(plan.NIC, 0, quiet(), b.master(plan.Bridge), rtnl.Attribute(unix.IFLA_IFNAME, nl.ZeroTerminated(nic.Name)),
				rtnl.Attribute(unix.IFLA_ADDRESS, nic.MAC.HardwareAddr()))()
		},
		b.change(plan.SetLink{Role: plan.NIC, Setting: plan.SettingLearning, Want: *nic}),
		b.change(plan.CreateLink{Link: *placeholder}),
	}
	for _, a := range original.Addresses {
		requests = append(requests, b.change(plan.DeleteAddress{Address: a}))
	}
	for _, a := range wanted.Addresses {
		requests = append(requests, b.change(plan.AddAddress{Address: a}))
	}
	for _, r := range gatewaysLast(wanted.Routes) {
		requests = append(requests, b.change(plan.AddRoute{Route: r}))
	}
	return b.all(append(requests, b.link(plan.NIC, unix.IFF_UP)))
}

// unwire makes the original of what is wired.
func (b *bare) unwire(original *plan.Snapshot) error {
	defer b.close()
	nic := original.Link(plan.NIC)
	requests := []func() error{
		b.link(plan.NIC, -unix.IFF_UP),
		b.change(plan.RemoveFilter{Family: plan.BridgeFilter, Table: plan.FilterTable(nic.Name)}),
		b.change(plan.DeleteMarked{Mark: plan.MarkFor(nic.Index)}),
		b.link(plan.NIC, 0, rtnl.Attribute(unix.IFLA_IFNAME, nl.ZeroTerminated(nic.Name)), rtnl.Attribute(unix.IFLA_ADDRESS, nic.MAC.HardwareAddr())),
	}
	for _, a := range original.Addresses {
		requests = append(requests, b.change(plan.AddAddress{Address: a}))
	}
	// This pod network takes away the connected route that the kernel makes.
	pod := original.Addresses[0]
	subnet, _ := pod.Connected()
	connected := plan.Route{
		Destination: subnet, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_KERNEL,
		Scope: unix.RT_SCOPE_LINK, PrefSrc: pod.Local.Addr(), Hops: []plan.Hop{{Link: plan.NIC}},
	}
	requests = append(requests, b.link(plan.NIC, unix.IFF_UP), b.change(plan.DeleteRoute{Route: connected}))
	for _, r := range gatewaysLast(original.Routes) {
		requests = append(requests, b.change(plan.AddRoute{Route: r}))
	}
	return b.all(append(requests, b.change(plan.SetLink{Role: plan.NIC, Setting: plan.SettingAddrGenMode, Want: *nic})))
}

func (b *bare) close() {
	b.NFT.Close()
	b.Conn.Close()
}

func (b *bare) all(requests []func() error) error {
	for i, request := range requests {
		if err := request(); err != nil {
			return fmt.Errorf("request %d of the bare program: %w", i, err)
		}
	}
	return nil
}

func (b *bare) change(c plan.Change) func() error { return func() error { return b.One(c) } }

// link sets a flag of a link, or with a minus clears it, and attributes.
func (b *bare) link(role plan.Role, flag int, attributes ...[]*nl.RtAttr) func() error {
	return func() error {
		header := b.Header(role)
		header.Flags, header.Change = uint32(max(flag, 0)), uint32(max(flag, -flag))
		data := []nl.NetlinkRequestData{header}
		for _, list := range attributes {
			for _, a := range list {
				data = append(data, a)
			}
		}
		return b.Conn.Do(unix.RTM_NEWLINK, 0, data...)
	}
}

func (b *bare) master(role plan.Role) []*nl.RtAttr {
	return rtnl.Attribute(unix.IFLA_MASTER, nl.Uint32Attr(uint32(b.Index[role])))
}

// quiet is the address generation mode "none".
func quiet() []*nl.RtAttr {
	return rtnl.LinkAttributes[plan.SettingAddrGenMode](nil, &plan.Link{AddrGenMode: "none"}, 0)
}

func gatewaysLast(routes []plan.Route) []plan.Route {
	order := map[bool]int{true: 0, false: 1}
	return slices.SortedStableFunc(slices.Values(routes), func(a, b plan.Route) int {
		return cmp.Compare(order[a.Direct()], order[b.Direct()])
	})
}
