package draw

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/network/plan"
)

// Dot writes the wiring as a graph in Graphviz's language, each interface in a part of its own. What is not as it should be is
// red, and named in its node.
func Dot(w io.Writer, v status.View) error {
	all := drawings(v)
	text := []string{
		"digraph podnic {", "  rankdir=TB; labelloc=t; fontname=sans;",
		"  node [shape=box, fontname=monospace, fontsize=10]; edge [dir=both, fontname=sans, fontsize=9];",
	}
	for i, d := range all {
		g := &graph{drawing: d}
		if len(all) > 1 {
			g.prefix = fmt.Sprintf("i%d_", i)
			g.line("  subgraph cluster_%d {", i)
		}
		g.line("  label=%s;", quoted(d.r.Name+": "+d.phase()))
		if d.seen == nil {
			g.line("  %slost [label=%s%s];", g.prefix, quoted(strings.Join(d.r.Warnings, "\n")), red)
		} else {
			g.whole()
		}
		if len(all) > 1 {
			g.line("  }")
		}
		text = append(text, g.text...)
	}
	_, err := io.WriteString(w, strings.Join(append(text, "}"), "\n")+"\n")
	return err
}

// red is what is not as it should be.
const red = ", color=red, fontcolor=red, style=dashed"

type graph struct {
	*drawing
	prefix string // of the names of nodes
	text   []string
}

func (g *graph) line(format string, args ...any) {
	g.text = append(g.text, fmt.Sprintf(format, args...))
}

// whole is all that there is of an interface which is not lost.
func (g *graph) whole() {
	g.node("network", status.PlaceNetwork, "pod network", ifSet("gateway ", firstOf(g.r.Gateways)))
	g.link(plan.NIC)
	g.line("  %snetwork -> %snic;", g.prefix, g.prefix)
	if g.seen.Wired {
		g.wiring()
	}
}

func (g *graph) wiring() {
	for _, role := range []plan.Role{plan.Bridge, plan.Tap, plan.Placeholder} {
		if g.seen.Names.Has(role) {
			g.link(role)
		}
	}
	guest := []string{"guest"}
	if domain := g.r.Domain; domain != nil {
		guest[0] = fmt.Sprintf("guest %s (%s)", domain.Name, domain.State)
	}
	guest = append(guest, g.r.MAC.String())
	if offer := g.r.Offer; offer != nil {
		guest = append(guest, offer.Address.String(), "lease "+describeLease(g.r.Lease))
	}
	if offer := g.r.Offer6; offer != nil && g.r.Lease6 != nil {
		guest = append(guest, joined(offer.Addresses), "lease of IPv6 "+describeLease6(*g.r.Lease6))
	}
	g.node("guest", status.PlaceGuest, guest...)
	var servers []string
	if offer := g.r.Offer; offer != nil {
		servers = append(servers, fmt.Sprintf("DHCP server %s\n%s socket", offer.ServerIdentifier, offer.Socket))
	}
	if offer := g.r.Offer6; offer != nil {
		servers = append(servers, fmt.Sprintf("DHCPv6 server %s\n%s socket", offer.Server, offer.Socket))
	}
	server := cmp.Or(strings.Join(servers, "\n"), "layer 2 only: no DHCP")
	g.node("server", status.PlaceServer, server)
	filter := ""
	if f := g.seen.Current.Filter; f != nil {
		filter = fmt.Sprintf("filter %s, %d rules", f.Table, len(f.Rules))
	}
	for _, deviation := range g.deviations(plan.FilterPlace) {
		filter = mark + deviation.What
	}
	joins := fmt.Sprintf("%[1]snic -> %[1]sbridge; %[1]sbridge -> %[1]stap", g.prefix)
	if !g.seen.Names.Has(plan.Bridge) {
		joins = fmt.Sprintf("%[1]snic -> %[1]stap", g.prefix)
	}
	g.line("  %[2]s [label=%[3]s]; %[1]stap -> %[1]sguest; %[1]stap -> %[1]sserver [style=dashed];", g.prefix, joins, quoted(filter))
	for i, l := range g.r.Links {
		if strings.HasPrefix(string(l.Role), "stray") {
			g.node(fmt.Sprint("stray", i), l.Role, l.Name, describeLink(l))
		}
	}
}

func (g *graph) link(role plan.Role) {
	l := g.find(role)
	if l == nil {
		g.node(string(role), role, g.seen.Names.Of(role))
		return
	}
	text := []string{l.Name}
	if role == plan.Placeholder {
		text[0] += " (placeholder)"
	}
	state, rest, _ := strings.Cut(describeLink(*l), "  mtu ")
	text = append(text, state, "mtu "+rest)
	for _, a := range l.Addresses[:min(len(l.Addresses), most)] {
		text = append(text, a.String())
	}
	g.node(string(role), role, text...)
}

// node draws a place with its differences.
func (g *graph) node(id string, place plan.Role, text ...string) {
	attributes := ""
	for _, deviation := range g.deviations(place) {
		text = append(text, mark+deviation.What)
		attributes = red
	}
	g.line("  %s%s [label=%s%s];", g.prefix, id, quoted(strings.Join(text, "\n")), attributes)
}

// quoted is a string of Graphviz's language, whose lines are centred.
func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(printable.Text(strings.TrimSpace(text))) + `"`
}
