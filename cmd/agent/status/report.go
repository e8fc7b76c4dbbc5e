// Package status inspects an interface and puts together what the kernel says and what a serving process has said: a
// report, what is not as it should be, and the wait until things have come so far. It changes nothing.
package status

import (
	"cmp"
	"errors"
	"fmt"
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
	"github.com/podnic/podnic/network/holding"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
)

// Phases, in order. A namespace is in the last one that it has reached.
const (
	PhaseOriginal = "original" // nothing is wired
	PhaseWired    = "wired"    // the guest has the interface, and nobody serves it
	PhaseServing  = "serving"  // the server can hear the guest
	PhaseReady    = "ready"    // the guest has taken its lease, or uses the address; at layer 2, it has sent a frame
	PhaseFailed   = "failed"   // podnic gave up, or the interface is lost; the reason is among the warnings
)

// Report is what `podnic status -o json` and `podnic prepare -o json` print. Fields are added, never renamed.
type Report struct {
	APIVersion string            `json:"apiVersion"` // podnic/v1
	Phase      string            `json:"phase"`      // the lowest of the interfaces'
	Interfaces []InterfaceReport `json:"interfaces"`
	// Domain and Timeline are those of the first interface that has one.
	Domain   *statefile.Domain  `json:"domain,omitempty"`
	Timeline statefile.Timeline `json:"timeline,omitempty"`
	// Log is what libvirt called the hook for, where it was asked for.
	Log []hooklog.Entry `json:"log,omitempty"`
}

// InterfaceReport is the part of one interface. MAC, MTU, addresses and routes are the pod's; the offer is what the guest
// is told.
type InterfaceReport struct {
	Name  string `json:"name"`
	Phase string `json:"phase"`
	// Kind is that of the pod's link; none for a device of the machine.
	Kind    string `json:"kind,omitempty"`
	Binding string `json:"binding"`
	// BindingReason says why that binding was chosen, or would be, where nobody asked for it by name.
	BindingReason string         `json:"bindingReason,omitempty"`
	NIC           string         `json:"nic,omitempty"`
	Bridge        string         `json:"bridge,omitempty"`
	Tap           string         `json:"tap,omitempty"`
	MAC           identity.MAC   `json:"mac"`
	MTU           int            `json:"mtu"`
	Addresses     []netip.Prefix `json:"addresses"`
	Gateways      []netip.Addr   `json:"gateways"`
	Routes        []PodRoute     `json:"routes"`
	Offer         *dhcp.Offer    `json:"offer,omitempty"`
	Lease         dhcp.Lease     `json:"lease"`
	// LeaseUnseen says that a server answers whose state is not where this process looks: what it says of leases is not known.
	LeaseUnseen bool `json:"leaseUnseen,omitempty"`
	// Offer6 and Lease6 are those of IPv6, where it is served.
	Offer6 *dhcp.Offer6 `json:"offer6,omitempty"`
	Lease6 *dhcp.Lease6 `json:"lease6,omitempty"`
	// PodPorts are those that the pod's containers keep, GuestPorts what 127.0.0.1 leads to the guest by, and SourcePorts those that
	// the pod's connections come from, where guest and containers share the address.
	PodPorts    plan.Ports     `json:"podPorts,omitempty"`
	GuestPorts  plan.Ports     `json:"guestPorts,omitempty"`
	SourcePorts plan.PortRange `json:"sourcePorts,omitzero"`
	// SpoofGuard says that the guest cannot pose as another; Spoofed is how many of its frames that has cost since the filter was
	// put in place, where this process may see it.
	SpoofGuard bool    `json:"spoofGuard,omitempty"`
	Spoofed    *uint64 `json:"spoofed,omitempty"`
	// Links are what is there, from the pod network to the guest; the placeholder is last.
	Links []LinkReport `json:"links"`
	// Deviations are what is not as it should be.
	Deviations []Deviation `json:"differences,omitempty"`
	Warnings   []string    `json:"warnings"`
	// GuestLink is what podnic has done to the guest's link, if it has.
	GuestLink *statefile.GuestLink `json:"guestLink,omitempty"`
	// Domain is the guest that has the interface, Timeline how its network came to be.
	Domain   *statefile.Domain  `json:"domain,omitempty"`
	Timeline statefile.Timeline `json:"timeline,omitempty"`

	lost      bool // it is wired, and cannot be inspected
	unplugged bool // the guest that the record gives the interface to holds another's tap, and not this one's
}

