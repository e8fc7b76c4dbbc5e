package domainxml

import (
	"strings"
	"testing"

	"github.com/podnic/podnic/network/identity"
)

func TestInterfaceOfThePodIsTheTapThatLibvirtDoesNotMake(t *testing.T) {
	tap := func(name string) string {
		return "<interface type='ethernet'><target dev='" + name + "' managed='no'/></interface>"
	}
	const other = "<interface type='network'><source network='default'/></interface>"
	for name, test := range map[string]struct {
		interfaces, want, fails string
		taps                    bool
	}{
		"one":               {tap("guest0"), "guest0", "", true},
		"beside another":    {other + tap("guest0"), "guest0", "", true},
		"the named of two":  {tap("tap1") + tap("tap0"), "tap0", "", true},
		"two, none named":   {tap("tap1") + tap("tap2"), "", "put <target dev='tap0' managed='no'/> into the one that is", true},
		"none":              {"", "", "add <interface type='ethernet'>", false},
		"of another type":   {other, "", "change <interface type='network'> to type='ethernet'", false},
		"managed":           {"<interface type='ethernet'><target dev='t7'/></interface>", "", "dev='t7' managed='no'", false},
		"without target":    {"<interface type='ethernet'/>", "", "dev='tap0' managed='no'", false},
		"managed by itself": {"<interface type='ethernet'><target dev='t7' managed='yes'/></interface>", "", "managed='no'", false},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Parse([]byte("<domain><name>vm</name><devices>" + test.interfaces + "</devices></domain>"))
			if err != nil {
				t.Fatal(err)
			}
			var i Interface
			all, err := d.Taps([]NIC{{Tap: "tap0"}})
			if err == nil {
				i = all[0]
			}
			if i.Tap != test.want || (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("%q, %v", i.Tap, err)
			}
			if d.MayBePods() != test.taps {
				t.Errorf("it may be the pod's: %v", !test.taps)
			}
		})
	}
}

// TestFitsNamesEveryAttribute has all that is wrong in one line, and nothing of what is right.
func TestFitsNamesEveryAttribute(t *testing.T) {
	mac := identity.MAC{0x0a, 0x58, 0x0a, 0xf4, 1, 5}
	pod := NIC{Tap: "tap0", MAC: mac, MTU: 1400, Queues: 2}
	right := Interface{Tap: "tap0", MAC: mac, MTU: 1400, Queues: 2, Model: "virtio"}
	if err := right.Fits(pod); err != nil {
		t.Errorf("what is right: %v", err)
	}
	if err := (Interface{Tap: "t", MAC: mac, Queues: 8}).Fits(NIC{MAC: mac, MTU: 1400}); err != nil {
		t.Errorf("a tap and queues of the domain's choice, and no MTU: %v", err)
	}
	wrong := Interface{Tap: "tap1", MAC: identity.MAC{2}, MTU: 1401, Queues: 4, Model: "virtio"}
	const want = "change <target dev='tap1'/> to dev='tap0'; " +
		"change <mac address='02:00:00:00:00:00'/> to address='0a:58:0a:f4:01:05', the pod's; " +
		"change <mtu size='1401'/> to size='1400', the pod's, or less; change <driver> to queues='2'"
	if err := wrong.Fits(pod); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
