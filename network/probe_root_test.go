package network

import (
	"slices"
	"testing"

	"github.com/podnic/podnic/network/probe"
)

// TestProbesChangeNothing runs every probe of a pod. How they fare without privileges is tested with the program.
func TestProbesChangeNothing(t *testing.T) {
	t.Parallel()
	p := newTestPod(t, "addr add 10.244.1.5/24 dev eth0", "link set eth0 up", "node:link set host0 up", "route add default via 10.244.1.1")
	ns := p.namespace()
	tables := func() string {
		out, err := p.run(p.pod, "nft", "list", "ruleset")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before, rules := p.text(), tables()
	probes := map[string]func(*Namespace) error{"filter": func(n *Namespace) error { return probe.CheckFilter(n) }}
	for _, kind := range probe.LinkKinds {
		probes[kind] = func(n *Namespace) error { return probe.CheckKind(n, kind) }
	}
	for name, probe := range probes {
		if err := probe(ns); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := probe.CheckKind(ns, "nonsense"); !IsRefusal(err) {
		t.Errorf("a kind that there is not: %v", err)
	}
	if err := Shape(p.request()); err != nil {
		t.Error(err)
	}
	if list, err := probe.PacketFilters(ns); err != nil || len(list) > 0 {
		t.Errorf("packet filters: %v, %v", list, err)
	}
	if after := p.text(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if after := tables(); after != rules {
		t.Errorf("before:\n%s\nafter:\n%s", rules, after)
	}
}

func TestPacketFiltersAreNamed(t *testing.T) {
	p := newTestPod(t, podWithAddress)
	p.provide(managedTap()) // its table at prerouting meets nothing of the guest's
	ns := p.namespace()
	for _, command := range []string{
		"add table ip nat", "add chain ip nat PREROUTING { type nat hook prerouting priority -100 ; }",
		"add rule ip nat PREROUTING tcp dport 80 redirect to :15001",
		"add table inet f", "add chain inet f input { type filter hook input priority 0 ; policy drop ; }",
		"add chain inet f unhooked", "add chain inet f empty { type filter hook output priority 0 ; }",
	} {
		if _, err := p.run(p.pod, "nft", command); err != nil {
			t.Fatal(err)
		}
	}
	got, err := probe.PacketFilters(ns)
	want := []string{"inet f input (rules: 0)", "ip nat PREROUTING (rules: 1)"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