// PodRoute is a route of the pod's main table.
type PodRoute struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"`
	Metric      uint32       `json:"metric,omitempty"`
}

// rtTableMain is RT_TABLE_MAIN.
const rtTableMain = 254

// newInterface puts together what the kernel says and what the state file of a serving process says. state may be nil; alive
// says whether that process still runs.
func newInterface(seen *network.Inspection, all []*network.Inspection, state *statefile.State, alive bool, service offering.Service) InterfaceReport {
	if state != nil {
		state.Lease = state.Lease.At(time.Now()) // the server may be gone, and have told nobody
		if state.Lease6 != nil {
			lease := state.Lease6.At(time.Now())
			state.Lease6 = &lease
		}
	}
	pod := seen.Original.Link(plan.NIC)
	r := InterfaceReport{
		Name: seen.Names.Interface, Phase: PhaseOriginal, Binding: seen.Options.Binding, BindingReason: seen.Why, Kind: pod.Kind, MAC: pod.MAC, MTU: pod.MTU,
		Addresses: []netip.Prefix{}, Gateways: []netip.Addr{}, Routes: []PodRoute{}, Warnings: []string{},
		Lease: dhcp.Lease{State: dhcp.LeaseNone}, unplugged: unplugged(seen, all),
	}
	if r.Binding == "" {
		r.Binding = plan.BindingAuto
	}
	if seen.Wired {
		r.Bridge, r.Tap = seen.Names.Bridge, seen.Names.Tap
		if r.NIC = seen.Names.NIC; r.NIC == r.Name {
			r.NIC = ""
		}
		r.guard(seen)
		r.PodPorts, r.GuestPorts, r.SourcePorts = seen.Options.PodPorts, seen.Options.GuestPorts, seen.Options.Sources
	}
	for _, a := range seen.Original.Addresses {
		if a.Link == plan.NIC && !isLinkLocal6(a.Local.Addr()) {
			r.Addresses = append(r.Addresses, a.Local)
		}
	}
	for _, route := range seen.Original.Routes {
		for _, hop := range route.Hops {
			if route.Table != rtTableMain || hop.Link != plan.NIC || isLinkLocal6(route.Destination.Addr()) {
				continue
			}
			r.Routes = append(r.Routes, PodRoute{route.Destination, hop.Gateway, route.Priority})
			if hop.Gateway.IsValid() && route.Destination.Bits() == 0 && !slices.Contains(r.Gateways, hop.Gateway) {
				r.Gateways = append(r.Gateways, hop.Gateway)
			}
		}
	}
	if seen.Wired && state != nil {
		r.Lease, r.Offer, r.Domain, r.Timeline = state.Lease, state.Offer, state.Domain, state.Timeline
		r.GuestLink = state.GuestLink
		r.Lease6, r.Offer6 = state.Lease6, state.Offer6
		r.Warnings = append(r.Warnings, state.Warnings...)
	}
	if r.Lease.State == "" {
		r.Lease.State = dhcp.LeaseNone
	}
	if !r.served() {
		offers, warnings, err := service.Offers(seen)
		if err != nil {
			warnings = append(warnings, err.Error())
		}
		r.Offer, r.Offer6 = offers.V4, offers.V6
		r.add(warnings...)
	}
	if r.Offer6 != nil && r.Lease6 == nil {
		r.Lease6 = &dhcp.Lease6{State: dhcp.LeaseNone}
	}
	r.add(seen.Warnings...)
	r.Links = linkReports(seen.Current)
	if seen.Wired {
		r.Phase = phaseOf(seen, state, alive)
		if r.LeaseUnseen = r.Phase == PhaseServing && state == nil; r.LeaseUnseen {
			r.add("what the server of " + r.Name + " says of leases is not in this --state-dir: run `podnic status` where it runs, with its --state-dir")
		}
		if state != nil && state.Failed != "" {
			r.add(state.Failed)
		}
	}
	r.Deviations = deviations(seen, &r, alive)
	for _, d := range r.Deviations {
		r.add(d.String())
	}
	return r
}

