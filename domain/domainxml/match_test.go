package domainxml

import (
	"fmt"
	"strings"
	"testing"

	"github.com/podnic/podnic/network/identity"
)

// TestEachInterfaceOfThePodHasItsOwnInTheDomain: by tap, else alias, else MAC, else in order; what cannot be told is an error with
// both lists. The numbers are the domain's interfaces, counted from 1; 0 is one that is added.
func TestEachInterfaceOfThePodHasItsOwnInTheDomain(t *testing.T) {
	mac := func(n byte) identity.MAC { return identity.MAC{0x0a, 0x58, 0, 0, 0, n} }
	pod := []NIC{{Name: "eth0", Tap: "tap0", MAC: mac(0)}, {Name: "net1", Tap: "tap1", MAC: mac(1)}, {Name: "net2", Tap: "tap2", MAC: mac(2)}}
	tap := func(n int) string {
		return fmt.Sprintf("<interface type='ethernet'><target dev='tap%d'/></interface>", n)
	}
	alias := func(name string) string { return "<interface><alias name='ua-" + name + "'/></interface>" }
	hasMAC := func(n byte) string {
		return "<interface><mac address='" + strings.ToUpper(mac(n).String()) + "'/></interface>"
	}
	const any = "<interface type='user'/>"
	for name, test := range map[string]struct{ devices, want, fails string }{
		"all are added":             {"", "[0 0 0]", ""},
		"by order":                  {any + any + any, "[1 2 3]", ""},
		"missing ones are added":    {any + any, "[1 2 0]", ""},
		"by tap":                    {tap(2) + tap(0) + tap(1), "[2 3 1]", ""},
		"by alias":                  {alias("net2") + alias("eth0") + alias("net1"), "[2 3 1]", ""},
		"by MAC":                    {hasMAC(2) + hasMAC(0) + hasMAC(1), "[2 3 1]", ""},
		"by each":                   {hasMAC(0) + alias("net2") + tap(1), "[1 3 2]", ""},
		"the rest by order":         {any + alias("eth0") + any, "[2 1 3]", ""},
		"tap before MAC":            {"<interface><target dev='tap1'/><mac address='" + mac(0).String() + "'/></interface>", "[0 1 0]", ""},
		"others beside, all marked": {any + tap(0) + any + tap(1) + tap(2), "[2 4 5]", ""},
		"others beside":             {any + tap(0) + any + tap(1) + any, "", "cannot tell which interface is the pod's net2"},
		"the lists": {any + tap(0) + any + any, "", "(the pod gives eth0 (tap0, 0a:58:00:00:00:00), net1 (tap1, 0a:58:00:00:00:01), net2 (tap2, 0a:58:00:00:00:02); " +
			"the domain has 1: type user, 2: type ethernet tap tap0, 3: type user, 4: type user)"},
		"two of one":      {alias("net1") + alias("net1"), "", "2 interfaces have <alias name='ua-net1'/>: leave it on one"},
		"a contradiction": {"<interface><target dev='tap0'/><alias name='ua-net1'/></interface>", "", "has <target dev='tap0'/>, which is of eth0, and <alias name='ua-net1'/>"},
	} {
		t.Run(name, func(t *testing.T) {
			d := parsed(t, []byte("<domain><name>vm</name><devices>"+test.devices+"</devices></domain>"))
			elements, err := d.match(pod, d.interfaces())
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("%v does not say %s", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, e := range elements {
				at := 0
				for i, other := range d.interfaces() {
					if other == e {
						at = i + 1
					}
				}
				got = append(got, at)
			}
			if fmt.Sprint(got) != test.want {
				t.Errorf("got %v, want %s", got, test.want)
			}
			filled, err := d.Fill(pod...)
			if err != nil {
				t.Fatal(err)
			}
			again := parsed(t, filled)
			for i, found := range must(again.Match(pod)) {
				if found == nil || !found.Unmanaged(pod[i].Tap) || found.MAC != pod[i].MAC {
					t.Errorf("%s became %+v", pod[i].Name, found)
				}
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
