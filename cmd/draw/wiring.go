package draw

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

// mark stands before what is not as it should be.
const mark = "✗ "

// most is how many addresses, routes or name servers of one kind are drawn. JSON has all of them.
const most = 8

// Text draws each interface, top to bottom as a packet to the guest passes it, in at most Width columns: what the kernel has,
// with a mark at what differs from what should be, the lease, the timeline, and then the list of what is wrong.
func Text(w io.Writer, v status.View, color bool) error {
	_, err := io.WriteString(w, strings.Join(lines(v, color), "\n")+"\n")
	return err
}

func lines(v status.View, color bool) []string {
	var all []string
	for _, d := range drawings(v) {
		if len(all) > 0 {
			all = append(all, "")
		}
		d.color = color
		all = append(all, d.draw()...)
	}
	return all
}

// drawing is that of one interface.
type drawing struct {
	canvas
	at    time.Time
	seen  *network.Inspection // nil of one that is lost
	r     status.InterfaceReport
	names int // columns that the names of links take
}

// drawings are those of an inspection, yet to be drawn.
func drawings(v status.View) []*drawing {
	all := make([]*drawing, len(v.Seen))
	for i, seen := range v.Seen {
		all[i] = &drawing{at: v.At, seen: seen, r: v.Report.Interfaces[i]}
	}
	for _, lost := range v.Report.Interfaces[len(v.Seen):] {
		all = append(all, &drawing{at: v.At, r: lost})
	}
	return all
}

func (d *drawing) draw() []string {
	if d.seen == nil { // there is nothing to draw
		d.put(bad, d.r.Name+": "+d.phase())
		d.line("")
		d.remarks()
		return d.lines
	}
	for _, l := range d.r.Links {
		d.names = max(d.names, columns(printable.Line(l.Name)))
	}
	d.names = max(d.names, 10)
	heading := d.r.Name + ": " + d.phase()
	if n := len(d.r.Deviations); n > 0 {
		heading += fmt.Sprintf("  %s%d not as it should be", mark, n)
	}
	d.put(d.phaseStyle(), heading)
	d.line("")
	if d.seen.Wired {
		d.wired()
	} else {
		d.original()
	}
	d.timeline()
	d.remarks()
	return d.lines
}

// indent is where what belongs to a link begins.
const indent = 13

func (d *drawing) detail(format string, args ...any) {
	d.wrap(plain, strings.Repeat(" ", indent), fmt.Sprintf(format, args...))
}

// wire is a part of the line between two links, with a remark beside it.
func (d *drawing) wire(format string, args ...any) {
	d.beside(plain, "", fmt.Sprintf(format, args...))
}

// beside draws a text, which a mark may begin, beside the line between two links. The line goes on where the text takes several.
func (d *drawing) beside(s style, begin, text string) {
	line := fmt.Sprintf("%-*s", indent, "      │")
	for _, wrapped := range Wrap(line+begin, text) {
		d.put(s, line+string([]rune(wrapped)[indent:]))
	}
}

func (d *drawing) wired() {
	d.place(status.PlaceNetwork, "pod network", ifSet("gateway ", firstOf(d.r.Gateways)))
	d.wire("")
	d.link(plan.NIC)
	d.wire("")
	if d.seen.Names.Has(plan.Bridge) {
		d.link(plan.Bridge)
	} else {
		switch ports := d.r.Ports(); {
		case ports != "":
			d.wire("%s: %s", d.r.Binding, ports)
		case d.r.Binding == plan.BindingShared:
			d.wire("%s: this process cannot tell which ports are the pod's", d.r.Binding)
		default:
			d.wire("%s: the pod's own processes reach nobody by %s", d.r.Binding, d.r.Name)
		}
		if d.r.BindingReason != "" {
			d.wire("%s", d.r.BindingReason)
		}
	}
	d.filter()
	d.wire("")
	d.link(plan.Tap)
	d.server()
	d.guest()
	if d.seen.Names.Has(plan.Placeholder) {
		d.line("")
		d.link(plan.Placeholder)
		if len(d.deviations(plan.Placeholder)) == 0 {
			d.detail("the placeholder: keeps the pod's name, MAC, MTU and addresses")
		}
	}
	for _, l := range d.r.Links {
		if strings.HasPrefix(string(l.Role), "stray") {
			d.line("")
			d.link(l.Role)
		}
	}
}

