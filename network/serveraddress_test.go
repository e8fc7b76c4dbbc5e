package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// TestEachInterfaceHasAServerOfItsOwn chooses addresses for three interfaces: beside what an earlier podnic gave, which named
// no address, and beside addresses that somebody has. The filter is of the address that was chosen.
func TestEachInterfaceHasAServerOfItsOwn(t *testing.T) {
	at := func(link plan.Role, address, label string) plan.Address {
		return plan.Address{Link: link, Local: netip.MustParsePrefix(address + "/32"), Label: label, Scope: unix.RT_SCOPE_HOST}
	}
	names := plan.ManagedTapNames("net1")
	earlier := &Provision{Links: &plan.Names{Interface: "eth0"}, Address: true}
	for name, test := range map[string]struct {
		there   []plan.Address
		sharing []*Provision
		want    string
		ours    bool // it is added, and removed in the end
	}{
		"the first":                       {nil, nil, "169.254.75.10", true},
		"somebody put it there":           {[]plan.Address{at(loopback, "169.254.75.10", "lo")}, nil, "169.254.75.10", false},
		"another interface's is left":     {[]plan.Address{at(loopback, "169.254.75.10", "eth0")}, nil, "169.254.75.11", true},
		"it is a bridge's":                {[]plan.Address{at("eth0-br", "169.254.75.10", "eth0-br")}, nil, "169.254.75.11", true},
		"an earlier podnic gave it":       {[]plan.Address{at(loopback, "169.254.75.10", "lo")}, []*Provision{earlier}, "169.254.75.11", true},
		"others that have no server":      {nil, []*Provision{{}}, "169.254.75.10", true},
		"the next is somebody's":          {[]plan.Address{at(loopback, "169.254.75.11", "lo")}, []*Provision{earlier}, "169.254.75.12", true},
		"it is there from an earlier try": {[]plan.Address{at(loopback, "169.254.75.11", "net1")}, []*Provision{earlier}, "169.254.75.11", true},
	} {
		p := &Provision{Links: &names}
		if err := p.chooseServer(test.there, test.sharing); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Server.String() != test.want || p.Address != test.ours {
			t.Errorf("%s: %s, added %v; want %s, added %v", name, p.Server, p.Address, test.want, test.ours)
		}
		label := "net1"
		if test.want == "169.254.75.10" {
			label = "lo"
		}
		if a := p.serverAddress(); a.Label != label || a.Local.Addr() != p.Server {
			t.Errorf("%s: the address is %+v", name, a)
		}
		hex := map[string]string{"169.254.75.10": "a9fe4b0a", "169.254.75.11": "a9fe4b0b", "169.254.75.12": "a9fe4b0c"}[test.want]
		rules := strings.Join(p.filters()[0].Rules, "\n")
		if n := strings.Count(rules, hex); n != 3 || strings.Count(rules, "a9fe4b") != n {
			t.Errorf("%s: the filter is not of %s:\n%s", name, hex, rules)
		}
	}
	var all []*Provision
	for range maxServers {
		p := &Provision{Links: &names}
		if err := p.chooseServer(nil, all); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := (&Provision{Links: &names}).chooseServer(nil, all); !IsRefusal(err) {
		t.Errorf("one too many: %v", err)
	}
}
