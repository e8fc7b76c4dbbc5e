// Package status looks at an interface and puts together what the kernel says and what a serving process has said: a
// report, what is not as it should be, and the wait until things have come so far. It changes nothing.
package status

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/hooklog"
	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/statedir"
)

// Phases, in order. A namespace is in the last one that it has reached.
const (
	PhaseOriginal = "original" // nothing is wired
	PhaseWired    = "wired"    // the guest has the interface, and nobody serves it
	PhaseServing  = "serving"  // the server can hear the guest
	PhaseReady    = "ready"    // the guest has taken its lease, or uses the address; at layer 2, it has sent a frame
	PhaseFailed   = "failed"   // podnic gave up; the reason is among the warnings
)

// Report is what `podnic status -o json` and `podnic prepare -o json` print. Fields are added, never renamed.
type Report struct {
	APIVersion string             `json:"apiVersion"` // podnic/v1
	Phase      string             `json:"phase"`
	Interfaces []InterfaceReport  `json:"interfaces"`
	Domain     *statefile.Domain  `json:"domain,omitempty"`
	Timeline   statefile.Timeline `json:"timeline,omitempty"`
	// Log is what libvirt called the hook for, where it was asked for.
	Log []hooklog.Entry `json:"log,omitempty"`
}

// InterfaceReport is the part of one interface. MAC, MTU, addresses and routes are the pod's; the offer is what the guest
// is told.
type InterfaceReport struct {
	Name      string         `json:"name"`
	Binding   string         `json:"binding"`
	NIC       string         `json:"nic,omitempty"`
	Bridge    string         `json:"bridge,omitempty"`
	Tap       string         `json:"tap,omitempty"`
	MAC       identity.MAC   `json:"mac"`
	MTU       int            `json:"mtu"`
	Addresses []netip.Prefix `json:"addresses"`
	Gateways  []netip.Addr   `json:"gateways"`
	Routes    []PodRoute     `json:"routes"`
	Offer     *dhcp.Offer    `json:"offer,omitempty"`
	Lease     dhcp.Lease     `json:"lease"`
	// Links are what is there, from the pod network to the guest; the placeholder is last.
	Links []LinkReport `json:"links"`
	// Differences are what is not as it should be.
	Differences []Difference `json:"differences,omitempty"`
	Warnings    []string     `json:"warnings"`
}

// PodRoute is a route of the pod's main table.
type PodRoute struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"`
	Metric      uint32       `json:"metric,omitempty"`
}

// rtTableMain is RT_TABLE_MAIN.
const rtTableMain = 254

// newReport puts together what the kernel says and what the state file of a serving process says. state may be nil; alive says
// whether that process still runs.
func newReport(seen *network.State, state *statefile.State, alive bool, service offering.Service) *Report {
	if state != nil {
		state.Lease = state.Lease.At(time.Now()) // the server may be gone, and have told nobody
	}
	pod := seen.Original.Link(network.NIC)
	r := InterfaceReport{
		Name: seen.Names.Interface, Binding: seen.Options.Binding, MAC: pod.MAC, MTU: pod.MTU,
		Addresses: []netip.Prefix{}, Gateways: []netip.Addr{}, Routes: []PodRoute{}, Warnings: []string{},
		Lease: dhcp.Lease{State: dhcp.LeaseNone},
	}
	if r.Binding == "" {
		r.Binding = network.BindingBridge
	}
	if seen.Wired {
		r.NIC, r.Bridge, r.Tap = seen.Names.NIC, seen.Names.Bridge, seen.Names.Tap
	}
	for _, a := range seen.Original.Addresses {
		if a.Link == network.NIC && !isLinkLocal6(a.Local.Addr()) {
			r.Addresses = append(r.Addresses, a.Local)
		}
	}
	for _, route := range seen.Original.Routes {
		for _, hop := range route.Hops {
			if route.Table != rtTableMain || hop.Link != network.NIC || isLinkLocal6(route.Destination.Addr()) {
				continue
			}
			r.Routes = append(r.Routes, PodRoute{route.Destination, hop.Gateway, route.Priority})
			if hop.Gateway.IsValid() && route.Destination.Bits() == 0 && !slices.Contains(r.Gateways, hop.Gateway) {
				r.Gateways = append(r.Gateways, hop.Gateway)
			}
		}
	}
	report := &Report{APIVersion: "podnic/v1", Phase: PhaseOriginal}
	if seen.Wired && state != nil {
		r.Lease, r.Offer, report.Domain, report.Timeline = state.Lease, state.Offer, state.Domain, state.Timeline
		r.Warnings = append(r.Warnings, state.Warnings...)
	}
	if r.Lease.State == "" {
		r.Lease.State = dhcp.LeaseNone
	}
	if r.Offer == nil {
		offer, warnings, err := service.Offer(seen)
		if err != nil {
			warnings = append(warnings, err.Error())
		}
		r.Offer = offer
		r.add(warnings...)
	}
	r.add(seen.Warnings...)
	r.Links = linkReports(seen.Current)
	if seen.Wired {
		report.Phase = phaseOf(seen, state, alive)
		if state != nil && state.Failed != "" {
			r.add(state.Failed)
		}
	}
	r.Differences = differences(seen, report, r.Lease, alive)
	for _, d := range r.Differences {
		r.add(d.String())
	}
	report.Interfaces = []InterfaceReport{r}
	return report
}