// original draws what the pod has while nothing is wired.
func (d *drawing) original() {
	d.line("  pod network")
	d.wire("")
	d.link(plan.NIC)
	d.list("route", len(d.r.Routes), func(i int) string {
		route := d.r.Routes[i]
		text := describeRoute(route.Destination, route.Gateway)
		if route.Metric > 0 {
			text += fmt.Sprintf(" metric %d", route.Metric)
		}
		return text
	})
	d.line("")
	d.line("  a guest would get")
	d.offer()
	d.offer6()
}

// deviations are those at a place.
func (d *drawing) deviations(place plan.Role) []status.Deviation {
	var there []status.Deviation
	for _, deviation := range d.r.Deviations {
		if deviation.Where == place {
			there = append(there, deviation)
		}
	}
	return there
}

// place draws the heading of a place, with its differences below it.
func (d *drawing) place(place plan.Role, name, text string) {
	begin, s, name := "  ", plain, printable.Line(name)
	at := d.deviations(place)
	if len(at) > 0 {
		begin, s = mark, bad
	}
	d.put(s, strings.TrimRight(fmt.Sprintf("%s%-*s %s", begin, d.names, name, text), " "))
	d.marks(at, "")
}

func (d *drawing) marks(at []status.Deviation, said string) {
	for _, deviation := range at {
		if deviation.What != said {
			d.wrap(bad, strings.Repeat(" ", indent)+mark, deviation.What)
		}
	}
}

// find finds a link by its role; nil when it is missing.
func (d *drawing) find(role plan.Role) *status.LinkReport {
	for i := range d.r.Links {
		if d.r.Links[i].Role == role {
			return &d.r.Links[i]
		}
	}
	return nil
}

// link draws one link: name, MAC, state, MTU, frames, addresses.
func (d *drawing) link(role plan.Role) {
	if l := d.find(role); l != nil {
		d.place(role, l.Name, describeLink(*l))
		d.list("", len(l.Addresses), func(i int) string { return l.Addresses[i].String() })
		return
	}
	name := printable.Line(d.seen.Names.Of(role))
	d.put(bad, fmt.Sprintf("%s%-*s is missing", mark, d.names, name))
	d.marks(d.deviations(role), name+" is missing")
}

func describeLink(l status.LinkReport) string {
	state := "up"
	switch {
	case !l.Up:
		state = "down"
	case !l.Carrier && l.Role != plan.Tap:
		state = "up, no carrier"
	}
	text := fmt.Sprintf("%s  %-4s  mtu %-4d", l.MAC, state, l.MTU)
	if l.Role == plan.Placeholder {
		return text // it is down, and nothing passes it
	}
	text += fmt.Sprintf("  in %s  out %s", count(l.Received), count(l.Sent))
	if l.Dropped > 0 {
		text += "  lost " + count(l.Dropped)
	}
	return text
}

