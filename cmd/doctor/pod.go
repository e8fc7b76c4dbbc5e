package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/probe"
)

// shape says what the pod has and what the guest will get of it.
func (v *visit) shape() outcome {
	req := v.Request
	if v.seen != nil {
		req.Options.Interface = v.seen.Names.Interface
	}
	if err := network.Shape(req); err != nil {
		return refusal(Fail, err)
	}
	if v.unseen != nil {
		return refusal(Fail, v.unseen)
	}
	r := v.r
	if r.Offer == nil && r.Offer6 == nil {
		return warn("%s has no IPv4 address: the guest gets layer 2 only, and no DHCP server", r.Name).but("nothing, if that is what is wanted; else give the pod an IPv4 address")
	}
	text := fmt.Sprintf("%s has %s: the guest gets %s", r.Name, joined(r.Addresses), gets(r))
	if r.Binding != plan.BindingBridge {
		text += ", binding " + r.Binding
		if r.BindingReason != "" {
			text += " (" + r.BindingReason + ")"
		}
	}
	if ports := r.Ports(); ports != "" {
		text += "; " + ports
	}
	// What the guest does not get, status warns of. Deviations have a check of their own.
	if left := v.left(); len(left) > 0 {
		return warn("%s; not handed over: %s", text, strings.Join(left, "; ")).but("configure in the guest what it needs of them, or do without")
	}
	return ok("%s", text)
}

// gets is what the guest is offered of each family, in short.
func gets(r status.InterfaceReport) string {
	var all []string
	add := func(addresses string, router netip.Addr, mtu, routes int) {
		if router.IsValid() {
			addresses += " by way of " + router.String()
		}
		all = append(all, fmt.Sprintf("%s, MTU %d, routes: %d", addresses, mtu, routes))
	}
	if o := r.Offer; o != nil {
		add(o.Address.String(), o.Gateway, o.MTU, len(o.Routes))
	}
	if o := r.Offer6; o != nil {
		add(joined(o.Addresses), o.Router, o.MTU, len(o.Routes))
	}
	return strings.Join(all, "; and ")
}

// left is what the identity that a guest gets lacks of the pod's.
func (v *visit) left() []string {
	_, left := v.seen.Identity()
	return left
}

// wiring lists what is not as it should be.
func (v *visit) wiring() outcome {
	r := v.r
	switch {
	case len(r.Deviations) > 0:
	case len(v.seen.Warnings) > 0: // of the record, say
		return sentence(Warn, v.seen.Warnings[0])
	case !v.seen.Wired:
		return ok("nothing is wired")
	default:
		return ok("%s is wired as it should be (%s)", r.Name, v.r.Phase)
	}
	var what []string
	for _, d := range r.Deviations {
		what = append(what, d.What)
	}
	o := fail("%s", strings.Join(what, "; "))
	if !slices.ContainsFunc(r.Deviations, func(d status.Deviation) bool { return slices.Contains(wiringPlaces, d.Where) }) {
		o.remedy = r.Deviations[0].Remedy
	}
	return o
}

// wiringPlaces are the places that prepare mends.
var wiringPlaces = []plan.Role{plan.NIC, plan.Bridge, plan.Tap, plan.Placeholder, plan.FilterPlace}

// resolver looks at what the guest would have to reach.
func (v *visit) resolver() outcome {
	r := v.r
	switch {
	case v.Service.ResolvConf == "":
		return unknown("the pod's resolver configuration is not known outside the pod").but("run it in the pod, without --netns")
	case r.Offer == nil && r.Offer6 == nil:
		return ok("the guest is told no resolver: there is no DHCP at layer 2")
	case v.beside():
		return ok("the guest is told its resolver on the interface with the default route")
	}
	servers := told(r)
	if len(servers) == 0 {
		reason := "the guest is told no name server"
		for _, w := range r.Warnings {
			if strings.HasPrefix(w, "resolver ") || strings.Contains(w, "resolver configuration") {
				reason += "; " + w
			}
		}
		return fail("%s", reason)
	}
	for _, server := range servers {
		if !reaches(r, server) {
			return warn("no route of the guest leads to the name server %s", server)
		}
	}
	for _, w := range r.Warnings {
		if strings.HasPrefix(w, "resolver ") {
			return warn("%s", w)
		}
	}
	return ok("the guest is told %s", joined(servers))
}

