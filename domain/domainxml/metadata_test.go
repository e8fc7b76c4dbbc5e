package domainxml

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestReadXMLIsBounded(t *testing.T) {
	xml, err := ReadXML(strings.NewReader(strings.Repeat("x", 3*MaxSize)))
	if err != nil || len(xml) != MaxSize+1 {
		t.Errorf("%d bytes, %v", len(xml), err)
	}
}