// count writes a number in at most five columns.
func count(n uint64) string {
	if n < 10_000 {
		return fmt.Sprint(n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"k", "M", "G", "T", "P", "E"} {
		if value /= 1000; value < 999.5 {
			break
		}
	}
	if value < 99.95 {
		return fmt.Sprintf("%.1f%s", value, unit)
	}
	return fmt.Sprintf("%.0f%s", value, unit)
}

// list draws a few of many.
func (d *drawing) list(what string, n int, text func(int) string) {
	if what != "" {
		what += " "
	}
	for i := range min(n, most) {
		d.detail("%s%s", what, text(i))
	}
	if n > most {
		d.detail("%sand %d more, which -o json lists", what, n-most)
	}
}

// filter says what keeps guest and pod network apart.
func (d *drawing) filter() {
	switch filter := d.seen.Current.Filter; {
	case len(d.deviations(plan.FilterPlace)) > 0:
		for _, deviation := range d.deviations(plan.FilterPlace) {
			d.beside(bad, mark, "filter "+deviation.What)
		}
	case d.seen.FilterHidden:
		d.wire("filter: not looked at, since that requires CAP_NET_ADMIN")
	case filter != nil && d.r.SpoofGuard:
		d.wire("filter %s, %d rules, with a spoof guard", filter.Table, len(filter.Rules))
	case filter != nil:
		d.wire("filter %s, %d rules", filter.Table, len(filter.Rules))
	default:
		d.wire("no filter")
	}
}

// server says who answers the guest.
func (d *drawing) server() {
	at := d.deviations(status.PlaceServer)
	for _, deviation := range at {
		d.beside(bad, mark, deviation.What)
	}
	offer, six := d.r.Offer, d.r.Offer6
	switch {
	case len(at) > 0:
	case offer == nil && six == nil:
		d.wire("layer 2 only: no address, no DHCP")
	case d.r.Phase == status.PhaseWired:
		d.wire("no DHCP server yet")
	default:
		if offer != nil {
			d.wire("DHCP server %s, %s socket", offer.ServerIdentifier, offer.Socket)
		}
		if six != nil {
			d.wire("DHCPv6 server %s, %s socket", six.Server, six.Socket)
		}
	}
	at = d.deviations(status.PlaceGuest)
	for _, deviation := range at {
		d.beside(bad, mark, deviation.What)
	}
	tap := d.find(plan.Tap)
	switch {
	case len(at) > 0 || tap == nil || !tap.Up: // whether somebody holds a tap shows only while it is up
	case tap.Carrier && d.r.GuestLink != nil && d.r.GuestLink.Lowered:
		d.wire("guest attached, its link is down")
	case tap.Carrier:
		d.wire("guest attached")
	default:
		d.wire("nobody holds the other end")
	}
}

func (d *drawing) guest() {
	name := ""
	if domain := d.r.Domain; domain != nil {
		name = fmt.Sprintf("%s (%s)", domain.Name, domain.State)
	}
	d.place("", "guest", name)
	d.detail("%s  mtu %d", d.r.MAC, d.guestMTU())
	if d.r.Offer != nil {
		d.offer()
		d.detail("lease %s", d.leaseOr(describeLease(d.r.Lease)))
	}
	if d.r.Offer6 != nil && d.r.Lease6 != nil {
		d.offer6()
		d.detail("lease of IPv6 %s", d.leaseOr(describeLease6(*d.r.Lease6)))
	}
}

// leaseOr is what a lease is, where that can be seen.
func (d *drawing) leaseOr(lease string) string {
	if d.r.LeaseUnseen {
		return "not seen from here"
	}
	return lease
}

// guestMTU is what the guest is told, or, where it is told nothing, what the pod had.
func (d *drawing) guestMTU() int {
	if d.r.Offer != nil && d.r.Offer.MTU > 0 {
		return d.r.Offer.MTU
	}
	return d.r.MTU
}

// offer draws what the guest is told.
func (d *drawing) offer() {
	offer := d.r.Offer
	if offer == nil {
		if d.r.Offer6 == nil {
			d.detail("layer 2 only: no address, no DHCP")
		}
		return
	}
	d.detail("%s%s", offer.Address, ifSet("  gateway ", offer.Gateway))
	d.list("route", len(offer.Routes), func(i int) string {
		return describeRoute(offer.Routes[i].Destination, offer.Routes[i].Gateway)
	})
	if len(offer.DNS) > 0 {
		d.detail("dns %s", joined(offer.DNS))
	}
	if len(offer.Search) > 0 {
		d.detail("search %s", strings.Join(offer.Search, " "))
	}
	if offer.Hostname != "" {
		d.detail("hostname %s", offer.Hostname)
	}
}

// offer6 draws what the guest is told of IPv6. Names it draws where IPv4 does not.
func (d *drawing) offer6() {
	offer := d.r.Offer6
	if offer == nil {
		return
	}
	d.list("address", len(offer.Addresses), func(i int) string {
		if i > 0 {
			return offer.Addresses[i].String() + "  deprecated"
		}
		return offer.Addresses[i].String() + ifSet("  router ", offer.Router)
	})
	d.list("route", len(offer.Routes), func(i int) string {
		return describeRoute(offer.Routes[i].Destination, offer.Routes[i].Gateway)
	})
	if len(offer.DNS) > 0 {
		d.detail("dns %s", joined(offer.DNS))
	}
	if d.r.Offer != nil {
		return
	}
	if len(offer.Search) > 0 {
		d.detail("search %s", strings.Join(offer.Search, " "))
	}
	if offer.Hostname != "" {
		d.detail("hostname %s", offer.Hostname)
	}
}

// remarks lists what is wrong, and then other remarks.
func (d *drawing) remarks() {
	said := make(map[string]bool)
	if len(d.r.Deviations) > 0 {
		d.line("")
		d.put(strong, "not as it should be:")
	}
	for _, deviation := range d.r.Deviations {
		said[deviation.String()] = true
		d.wrap(bad, mark, deviation.String())
	}
	for _, warning := range d.r.Warnings {
		if !said[warning] {
			d.wrap(plain, "warning: ", warning)
		}
	}
}

func (d *drawing) phaseStyle() style {
	switch {
	case len(d.r.Deviations) > 0:
		return bad
	case d.r.Phase == status.PhaseReady:
		return good
	}
	return strong
}

// phase says how far the interface has come.
func (d *drawing) phase() string {
	if d.seen == nil {
		return "lost"
	}
	return describePhase(d.r)
}

func describePhase(r status.InterfaceReport) string {
	switch r.Phase {
	case status.PhaseOriginal:
		return "original, nothing is wired"
	case status.PhaseWired:
		for _, d := range r.Deviations {
			if d.What == status.Deaf {
				return "wired, and its server cannot hear the guest"
			}
		}
		return "wired, and nobody serves it"
	case status.PhaseServing:
		switch {
		case r.LeaseUnseen:
			return "serving, and the lease cannot be seen from here"
		case r.Lease.State == dhcp.LeaseExpired || r.Lease6 != nil && r.Lease6.State == dhcp.LeaseExpired:
			return "serving, the guest's lease has run out"
		case !r.Lease.Doubted.IsZero():
			return "serving, and a guest with another MAC asks"
		}
		return "serving, the guest has no lease yet"
	case status.PhaseReady:
		var has []string
		if r.Offer != nil && r.Lease.InUse() {
			has = append(has, r.Offer.Address.Addr().String())
		}
		if r.Lease6 != nil && r.Lease6.InUse() {
			for _, a := range r.Lease6.Addresses {
				has = append(has, a.String())
			}
		}
		if len(has) == 0 {
			return "ready, the guest has sent frames"
		}
		return "ready, the guest has " + strings.Join(has, " and ")
	}
	return r.Phase
}

func describeLease6(l dhcp.Lease6) string {
	switch {
	case l.State == dhcp.LeaseExpired:
		return "run out since " + l.Expires.Format("15:04:05 MST")
	case l.State != dhcp.LeaseBound && !l.Seen.IsZero():
		return l.State + ", but the guest uses an address"
	}
	text := l.State
	if !l.Since.IsZero() {
		text += " since " + l.Since.Format("15:04:05 MST")
	}
	if !l.Expires.IsZero() {
		text += ", until " + l.Expires.Format("15:04:05 MST")
	}
	return text
}

func describeLease(l dhcp.Lease) string {
	switch {
	case l.State == dhcp.LeaseExpired && !l.Seen.IsZero():
		return "run out since " + l.Expires.Format("15:04:05 MST") + ", but the guest uses the address"
	case l.State == dhcp.LeaseExpired:
		return "run out since " + l.Expires.Format("15:04:05 MST")
	case l.State == dhcp.LeaseNone && !l.Seen.IsZero():
		return "none, but the guest uses the address"
	}
	text := l.State
	if !l.Since.IsZero() {
		text += " since " + l.Since.Format("15:04:05 MST")
	}
	if !l.Expires.IsZero() {
		text += ", until " + l.Expires.Format("15:04:05 MST")
	}
	if !l.Doubted.IsZero() {
		text += "; a guest with another MAC asks since " + l.Doubted.Format("15:04:05 MST")
	}
	return text
}

func describeRoute(destination netip.Prefix, gateway netip.Addr) string {
	text := destination.String()
	if destination.Bits() == 0 {
		text = "default"
	}
	return text + ifSet(" via ", gateway)
}

func ifSet(before string, a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return before + a.String()
}

func firstOf(list []netip.Addr) netip.Addr {
	if len(list) == 0 {
		return netip.Addr{}
	}
	return list[0]
}

func joined[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return strings.Join(texts, " ")
}