// unplugged reports whether the guest that has the interface, by its record, runs without it: it holds the tap of another.
func unplugged(seen *network.Inspection, all []*network.Inspection) bool {
	if !seen.Wired || seen.Attached || seen.Record == nil || seen.Record.Domain == nil {
		return false
	}
	guest := seen.Record.Domain
	return slices.ContainsFunc(all, func(o *network.Inspection) bool {
		return o.Wired && o.Attached && o.Record != nil && o.Record.Domain.Is(guest.Name, guest.UUID)
	})
}

// guard says what the spoof guard does.
func (r *InterfaceReport) guard(seen *network.Inspection) {
	if r.SpoofGuard = seen.Options.Guarded(); !r.SpoofGuard || seen.FilterHidden && !seen.Options.TC {
		return
	}
	lies, counted := seen.Current.Lies(seen.Options)
	if !counted {
		return
	}
	if r.Spoofed = &lies; lies > 0 {
		r.add(fmt.Sprintf("the guest sent %d frames in another's name, which the spoof guard dropped", lies))
	}
}

// Ports lists the ports of pod and guest, in a line; empty where nothing is shared.
func (r *InterfaceReport) Ports() string {
	if r.Binding != plan.BindingShared || r.SourcePorts == (plan.PortRange{}) {
		return ""
	}
	text := "the pod keeps " + cmp.Or(r.PodPorts.String(), "no port")
	text += fmt.Sprintf(" and connects from %s; all others are the guest's", r.SourcePorts)
	if len(r.GuestPorts) > 0 {
		text += fmt.Sprintf(", and 127.0.0.1 is the guest on %s", r.GuestPorts)
	}
	return text
}

// newReport sums up all interfaces. There is one at least.
func newReport(interfaces []InterfaceReport) *Report {
	report := &Report{APIVersion: "podnic/v1", Phase: interfaces[0].Phase, Interfaces: interfaces}
	for _, r := range interfaces {
		if phaseOrder[r.Phase] < phaseOrder[report.Phase] {
			report.Phase = r.Phase
		}
		if report.Domain == nil {
			report.Domain = r.Domain
		}
		if report.Timeline == nil {
			report.Timeline = r.Timeline
		}
	}
	return report
}

