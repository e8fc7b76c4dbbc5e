package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// discoverManaged finds an interface that KubeVirt has wired: the one that is named, else eth0, else the first. Nil when
// there is none, or when its wiring is not complete. The wiring, as KubeVirt's pkg/network/setup/netpod (managedTapSpec, at
// d923fdb) lays it:
//
//	eth0-nic   the pod's link, renamed, without an address, a port of ↓ that does not learn
//	k6t-eth0   bridge, without an address
//	tap0       tap, a port of ↑
//	eth0       placeholder, down, with the MAC, the MTU and the addresses
//
// The routes are gone: nothing keeps them.
func discoverManaged(all []plan.Link, iface string) *discovery {
	var found []*discovery
	for _, placeholder := range all {
		names := plan.ManagedTapNames(placeholder.Name)
		nic := slices.IndexFunc(all, func(l plan.Link) bool { return l.Name == names.NIC })
		bridge := slices.IndexFunc(all, func(l plan.Link) bool { return l.Name == names.Bridge })
		if nic < 0 || bridge < 0 || all[nic].MasterIndex != all[bridge].Index || !all[bridge].Up {
			continue
		}
		tap := slices.IndexFunc(all, func(l plan.Link) bool { return l.Kind == plan.KindTun && l.MasterIndex == all[bridge].Index })
		if tap < 0 {
			continue
		}
		names.Tap, names.Managed = all[tap].Name, true
		found = append(found, &discovery{all: all, nic: all[nic], names: names})
	}
	wanted := func(name string) int {
		return slices.IndexFunc(found, func(d *discovery) bool { return d.names.Interface == name })
	}
	switch {
	case len(found) == 0:
		return nil
	case iface == "":
		return found[max(0, wanted("eth0"))]
	case wanted(iface) >= 0:
		return found[wanted(iface)]
	}
	return nil
}

// managedUnderWay reports whether KubeVirt has begun to wire an interface. Then the link of that name may be the placeholder
// already.
func managedUnderWay(all []plan.Link, iface string) bool {
	names := plan.ManagedTapNames(iface)
	return slices.ContainsFunc(all, func(l plan.Link) bool { return l.Name == names.NIC || l.Name == names.Bridge })
}

// managed completes what Inspect sees of KubeVirt's wiring. What the pod's interface held is in the record; without one,
// what the placeholder keeps of it is all there is.
func (s *State) managed() {
	s.Options = plan.OptionsOf(s.Current, s.Names)
	s.Options.Binding, s.Options.Socket = plan.BindingManagedTap, plan.SocketUDP
	if s.Record != nil {
		s.Original = s.Record.Original
		return
	}
	s.Original = plan.Rebuild(s.Current, s.Names)
	for _, a := range s.Original.AddressesOf(plan.NIC) {
		if a.Is4() {
			s.Original.Routes = append(s.Original.Routes, connectedRoute(a.Local))
		}
	}
	s.Warnings = append(s.Warnings, fmt.Sprintf("KubeVirt has wired %s, and there is no record of what it held before: its routes, its gateway "+
		"and its permanent neighbours are lost, so that a guest which asks now is told of its subnet alone", s.Names.Interface))
}

// connectedRoute is the route that an address brings with it, unless the pod network took it away.
func connectedRoute(address netip.Prefix) plan.Route {
	return plan.Route{
		Destination: address.Masked(), Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_KERNEL,
		Scope: unix.RT_SCOPE_LINK, PrefSrc: address.Addr(), Hops: []plan.Hop{{Link: plan.NIC}},
	}
}

// refuseManaged refuses to change what KubeVirt has wired.
func (s *session) refuseManaged() error {
	if !s.found.names.Managed {
		return nil
	}
	return plan.Refuse("%s is wired by KubeVirt (%s), whose node agent owns it: run `podnic sidecar`, or look with `podnic status`", s.found.names.Interface, s.found.names.Bridge)
}

// RecordManaged writes down what an interface holds that KubeVirt's node agent is going to wire, since that keeps no
// routes. It needs no privilege. An interface that is wired already, or half, is left to the record that there is.
func RecordManaged(req Request) (*State, error) {
	seen, err := Inspect(req)
	if err != nil || seen.Wired || seen.underWay {
		return seen, err
	}
	store, nic := Store{req.StateDir, seen.Names.Interface}, seen.Original.Link(plan.NIC)
	if err := checkReserved(store.Interface); err != nil {
		return nil, err
	}
	if known, err := store.Load(); err == nil && known != nil && !nic.Up && known.Namespace == seen.ID && known.Original.Link(plan.NIC).Index == nic.Index {
		return seen, nil // set down to be wired: the routes are gone already
	}
	options := plan.Options{Interface: seen.Names.Interface, Binding: plan.BindingManagedTap, Socket: plan.SocketUDP}
	return seen, store.Save(&Record{
		Version: recordVersion, Namespace: seen.ID, Options: options, Original: seen.Original, Prepared: time.Now(),
	})
}

// PodInterfaces lists the links of the namespace that a pod network may have made: all but the loopback, bridges, taps and
// ports of a bridge.
func PodInterfaces(req Request) ([]string, error) {
	s, err := open(req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	all, err := s.rtnl.Links()
	if err != nil {
		return nil, err
	}
	if !req.AllowHostNamespace {
		if err := checkNotNode(all); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, l := range all {
		if l.Type == unix.ARPHRD_ETHER && l.MasterIndex == 0 && l.Kind != plan.KindBridge && l.Kind != plan.KindTun {
			names = append(names, l.Name)
		}
	}
	return names, nil
}

// AwaitWired returns what Inspect sees once the interface is wired, by podnic or by KubeVirt. It looks when the kernel says
// that something has changed, which takes no privilege.
func AwaitWired(ctx context.Context, req Request) (*State, error) {
	ns, err := OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	changed, stop, err := Watch(ns)
	if err != nil {
		return nil, err
	}
	defer stop()
	for {
		seen, err := Inspect(req)
		if err == nil && seen.Wired && seen.Names.Interface == req.Options.Interface {
			return seen, nil
		}
		select {
		case <-changed: // between two changes of a wiring there may be no interface of the name
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the wiring of %s: %w", req.Options.Interface, errors.Join(context.Cause(ctx), err))
		}
	}
}
