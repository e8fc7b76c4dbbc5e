package agent

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
)

// Draw draws the wiring, top to bottom as a packet to the guest passes it, in at most 80 columns.
func Draw(w io.Writer, v View) error {
	d := &drawing{view: v}
	r := v.Report.Interfaces[0]
	d.line("%s: %s", r.Name, describePhase(v.Report, r))
	d.line("")
	if v.Seen.Wired {
		d.wiring(r)
	} else {
		d.link(network.NIC, "")
		d.line("             %s", d.fit(joinPrefixes(r.Addresses)))
	}
	if len(v.Report.Timeline) > 0 {
		d.line("")
		d.timeline(v.Report.Timeline)
	}
	for _, warning := range r.Warnings {
		d.wrapped("warning: ", warning)
	}
	_, err := io.WriteString(w, d.b.String())
	return err
}

type drawing struct {
	view View
	b    strings.Builder
}

const drawingWidth = 80

func (d *drawing) line(format string, args ...any) {
	d.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// fit shortens a text that would leave the drawing.
func (d *drawing) fit(text string) string {
	if room := drawingWidth - 13; len(text) > room {
		return text[:room-3] + "..."
	}
	return text
}

// wrapped writes a text over several lines, the later ones indented.
func (d *drawing) wrapped(begin, text string) {
	line := begin
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > drawingWidth && strings.TrimSpace(line) != "" {
			d.line("%s", line)
			line = strings.Repeat(" ", len(begin))
		}
		if !strings.HasSuffix(line, " ") {
			line += " "
		}
		line += word
	}
	d.line("%s", line)
}

func (d *drawing) wiring(r InterfaceReport) {
	d.line("  pod network")
	d.line("      │")
	d.link(network.NIC, "")
	d.line("      │")
	d.link(network.Bridge, "")
	d.line("      │")
	attached := "nobody holds the other end"
	if d.view.Seen.Attached {
		attached = "guest attached"
	}
	d.link(network.Tap, attached)
	d.line("      │")
	name := "guest"
	if domain := d.view.Report.Domain; domain != nil {
		name = fmt.Sprintf("guest %s (%s)", domain.Name, domain.State)
	}
	d.line("  %s", name)
	d.line("             %s  mtu %d", r.MAC, r.MTU)
	if r.Offer == nil {
		d.line("             layer 2 only: no address, no DHCP")
		return
	}
	d.line("             %s%s", r.Offer.Address, ifSet("  gateway ", r.Offer.Gateway))
	for _, route := range r.Offer.Routes {
		d.line("             route %s%s", route.Destination, ifSet(" via ", route.Gateway))
	}
	if len(r.Offer.DNS) > 0 {
		d.line("             %s", d.fit("dns "+joinAddrs(r.Offer.DNS)+"  search "+strings.Join(r.Offer.Search, " ")))
	}
	if r.Offer.Hostname != "" {
		d.line("             hostname %s", r.Offer.Hostname)
	}
	d.line("             lease %s", describeLease(r.Lease))
}

// link draws one link: name, kind, state, MAC, MTU and frames.
func (d *drawing) link(role network.Role, note string) {
	l := d.view.Seen.Current.Link(role)
	if l == nil {
		d.line("  %-10s is missing", d.view.Seen.Names.Of(role))
		return
	}
	state := "up"
	if !l.Up {
		state = "DOWN"
	}
	if note != "" {
		note = "  " + note
	}
	d.line("  %-10s %s  %-4s mtu %d%s", l.Name, l.MAC, state, l.MTU, note)
}

func (d *drawing) timeline(t Timeline) {
	for _, m := range t {
		d.line("  %10.1f ms  %s", m.Milliseconds, m.Event)
	}
}

func describePhase(report *Report, r InterfaceReport) string {
	switch report.Phase {
	case PhaseOriginal:
		return "original, nothing is wired"
	case PhaseWired:
		return "wired, and nobody serves it"
	case PhaseServing:
		return "serving, the guest has not taken its address yet"
	case PhaseReady:
		if r.Offer == nil {
			return "ready, the guest has sent frames"
		}
		return "ready, the guest has " + r.Offer.Address.Addr().String()
	}
	return report.Phase
}

func describeLease(l dhcp.Lease) string {
	text := l.State
	if l.State == dhcp.LeaseNone && !l.Seen.IsZero() {
		return "none, but the guest uses the address"
	}
	if !l.Since.IsZero() {
		text += " since " + l.Since.Format("15:04:05 MST")
	}
	if !l.Expires.IsZero() {
		text += ", until " + l.Expires.Format("15:04:05 MST")
	}
	return text
}

func ifSet(before string, a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return before + a.String()
}

func joinAddrs(list []netip.Addr) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return strings.Join(texts, " ")
}

func joinPrefixes(list []netip.Prefix) string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.String()
	}
	return strings.Join(texts, " ")
}
