package network

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// bare is what prepare and restore are measured against: a program that is made for one pod (the shape "ptp") and sends
// the requests that rewire it, in an order worked out by hand. One socket, one dump of each kind, as few requests as the
// kernel takes, and no plan, record, lock, rollback or look at the result. Killed half-way it leaves a pod without network.
type bare struct{ *executor }

// newBare opens the socket and dumps what there is: the links to know their indexes, the rest as whoever has nothing
// written down would have to.
func newBare(ns *Namespace) (*bare, error) {
	r, err := newRTNL(ns)
	if err != nil {
		return nil, err
	}
	b := &bare{&executor{ns: ns, rtnl: r, nft: &nft{ns: ns}, index: make(map[Role]int)}}
	links, err := r.links()
	for _, l := range links {
		switch {
		case l.Kind == kindVeth:
			b.index[NIC] = l.Index
		case l.Name == "eth0-br":
			b.index[Bridge] = l.Index
		}
	}
	_, addresses := r.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	_, routes := r.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{})
	_, neighbours := r.dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &ndMsg{})
	if err := errors.Join(err, addresses, routes, neighbours); err != nil {
		r.close()
		return nil, err
	}
	return b, nil
}

// wire makes of the original what wanted holds.
func (b *bare) wire(original, wanted *Snapshot) error {
	defer b.close()
	nic, bridge, tap, placeholder := wanted.Link(NIC), wanted.Link(Bridge), wanted.Link(Tap), wanted.Link(Placeholder)
	requests := []func() error{
		b.change(createLink{*bridge}),
		b.link(Bridge, 0, quiet()),
		b.link(Bridge, unix.IFF_UP),
		b.change(createLink{*tap}),
		func() error { return b.link(Tap, 0, quiet(), b.master(Bridge))() },
		b.change(setLink{Tap, settingLearning, *tap}),
		b.link(Tap, unix.IFF_UP),
		b.change(putFilter{filter: wanted.Filter}),
		b.link(NIC, -unix.IFF_UP),
		func() error {
			return b.link(NIC, 0, quiet(), b.master(Bridge), attribute(unix.IFLA_IFNAME, nl.ZeroTerminated(nic.Name)),
				attribute(unix.IFLA_ADDRESS, nic.MAC.HardwareAddr()))()
		},
		b.change(setLink{NIC, settingLearning, *nic}),
		b.change(createLink{*placeholder}),
	}
	for _, a := range original.Addresses {
		requests = append(requests, b.change(deleteAddress{a}))
	}
	for _, a := range wanted.Addresses {
		requests = append(requests, b.change(addAddress{a}))
	}
	for _, r := range gatewaysLast(wanted.Routes) {
		requests = append(requests, b.change(addRoute{r}))
	}
	return b.all(append(requests, b.link(NIC, unix.IFF_UP)))
}

// unwire makes the original of what is wired.
func (b *bare) unwire(original *Snapshot) error {
	defer b.close()
	nic := original.Link(NIC)
	requests := []func() error{
		b.link(NIC, -unix.IFF_UP),
		b.change(removeFilter{filterTable(nic.Name)}),
		b.change(deleteMarked{markFor(nic.Index)}),
		b.link(NIC, 0, attribute(unix.IFLA_IFNAME, nl.ZeroTerminated(nic.Name)), attribute(unix.IFLA_ADDRESS, nic.MAC.HardwareAddr())),
	}
	for _, a := range original.Addresses {
		requests = append(requests, b.change(addAddress{a}))
	}
	// This pod network takes away the connected route that the kernel makes.
	pod := original.Addresses[0]
	subnet, _ := pod.connected()
	connected := Route{
		Destination: subnet, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_KERNEL,
		Scope: unix.RT_SCOPE_LINK, PrefSrc: pod.Local.Addr(), Hops: []Hop{{Link: NIC}},
	}
	requests = append(requests, b.link(NIC, unix.IFF_UP), b.change(deleteRoute{connected}))
	for _, r := range gatewaysLast(original.Routes) {
		requests = append(requests, b.change(addRoute{r}))
	}
	return b.all(append(requests, b.change(setLink{NIC, settingAddrGenMode, *nic})))
}

func (b *bare) close() {
	b.nft.close()
	b.rtnl.close()
}

func (b *bare) all(requests []func() error) error {
	for i, request := range requests {
		if err := request(); err != nil {
			return fmt.Errorf("request %d of the bare program: %w", i, err)
		}
	}
	return nil
}

func (b *bare) change(c change) func() error { return func() error { return b.one(c) } }

// link sets a flag of a link, or with a minus clears it, and attributes.
func (b *bare) link(role Role, flag int, attributes ...[]*nl.RtAttr) func() error {
	return func() error {
		header := b.header(role)
		header.Flags, header.Change = uint32(max(flag, 0)), uint32(max(flag, -flag))
		data := []nl.NetlinkRequestData{header}
		for _, list := range attributes {
			for _, a := range list {
				data = append(data, a)
			}
		}
		return b.rtnl.do(unix.RTM_NEWLINK, 0, data...)
	}
}

func (b *bare) master(role Role) []*nl.RtAttr {
	return attribute(unix.IFLA_MASTER, nl.Uint32Attr(uint32(b.index[role])))
}

// quiet is the address generation mode "none".
func quiet() []*nl.RtAttr {
	return linkAttributes[settingAddrGenMode](nil, &Link{AddrGenMode: "none"}, 0)
}

func gatewaysLast(routes []Route) []Route {
	order := map[bool]int{true: 0, false: 1}
	return slices.SortedStableFunc(slices.Values(routes), func(a, b Route) int {
		return cmp.Compare(order[a.direct()], order[b.direct()])
	})
}
