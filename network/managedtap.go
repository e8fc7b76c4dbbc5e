package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// discoverManaged finds the interfaces that KubeVirt has wired completely: eth0 first. The wiring, as KubeVirt's pkg/network/setup/netpod (managedTapSpec, at
// d923fdb) lays it:
//
//	eth0-nic   the pod's link, renamed, without an address, a port of ↓ that does not learn
//	k6t-eth0   bridge, without an address
//	tap0       tap, a port of ↑
//	eth0       placeholder, down, with the MAC, the MTU and the addresses
//
// The routes are gone: nothing keeps them.
func discoverManaged(all []plan.Link) []*discovery {
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
		names.Tap = all[tap].Name
		found = append(found, &discovery{all: all, nic: all[nic], names: names})
	}
	slices.SortStableFunc(found, func(a, b *discovery) int {
		return cmp.Compare(boolOf(a.names.Interface != "eth0"), boolOf(b.names.Interface != "eth0"))
	})
	return found
}

// managedUnderWay reports whether KubeVirt has begun to wire an interface. Then the link of that name may be the placeholder
// already.
func managedUnderWay(all []plan.Link, iface string) bool {
	names := plan.ManagedTapNames(iface)
	return slices.ContainsFunc(all, func(l plan.Link) bool { return l.Name == names.NIC || l.Name == names.Bridge })
}

// managed completes what Inspect sees of KubeVirt's wiring. What the pod's interface held is in the record; without one,
// what the placeholder keeps of it is all there is.
func (s *Inspection) managed() {
	s.Options = s.Names.Binding.Options(s.Current, s.Names)
	if s.Record != nil {
		s.Original = s.Record.Original
		return
	}
	s.Original = s.Names.Binding.Rebuild(s.Current, s.Names)
	s.Warnings = append(s.Warnings, fmt.Sprintf("KubeVirt has wired %s, and there is no record of what it held before: its routes, its gateway "+
		"and its permanent neighbours are lost, so that a guest which asks now is told of its subnet alone", s.Names.Interface))
}

// refuseManaged refuses to change what KubeVirt has wired.
func (s *session) refuseManaged() error {
	if s.found.names.Binding.Ours() {
		return nil
	}
	return plan.Refuse("%s is wired by KubeVirt (%s), whose node agent owns it: run `podnic sidecar`, or see `podnic status`", s.found.names.Interface, s.found.names.Bridge)
}

// RecordManaged writes down what an interface holds that KubeVirt's node agent is going to wire, since that keeps no
// routes. It needs no privilege. An interface that is wired already, or half, is left to the record that there is.
func RecordManaged(req Request) (*Inspection, error) {
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
	if notice, ok := plan.NoticeOf(nic.Alias); ok {
		options.IPv6 = notice.IPv6
		seen.Original.Heed(notice)
	}
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
		if isPodLink(l) {
			names = append(names, l.Name)
		}
	}
	return names, nil
}

// isPodLink reports whether a pod network may have made the link.
func isPodLink(l plan.Link) bool {
	return l.Type == unix.ARPHRD_ETHER && l.MasterIndex == 0 && l.Kind != plan.KindBridge && l.Kind != plan.KindTun
}

// AwaitWired returns what Inspect sees once the interface is wired, by podnic or by KubeVirt. It looks when the kernel says
// that something has changed, which takes no privilege.
func AwaitWired(ctx context.Context, req Request) (*Inspection, error) {
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
		if err == nil && seen.Wired {
			return seen, nil
		}
		select {
		case <-changed: // between two changes of a wiring there may be no interface of the name
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the wiring of %s: %w", req.Options.Interface, errors.Join(context.Cause(ctx), err))
		}
	}
}
