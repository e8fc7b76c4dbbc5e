package pod

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settleTime bounds the wait for duplicate address detection, which takes the kernel between one and two seconds on a quiet
// machine.
const settleTime = 90 * time.Second

// Settle returns once the kernel is done with what it does by itself after a link comes up: the carrier is noticed, the
// link-local address made, no address tentative any more, and the local route of each there.
func (n *Namespace) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	return n.Do(func() error {
		done := make(chan struct{})
		defer close(done)
		links := make(chan netlink.LinkUpdate, 64)
		if err := netlink.LinkSubscribe(links, done); err != nil {
			return fmt.Errorf("follow the links of %s: %w", n.Name, err)
		}
		addresses := make(chan netlink.AddrUpdate, 64)
		if err := netlink.AddrSubscribe(addresses, done); err != nil {
			return fmt.Errorf("follow the addresses of %s: %w", n.Name, err)
		}
		routes := make(chan netlink.RouteUpdate, 64)
		if err := netlink.RouteSubscribe(routes, done); err != nil {
			return fmt.Errorf("follow the routes of %s: %w", n.Name, err)
		}
		for {
			what, err := unsettled()
			if err != nil {
				return fmt.Errorf("read the links of %s: %w", n.Name, err)
			}
			if what == "" {
				return nil
			}
			select {
			case <-links:
			case <-addresses:
			case <-routes:
			case <-ctx.Done():
				return fmt.Errorf("%s: %s: %w", n.Name, what, ctx.Err())
			}
		}
	})
}

// unsettled says what the kernel is not done with in the calling thread's namespace; nothing, if it is.
func unsettled() (string, error) {
	links, err := netlink.LinkList()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return "links are changing", nil // which is about to be told
	}
	if err != nil {
		return "", err
	}
	running := make(map[int]bool)
	for _, listed := range links {
		// Asked for one by one, under the lock that a change of carrier holds until its consequences have happened.
		link, err := netlink.LinkByIndex(listed.Attrs().Index)
		if err != nil {
			return "links are changing", nil
		}
		flags := link.Attrs().RawFlags
		running[link.Attrs().Index] = flags&unix.IFF_RUNNING != 0
		if flags&unix.IFF_LOWER_UP != 0 && flags&unix.IFF_RUNNING == 0 {
			return link.Attrs().Name + " has a carrier that the kernel has not noticed", nil
		}
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V6)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return "addresses are changing", nil
	}
	if err != nil {
		return "", err
	}
	// Made in the same work queue as the end of duplicate address detection, and after it (addrconf_dad_work).
	local, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return "routes are changing", nil
	}
	if err != nil {
		return "", err
	}
	for _, a := range addresses {
		if !running[a.LinkIndex] || a.Flags&unix.IFA_F_DADFAILED != 0 {
			continue
		}
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			return a.IPNet.String() + " is tentative", nil
		}
		if !slices.ContainsFunc(local, func(r netlink.Route) bool {
			return r.LinkIndex == a.LinkIndex && r.Type == unix.RTN_LOCAL && r.Dst != nil && r.Dst.IP.Equal(a.IP)
		}) {
			return a.IPNet.String() + " has no local route", nil
		}
	}
	return "", nil
}
