package draw

import (
	"fmt"
	"io"
	"strings"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/network"
)

// Dot writes the wiring as a graph in Graphviz's language. What is not as it should be is red, and named in its node.
func Dot(w io.Writer, v status.View) error {
	g := &graph{drawing: drawing{view: v, r: v.Report.Interfaces[0]}}
	g.line("digraph podnic {")
	g.line("  rankdir=TB; label=%s; labelloc=t; fontname=sans;", quoted(g.r.Name+": "+describePhase(v.Report, g.r)))
	g.line("  node [shape=box, fontname=monospace, fontsize=10]; edge [dir=both, fontname=sans, fontsize=9];")
	g.node("network", status.PlaceNetwork, "pod network", ifSet("gateway ", firstOf(g.r.Gateways)))
	g.link(network.NIC)
	g.line("  network -> nic;")
	if v.Seen.Wired {
		g.wiring()
	}
	g.line("}")
	_, err := io.WriteString(w, strings.Join(g.text, "\n")+"\n")
	return err
}

type graph struct {
	drawing
	text []string
}

func (g *graph) line(format string, args ...any) {
	g.text = append(g.text, fmt.Sprintf(format, args...))
}

func (g *graph) wiring() {
	g.link(network.Bridge)
	g.link(network.Tap)
	g.link(network.Placeholder)
	guest := []string{"guest"}
	if domain := g.view.Report.Domain; domain != nil {
		guest[0] = fmt.Sprintf("guest %s (%s)", domain.Name, domain.State)
	}
	guest = append(guest, g.r.MAC.String())
	if offer := g.r.Offer; offer != nil {
		guest = append(guest, offer.Address.String(), "lease "+describeLease(g.r.Lease))
	}
	g.node("guest", status.PlaceGuest, guest...)
	server := "layer 2 only: no DHCP"
	if offer := g.r.Offer; offer != nil {
		server = fmt.Sprintf("DHCP server %s\n%s socket", offer.ServerIdentifier, offer.Socket)
	}
	g.node("server", status.PlaceServer, server)
	filter := ""
	if f := g.view.Seen.Current.Filter; f != nil {
		filter = fmt.Sprintf("filter %s, %d rules", f.Table, len(f.Rules))
	}
	for _, difference := range g.at(network.FilterPlace) {
		filter = mark + difference.What
	}
	g.line("  nic -> bridge; bridge -> tap [label=%s]; tap -> guest; tap -> server [style=dashed];", quoted(filter))
	for i, l := range g.r.Links {
		if strings.HasPrefix(string(l.Role), "stray") {
			g.node(fmt.Sprint("stray", i), l.Role, l.Name, describeLink(l))
		}
	}
}

func (g *graph) link(role network.Role) {
	l := g.find(role)
	if l == nil {
		g.node(string(role), role, g.view.Seen.Names.Of(role))
		return
	}
	text := []string{l.Name}
	if role == network.Placeholder {
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
func (g *graph) node(id string, place network.Role, text ...string) {
	attributes := ""
	for _, difference := range g.at(place) {
		text = append(text, mark+difference.What)
		attributes = ", color=red, fontcolor=red, style=dashed"
	}
	g.line("  %s [label=%s%s];", id, quoted(strings.Join(text, "\n")), attributes)
}

// quoted is a string of Graphviz's language, whose lines are centred.
func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(printable.Text(strings.TrimSpace(text))) + `"`
}
