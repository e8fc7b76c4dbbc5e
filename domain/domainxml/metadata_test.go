package domainxml

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/network/identity"
)

func TestMetadataSaysWhoseADomainIs(t *testing.T) {
	const ours = `xmlns:podnic='` + MetadataURI + `'`
	for name, test := range map[string]struct {
		metadata string
		want     *Pod
		fails    string
	}{
		"none":            {"", nil, ""},
		"empty":           {"<metadata/>", nil, ""},
		"bare":            {"<metadata><podnic:pod " + ours + "/></metadata>", &Pod{}, ""},
		"both attributes": {"<metadata><podnic:pod " + ours + " interface='net1' binding='bridge'/></metadata>", &Pod{Interface: "net1", Binding: "bridge"}, ""},
		"with a guard":    {"<metadata><podnic:pod " + ours + " spoof-guard='on'/></metadata>", &Pod{SpoofGuard: "on"}, ""},
		"without a guard": {"<metadata><podnic:pod " + ours + " spoof-guard='off'/></metadata>", &Pod{SpoofGuard: "off"}, ""},
		"ports": {"<metadata><podnic:pod " + ours + " binding='shared' pod-ports='80/tcp,8080' guest-ports='22'/></metadata>",
			&Pod{Binding: "shared", PodPorts: "80/tcp,8080", GuestPorts: "22"}, ""},
		"half a guard":      {"<metadata><podnic:pod " + ours + " spoof-guard='some'/></metadata>", nil, "takes on or off"},
		"with IPv6":         {"<metadata><podnic:pod " + ours + " ipv6='serve'/></metadata>", &Pod{IPv6: "serve"}, ""},
		"IPv6 somehow":      {"<metadata><podnic:pod " + ours + " ipv6='on'/></metadata>", nil, "takes auto, serve, pass or off"},
		"default namespace": {"<metadata><pod xmlns='" + MetadataURI + "' interface='net1'/></metadata>", &Pod{Interface: "net1"}, ""},
		"another prefix":    {"<metadata><x:pod xmlns:x='" + MetadataURI + "'/></metadata>", &Pod{}, ""},
		"declared above":    {"<metadata " + ours + "><podnic:pod/></metadata>", &Pod{}, ""},
		"beside others":     {"<metadata><a xmlns='urn:a'/><podnic:pod " + ours + "/><b xmlns='urn:b'/></metadata>", &Pod{}, ""},
		"another namespace": {"<metadata><pod xmlns='urn:podnic:domain:2'/></metadata>", nil, ""},
		"no namespace":      {"<metadata><pod/></metadata>", nil, ""},
		"another element":   {"<metadata><podnic:pods " + ours + "/></metadata>", nil, ""},
		"deeper":            {"<metadata><a xmlns='urn:a'><podnic:pod " + ours + "/></a></metadata>", nil, ""},
		"in a comment":      {"<metadata><!--<podnic:pod " + ours + "/>--></metadata>", nil, ""},
		"outside":           {"<podnic:pod " + ours + "/>", nil, ""},
		"twice":             {"<metadata><podnic:pod " + ours + "/><podnic:pod " + ours + "/></metadata>", nil, "two <pod>"},
		"several": {"<metadata><podnic:pod " + ours + " binding='redirect'><podnic:interface name='eth0' binding='bridge'/>" +
			"<podnic:interface name='net1' tap='t7' socket='udp' queues='2' spoof-guard='on' ipv6='pass'/></podnic:pod></metadata>",
			&Pod{Binding: "redirect", Interfaces: []PodInterface{
				{Name: "eth0", Binding: "bridge"}, {Name: "net1", Binding: "redirect", Tap: "t7", Socket: "udp", Queues: 2, SpoofGuard: "on", IPv6: "pass"},
			}}, ""},
		"one twice":         {"<metadata><podnic:pod " + ours + "><podnic:interface name='a'/><podnic:interface name='a'/></podnic:pod></metadata>", nil, "names the interface a twice"},
		"without a name":    {"<metadata><podnic:pod " + ours + "><podnic:interface tap='a'/></podnic:pod></metadata>", nil, "no name"},
		"one and several":   {"<metadata><podnic:pod " + ours + " interface='a'><podnic:interface name='a'/></podnic:pod></metadata>", nil, "lists interfaces too"},
		"unknown of one":    {"<metadata><podnic:pod " + ours + "><podnic:interface name='a' mtu='9'/></podnic:pod></metadata>", nil, "mtu"},
		"no number":         {"<metadata><podnic:pod " + ours + "><podnic:interface name='a' queues='x'/></podnic:pod></metadata>", nil, "takes a number"},
		"unknown element":   {"<metadata><podnic:pod " + ours + "><podnic:card name='a'/></podnic:pod></metadata>", nil, "podnic:card"},
		"unknown attribute": {"<metadata><podnic:pod " + ours + " mtu='1400'/></metadata>", nil, "mtu"},
		"foreign attribute": {"<metadata><podnic:pod " + ours + " podnic:interface='eth0'/></metadata>", nil, "interface"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Parse([]byte("<domain><name>vm</name>" + test.metadata + "</domain>"))
			if err != nil {
				t.Fatal(err)
			}
			pod, err := d.Pod()
			switch {
			case test.fails != "":
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("%+v, %v", pod, err)
				}
			case err != nil || !cmp.Equal(pod, test.want):
				t.Errorf("%+v, %v", pod, err)
			}
		})
	}
}

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

func TestReadXMLIsBounded(t *testing.T) {
	xml, err := ReadXML(strings.NewReader(strings.Repeat("x", 3*MaxSize)))
	if err != nil || len(xml) != MaxSize+1 {
		t.Errorf("%d bytes, %v", len(xml), err)
	}
}