// isLinkLocal6 tells what every link with IPv6 has and what says nothing of the pod.
func isLinkLocal6(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// served reports whether there is a server of either family.
func (r *InterfaceReport) served() bool { return r.Offer != nil || r.Offer6 != nil }

func (r *InterfaceReport) add(warnings ...string) {
	for _, w := range warnings {
		if !slices.Contains(r.Warnings, w) {
			r.Warnings = append(r.Warnings, w)
		}
	}
}

func phaseOf(seen *network.Inspection, state *statefile.State, alive bool) string {
	layer2 := !slices.ContainsFunc(seen.Original.Addresses, func(a plan.Address) bool { return a.Local.Addr().Is4() }) &&
		(state == nil || state.Offer6 == nil)
	switch {
	case state != nil && state.Failed != "":
		return PhaseFailed
	case !alive || state != nil && state.Ready.IsZero():
		return PhaseWired
	case layer2 && seen.Current.Link(plan.Tap) != nil && seen.Current.Link(plan.Tap).RxFrames > 0:
		return PhaseReady
	case state != nil && state.InUse(time.Now()):
		return PhaseReady
	}
	return PhaseServing
}

// Read inspects the namespace, and reads what serving processes say. It changes nothing. The report has the interfaces in the
// order of the states, and behind them those that are lost.
func Read(req network.Request, service offering.Service) (*Report, []*network.Inspection, error) {
	seen, lost, err := network.InspectEach(ReadOnly(req))
	if err != nil {
		return nil, nil, err
	}
	report, err := NewReport(req, seen, service)
	if err != nil {
		return nil, nil, err
	}
	report.AddLost(lost)
	return report, seen, nil
}

// AddLost adds the interfaces that cannot be inspected, behind the others.
func (r *Report) AddLost(lost []network.Lost) {
	for _, l := range lost {
		r.Interfaces = append(r.Interfaces, newLost(l))
	}
}

// newLost is the report of an interface that cannot be inspected. The phase of the whole is that of the others.
func newLost(l network.Lost) InterfaceReport {
	return InterfaceReport{
		Name: l.Names.Interface, Phase: PhaseFailed, Binding: l.Names.Binding.Name(),
		Addresses: []netip.Prefix{}, Gateways: []netip.Addr{}, Routes: []PodRoute{}, Links: []LinkReport{},
		Lease: dhcp.Lease{State: dhcp.LeaseNone}, Warnings: []string{l.Reason.Error()}, lost: true,
	}
}

// ReadOnly is a request that changes nothing: it also believes the users who serve in the namespace.
func ReadOnly(req network.Request) network.Request {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return req // the inspection will say so
	}
	defer ns.Close()
	holders, _ := presence.All(ns) // likewise
	for _, h := range holders {
		req.Others = append(req.Others, h.UID)
	}
	return req
}

// servedBy is the process that serves an interface, if there is one, and what its state file says, which may belong to another
// user: it is about this process's guest alone.
func servedBy(ns *network.Namespace, req network.Request, seen *network.Inspection) (*holding.Socket, *statefile.State, error) {
	holder, err := presence.Of(ns, seen.Names.Interface)
	if err != nil {
		return nil, nil, err
	}
	var others []uint32
	if holder != nil {
		others = append(others, holder.UID)
	}
	state, err := statefile.Load(req.StateDir, seen.Names.Interface, seen.ID, others...)
	if err != nil {
		err = &unreadError{err}
	}
	return holder, state, err
}

// unreadError says that a state file cannot be read or is not to be believed.
type unreadError struct{ error }

func (e *unreadError) Unwrap() error { return e.error }

// Known is a serving process's state file, as far as status believes it; nil if there is none.
func Known(req network.Request, seen *network.Inspection) (*statefile.State, error) {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	_, state, err := servedBy(ns, req, seen)
	return state, err
}

// NewReport adds what serving processes say to what an inspection of the namespace showed of each interface.
func NewReport(req network.Request, seen []*network.Inspection, service offering.Service) (*Report, error) {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	interfaces := make([]InterfaceReport, len(seen))
	for i, one := range seen {
		holder, state, err := servedBy(ns, req, one)
		if unread, ok := errors.AsType[*unreadError](err); !ok && err != nil {
			return nil, err
		} else if ok && !told(one, unread.error) {
			one.Warnings = append(one.Warnings, unread.Error())
		}
		interfaces[i] = newInterface(one, seen, state, holder != nil, service.Of(one, seen))
	}
	return newReport(interfaces), nil
}

// told reports whether an inspection has warned already of a directory that is not to be believed.
func told(seen *network.Inspection, err error) bool {
	lost, untrusted := errors.AsType[*statedir.UntrustedError](err)
	return untrusted && slices.ContainsFunc(seen.Warnings, func(w string) bool { return strings.Contains(w, lost.Error()) })
}