// told are the name servers that the guest is told, by either family.
func told(r status.InterfaceReport) []netip.Addr {
	var all []netip.Addr
	if r.Offer != nil {
		all = append(all, r.Offer.DNS...)
	}
	if r.Offer6 != nil {
		all = append(all, r.Offer6.DNS...)
	}
	return all
}

// beside reports whether another interface of the guest tells it what is of the whole machine.
func (v *visit) beside() bool {
	var all []*network.Inspection
	for _, l := range v.all {
		all = append(all, l.seen)
	}
	return v.Service.Of(v.seen, all).Beside
}

// reaches reports whether the guest has a route to an address.
func reaches(r status.InterfaceReport, a netip.Addr) bool {
	leads := func(r identity.Route) bool { return r.Destination.Contains(a) }
	if a.Is4() {
		o := r.Offer
		return o.Gateway.IsValid() || o.Address.Contains(a) || slices.ContainsFunc(o.Routes, leads)
	}
	return slices.ContainsFunc(r.Offer6.Routes, leads)
}

// mtu compares what the links carry with what the guest is told, and that with what routes say.
func (v *visit) mtu() outcome {
	r := v.r
	told := v.seen.Original.GuestMTU()
	if r.Offer != nil && r.Offer.MTU > 0 {
		told = r.Offer.MTU
	} else if r.Offer6 != nil && r.Offer6.MTU > 0 {
		told = r.Offer6.MTU
	}
	if v.seen.Wired {
		for _, l := range r.Links {
			if l.MTU < told && l.Role != plan.Placeholder {
				return fail("%s has the MTU %d, and the guest is told %d: its larger packets are lost", l.Name, l.MTU, told)
			}
		}
	}
	for _, route := range v.seen.Original.Routes {
		if mtu := route.MTU(); mtu > 0 && mtu < told {
			return warn("the route %s has the MTU %d, and the guest is told %d, since DHCP knows one MTU", route, mtu, told).but("hand out the smaller one with --mtu %d", mtu)
		}
	}
	if told == v.seen.Original.GuestMTU() && told < r.MTU {
		return ok("%s has the MTU %d, and the guest is told %d, the most that a tap carries", r.Name, r.MTU, told)
	}
	if told < r.MTU {
		return ok("%s has the MTU %d, and the guest is told %d, the default route's", r.Name, r.MTU, told)
	}
	return ok("pod and guest have the MTU %d", told)
}

// mac compares the guest's with the pod's, where the guest can be seen.
func (v *visit) mac() outcome {
	r := v.r
	why := v.insists()
	if card, known := v.card(); known && card != r.MAC {
		return fail("the guest's card has the MAC %s, and the pod's is %s%s", card, r.MAC, why)
	}
	for _, w := range r.Warnings {
		if dhcp.IsForeign(w) {
			return fail("%s%s", w, why)
		}
	}
	return ok("the guest is given the pod's MAC, %s%s", r.MAC, why)
}

// insists is what speaks for a pod network that drops the frames of other MACs.
func (v *visit) insists() string {
	mac, nic := v.r.MAC, v.seen.Original
	for _, a := range v.r.Addresses {
		// OVN-Kubernetes makes the MAC from the address (util.IPAddrToHWAddr), and its port security knows no other.
		if a.Addr().Is4() && mac[0] == 0x0a && mac[1] == 0x58 && [4]byte(mac[2:]) == a.Addr().As4() {
			return ", which is made from the address, as OVN-Kubernetes does, whose port security drops other MACs"
		}
	}
	for _, n := range nic.Neighbours {
		if n.Link == plan.NIC && slices.Contains(v.r.Gateways, n.Address) {
			return ", which a network with a permanent entry for its gateway, as AWS VPC's, knows by heart"
		}
	}
	return ""
}