// isLinkLocal6 tells what every link with IPv6 has and what says nothing of the pod.
func isLinkLocal6(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

func (r *InterfaceReport) add(warnings ...string) {
	for _, w := range warnings {
		if !slices.Contains(r.Warnings, w) {
			r.Warnings = append(r.Warnings, w)
		}
	}
}

func phaseOf(seen *network.State, state *statefile.State, alive bool) string {
	layer2 := !slices.ContainsFunc(seen.Original.Addresses, func(a network.Address) bool { return a.Local.Addr().Is4() })
	switch {
	case state != nil && state.Failed != "":
		return PhaseFailed
	case !alive || state != nil && state.Ready.IsZero():
		return PhaseWired
	case layer2 && seen.Current.Link(network.Tap) != nil && seen.Current.Link(network.Tap).RxFrames > 0:
		return PhaseReady
	case state != nil && state.Lease.At(time.Now()).InUse():
		return PhaseReady
	}
	return PhaseServing
}

// Read looks at the namespace and at what a serving process says. It changes nothing.
func Read(req network.Request, service offering.Service) (*Report, *network.State, error) {
	seen, err := network.Inspect(Looking(req))
	if err != nil {
		return nil, nil, err
	}
	report, err := NewReport(req, seen, service)
	return report, seen, err
}

// Looking is a request that changes nothing: it also believes the users who serve in the namespace.
func Looking(req network.Request) network.Request {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return req // whoever looks will say so
	}
	defer ns.Close()
	holders, _ := presence.All(ns) // likewise
	for _, h := range holders {
		req.Others = append(req.Others, h.UID)
	}
	return req
}

func holderIn(req network.Request, seen *network.State) (*network.SocketHolder, error) {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return presence.Of(ns, seen.Names.Interface)
}

// stateOf is the state of the interface for whoever looks. Who serves may be another user, and what it says is of its guest
// alone.
func stateOf(req network.Request, seen *network.State, holder *network.SocketHolder) (*statefile.State, error) {
	var others []uint32
	if holder != nil {
		others = append(others, holder.UID)
	}
	return statefile.Load(req.StateDir, seen.Names.Interface, seen.ID, others...)
}

// Known is a serving process's state file, as far as status believes it; nil if there is none.
func Known(req network.Request, seen *network.State) (*statefile.State, error) {
	holder, err := holderIn(req, seen)
	if err != nil {
		return nil, err
	}
	return stateOf(req, seen, holder)
}

// NewReport adds what a serving process says to what a look at the namespace showed.
func NewReport(req network.Request, seen *network.State, service offering.Service) (*Report, error) {
	holder, err := holderIn(req, seen)
	if err != nil {
		return nil, err
	}
	state, err := stateOf(req, seen, holder)
	lost, untrusted := errors.AsType[*statedir.UntrustedError](err)
	known := untrusted && slices.ContainsFunc(seen.Warnings, func(w string) bool { return strings.Contains(w, lost.Error()) })
	if err != nil && !known {
		seen.Warnings = append(seen.Warnings, err.Error())
	}
	return newReport(seen, state, holder != nil, service), nil
}
