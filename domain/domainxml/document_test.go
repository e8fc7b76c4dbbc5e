package domainxml

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podnic/podnic/network/identity"
)

func TestParseReadsWhatTheDocumentSays(t *testing.T) {
	d, err := Parse([]byte(`<?xml version="1.0" encoding="UTF-8"?>
<!-- <interface type='user'/> -->
<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <qemu:name>not this one</qemu:name>
  <name>a&amp;b<![CDATA[<c>]]></name>
  <uuid> 6FC0E8F4-0b5d4a3f-9d35-5c1f8f0d2a11 </uuid>
  <metadata><devices><interface type='bridge'/></devices></metadata>
  <devices>
    <interface type='bridge'><mac address='52:54:00:12:34:56'/><source bridge='br0'/><mtu size='9000'/></interface>
    <interface type="ethernet"><target managed="no" dev="tap&#48;"/><model type='e1000'/><driver queues='4'/></interface>
    <![CDATA[<interface type='network'/>]]>
  </devices>
  <devices><interface><mac address='nonsense'/><mtu size='-1'/></interface></devices>
</domain>
`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Name(), "a&b<c>"; got != want {
		t.Errorf("name is %q, want %q", got, want)
	}
	if got, want := d.UUID(), "6fc0e8f4-0b5d-4a3f-9d35-5c1f8f0d2a11"; got != want {
		t.Errorf("UUID is %q, want %q", got, want)
	}
	if got, want := d.Type(), "kvm"; got != want {
		t.Errorf("type is %q, want %q", got, want)
	}
	want := []Interface{
		{Type: "bridge", MAC: identity.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}, MTU: 9000},
		{Type: "ethernet", Tap: "tap0", Managed: "no", Model: "e1000", Queues: 4},
		{},
	}
	if diff := cmp.Diff(want, d.Interfaces()); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}

func TestParseRefusesInOneLine(t *testing.T) {
	for name, test := range map[string]struct{ xml, want string }{
		"empty":               {"", "the document is empty"},
		"blank":               {"\n \n", "the document is empty"},
		"only a comment":      {"<!-- x -->", "there is no element in it"},
		"not XML":             {"name: vm", "text outside of any element"},
		"a mark in a tag":     {"<xml version='1.0'?><domain/>", "line 1: expected attribute name in element"},
		"an odd name":         {"<domain>\n<😀></😂></domain>", "line 2: element <😀> closed by </😂>"},
		"a break in a value":  {"<domain a='1\r\n2\n3'>\n</x>", "line 4: element <domain> closed by </x>"},
		"deep":                {strings.Repeat("<a>", 5000), "its elements are nested more than 2048 deep, which libvirt does not accept"},
		"not closed":          {"<domain>\n<name>vm</name>\n", "line 3: unexpected EOF"},
		"closed wrongly":      {"<domain>\n<name>vm\n</domain>", "line 3: element <name> closed by </domain>"},
		"bare ampersand":      {"<domain>\n<name>a & b</name></domain>", "line 2: invalid character entity & (no semicolon)"},
		"unquoted attribute":  {"<domain type=kvm>", "line 1: unquoted or missing attribute value in element"},
		"attribute twice":     {"<domain>\n<name a='1' a='2'>vm</name></domain>", "<name> has the attribute a twice"},
		"two at the top":      {"<domain><name>a</name></domain>\n<domain/>", "a second element, <domain>, follows the first, <domain>"},
		"text after the end":  {"<domain><name>a</name></domain>\nvm", "text outside of any element"},
		"something else":      {"<network><name>n</name></network>", "it is a <network>, not a <domain>: give the XML that `virsh dumpxml` prints"},
		"another namespace":   {"<domain xmlns='urn:x'><name>n</name></domain>", `<domain> is in the namespace "urn:x": libvirt's elements have none`},
		"no name":             {"<domain><title>vm</title></domain>", "the domain has no <name>"},
		"an empty name":       {"<domain><name> </name></domain>", "the domain has no <name>"},
		"a name elsewhere":    {"<domain><metadata><name>x</name></metadata></domain>", "the domain has no <name>"},
		"Latin 1":             {"<?xml version='1.0' encoding='ISO-8859-1'?><domain/>", "encoding ISO-8859-1 is not supported: convert the document to UTF-8"},
		"UTF-16":              {"\xff\xfe<\x00d\x00", "encoding UTF-16 is not supported: convert the document to UTF-8"},
		"not UTF-8":           {"<domain><name>\xe9</name></domain>", "line 1: invalid UTF-8"},
		"longer than allowed": {strings.Repeat(" ", 10<<20) + "<domain/>", "the document is longer than the 4194304 bytes that libvirt accepts"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(test.xml))
			if err == nil {
				t.Fatal("accepted")
			}
			if got, want := err.Error(), "domain XML: "+test.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestParseAcceptsASCIIByItsName(t *testing.T) {
	xml := `<?xml version="1.0" encoding="US-ASCII"?><domain><name>vm</name><devices/></domain>`
	if d, err := Parse([]byte(xml)); err != nil || d.Name() != "vm" {
		t.Fatalf("got %v, %v", d, err)
	}
}