// iptables looks at packet filters that the bridge hands its frames to.
func (v *visit) iptables() outcome {
	var on []string
	for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		value, err := probe.Sysctl(v.ns, "net/bridge/"+name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return unknown("%v", err)
		}
		if value != "0" {
			on = append(on, "net.bridge."+name)
		}
	}
	if len(on) == 0 {
		return ok("the bridge does not hand its frames to iptables")
	}
	set := strings.Join(on, " and ") + " set"
	filters, err := probe.PacketFilters(v.ns)
	switch {
	case errors.Is(err, probe.ErrHidden):
		return unknown("with %s, whether there are rules: %v", set, err).but("run it with CAP_NET_ADMIN")
	case err != nil:
		return unknown("%v", err)
	case len(filters) == 0:
		return ok("with %s, the pod has no rules", set)
	}
	return warn("with %s, rules of the pod meet the guest's traffic: %s", set, strings.Join(filters, ", "))
}

// libvirtNetwork looks for the bridge of libvirt's network `default`, which Debian's package starts with the daemon.
func (v *visit) libvirtNetwork() outcome {
	names, err := probe.LinkNames(v.ns)
	if err != nil {
		return unknown("%v", err)
	}
	for _, name := range names {
		if number, found := strings.CutPrefix(name, "virbr"); found && isNumber(number) {
			return warn("libvirt runs a network of its own in the pod (%s): a DHCP server on port 67, and firewall rules", name)
		}
	}
	return ok("libvirt runs no network of its own in the pod")
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// wiredOnes are the interfaces that are wired.
func (v *visit) wiredOnes() []inspected {
	return slices.DeleteFunc(slices.Clone(v.all), func(l inspected) bool { return !l.seen.Wired })
}

// allByUDP reports whether all servers hear the guest by UDP, which takes no capability.
func (v *visit) allByUDP() bool {
	return !slices.ContainsFunc(v.wiredOnes(), func(l inspected) bool { return l.seen.Options.Socket != plan.SocketUDP })
}

// socket is how servers hear the guest: by UDP, which takes more of a pod, if one of them does.
func (v *visit) socket() string {
	if wired := v.wiredOnes(); len(wired) > 0 {
		if slices.ContainsFunc(wired, func(l inspected) bool { return l.seen.Options.Socket == plan.SocketUDP }) {
			return plan.SocketUDP
		}
		return plan.SocketPacket
	}
	if v.Request.Options.Socket != "" {
		return v.Request.Options.Socket
	}
	return plan.SocketPacket
}

// dhcpPort is the server's (RFC 2131).
const dhcpPort = 67

// ports: a UDP socket on port 67 takes a privilege that the server does not have.
func (v *visit) ports() outcome {
	value, err := probe.Sysctl(v.ns, "net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return unknown("%v", err)
	}
	start, err := strconv.Atoi(value)
	switch {
	case err != nil:
		return unknown("net.ipv4.ip_unprivileged_port_start is %q", value)
	case v.socket() != plan.SocketUDP:
		return ok("not needed with a packet socket (unprivileged ports begin at %d)", start)
	case start > dhcpPort:
		return fail("unprivileged ports begin at %d, so a server without privileges cannot have port %d", start, dhcpPort)
	}
	return ok("unprivileged ports begin at %d", start)
}

// martians: the guest's packets come from an address that the placeholder has too, and the stack drops those.
func (v *visit) martians() outcome {
	value, err := probe.Sysctl(v.ns, "net/ipv4/conf/all/accept_local")
	needed := func(l inspected) bool {
		return l.seen.Options.Socket == plan.SocketUDP && !l.seen.Names.Binding.KeepsNIC()
	}
	wired := v.wiredOnes()
	kept := len(wired) == 0 && v.seen != nil && v.seen.Names.Binding.KeepsNIC() || len(wired) > 0 && !slices.ContainsFunc(wired, needed)
	switch {
	case err != nil:
		return unknown("%v", err)
	case v.socket() != plan.SocketUDP:
		return ok("not needed with a packet socket (net.ipv4.conf.all.accept_local is %s)", value)
	case kept:
		return ok("the tap of a redirect takes the guest's packets whatever net.ipv4.conf.all.accept_local is (%s)", value)
	case value == "0":
		return fail("net.ipv4.conf.all.accept_local is 0, so the stack drops the guest's renewals")
	}
	return ok("net.ipv4.conf.all.accept_local is %s", value)
}

func joined[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}
