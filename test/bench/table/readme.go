package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// claims are what README.md says of podnic beside what else does the same work: each with its figures.
var claims = []claim{
	{"a script of `ip` and `nft`", "a pod is wired in", took("Command/podnic"), took("Command/script-and-nft"), ""},
	{"", "the same by `ip -batch` and `nft`", took("Command/podnic"), took("Command/batch-and-nft"), ""},
	{"", "`podnic run` to a real guest's lease", took("Guest/podnic"), took("Guest/script"), ""},
	{"", "to its lease of IPv6", took("Guest6/podnic"), took("Guest6/script"), ""},
	{"KubeVirt's `bridge`", "processor time for a frame both ways, by `redirect`", frame("redirect"), frame("kubevirt-bridge"), ""},
	{"", "the same, by `bridge`, which filters", frame("bridge"), frame("kubevirt-bridge"), ""},
	{"", "set-up of `bridge`, KubeVirt's by `ip -batch`", setUp("bridge"), setUp("kubevirt-bridge"), ""},
	{"KubeVirt's `masquerade`", "processor time for a frame both ways, by `redirect`", frame("redirect"), frame("kubevirt-masquerade"), ""},
	{"", "the same, by `shared`", frame("shared"), frame("kubevirt-masquerade"), ""},
	{"", "set-up of `shared`, KubeVirt's by `ip -batch` and `nft -f`", setUp("shared"), setUp("kubevirt-masquerade"), ""},
	{"macvtap", "processor time for a frame both ways, by `redirect`", frame("redirect"), frame("macvtap"), ""},
	{"", "set-up of `redirect`, its by `ip -batch`", setUp("redirect"), setUp("macvtap"), ""},
	{"passt", "TCP out, by `shared`, in GiB a second (more is better)", figure{"Sharing/both", "out-GiB/s"}, figure{"Sharing/both", "out-GiB/s"}, "passt"},
	{"", "TCP in", figure{"Sharing/both", "in-GiB/s"}, figure{"Sharing/both", "in-GiB/s"}, "passt"},
	{"", "a byte there and back", figure{"Sharing/both", "p50-ns/op"}, figure{"Sharing/both", "p50-ns/op"}, "passt"},
	{"", "set-up of `shared`, and until a guest can connect to passt", setUp("shared"), setUp("passt"), ""},
	{"", "memory of the process, idle", figure{"DHCPRest/podnic", "rss-B"}, figure{"Sharing/both", "rss-B"}, "passt"},
	{"dnsmasq", "a DHCP lease from question to answer", figure{"DHCPExchange/podnic", "p50-ns/op"}, figure{"DHCPExchange/dnsmasq", "p50-ns/op"}, ""},
	{"", "memory of the process, idle", figure{"DHCPRest/podnic", "rss-B"}, figure{"DHCPRest/dnsmasq", "rss-B"}, ""},
	{"", "the server is ready after", figure{"DHCPReady/podnic", "p50-ns/op"}, figure{"DHCPReady/dnsmasq", "p50-ns/op"}, ""},
	{"", "memory of 300 servers, in 300 pods", figure{"Pods/300/podnic", "all-B"}, figure{"Pods/300/dnsmasq", "all-B"}, ""},
}

// claim is a figure of podnic, and the same of what it is beside; sharing, if not empty, is who of BenchmarkSharing that is.
type claim struct {
	beside, what string
	of, peer     figure
	sharing      string
}

// figuresOf are the claim's, as the benchmarks name them.
func (c claim) figuresOf() (of, peer figure) {
	of, peer = c.of, c.peer
	if c.sharing != "" {
		if of.name == "Sharing/both" {
			of.unit = "shared-" + of.unit
		}
		peer.unit = c.sharing + "-" + peer.unit
	}
	return of, peer
}

// The marks between which README.md has the claims.
const beginning, end = "<!-- figures of docs/benchmarks.md, by make charts -->\n\n", "\n<!-- end of the figures -->\n"

var between = regexp.MustCompile(`(?s)` + beginning + `.*?` + end)

// inReadme puts the claims into README.md, which has their place, and the rows of its table of alternatives, if it has them.
func inReadme(readme []byte, from results) ([]byte, error) {
	if !between.Match(readme) {
		return nil, fmt.Errorf("README.md has no place for figures")
	}
	var b strings.Builder
	b.WriteString(beginning)
	writeClaims(&b, from)
	b.WriteString(end)
	readme = between.ReplaceAllLiteral(readme, []byte(b.String()))
	for _, c := range compared {
		row := regexp.MustCompile(`(?m)^\| ` + c.what + ` \|.*$`)
		readme = row.ReplaceAllLiteral(readme, []byte(c.row(from)))
	}
	return readme, nil
}

// compared are the rows of README.md's table of alternatives that have figures, one for each column.
var compared = []comparison{
	{"processor time a frame, both ways", []figure{
		frame("bridge"), frame("redirect"), frame("shared"), frame("kubevirt-bridge"), frame("kubevirt-masquerade"), frame("passt"), frame("macvtap"),
		frame("bridge-without-filter"),
	}},
	{"set-up time", []figure{
		setUp("bridge"), setUp("redirect"), setUp("shared"), setUp("kubevirt-bridge"), setUp("kubevirt-masquerade"), setUp("passt"), setUp("macvtap"),
		took("Command/script-and-nft"),
	}},
}

type comparison struct {
	what    string
	figures []figure
}

func (c comparison) row(from results) string {
	row := "| " + c.what + " |"
	for _, f := range c.figures {
		text := "not measured"
		if value, ok := from.median(f); ok {
			text = f.text(value) + from.spread(f)
		}
		row += " " + text + " |"
	}
	return row
}

// writeClaims writes those that were measured. Where podnic is the worse one, the other's figure is in bold; else its own.
func writeClaims(w io.Writer, from results) {
	fmt.Fprint(w, "| beside | | podnic | it |\n|---|---|---|---|\n")
	beside := ""
	for _, c := range claims {
		if c.beside != "" {
			beside = c.beside
		}
		ofFigure, peerFigure := c.figuresOf()
		value, ok := from.median(ofFigure)
		peer, both := from.median(peerFigure)
		if !ok || !both {
			continue
		}
		of, its := c.of.text(value), c.peer.text(peer)
		switch better := value < peer; {
		case value == peer:
		case better != (row{of: c.of}).more():
			of = "**" + of + "**"
		default:
			its = "**" + its + "**"
		}
		fmt.Fprintf(w, "| %s | %s | %s%s | %s%s |\n", beside, c.what, of, from.spread(ofFigure), its, from.spread(peerFigure))
		beside = ""
	}
}
