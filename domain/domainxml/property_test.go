package domainxml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/podnic/podnic/network/identity"
)

// holds checks what Fill promises for any document.
func holds(t interface {
	Helper()
	Fatalf(string, ...any)
}, xml []byte, nic NIC) {
	t.Helper()
	before, err := Parse(xml)
	if err != nil {
		return // not a domain
	}
	filled, err := before.Fill(nic)
	if err != nil {
		return // refused, with a reason that other tests are about
	}
	after, err := Parse(filled)
	if err != nil {
		t.Fatalf("the result does not parse: %v\n%s", err, filled)
	}

	e, err := after.choose(nic.Tap, "")
	if e == nil || err != nil {
		t.Fatalf("the result has no interface to fill: %v\n%s", err, filled)
	}
	got := newInterface(e)
	if !got.Unmanaged(nic.Tap) || got.MAC != nic.MAC || got.Model == "" ||
		nic.MTU > 0 && got.MTU != nic.MTU ||
		nic.Queues > 1 && got.Queues != nic.Queues ||
		nic.Queues <= 1 && attribute(child(e, "driver"), "queues") != nil {
		t.Fatalf("the interface is %+v, for %+v\n%s", got, nic, filled)
	}

	again, err := after.Fill(nic)
	if err != nil || !bytes.Equal(again, filled) {
		t.Fatalf("filled again it changes: %v\n%s\n%s", err, filled, again)
	}
	if a, b := events(t, xml, nic.Tap), events(t, filled, nic.Tap); !slices.Equal(a, b) {
		t.Fatalf("more than the interface changed:\n%q\n%q\n%s\n%s", a, b, xml, filled)
	}
}

// events are what encoding/xml reads in a document, blanks of texts apart, and without what Fill may change: all
// that is in the interface and concerns it, and the interface itself where it is the only one.
func events(t interface{ Fatalf(string, ...any) }, document []byte, tap string) (events []string) {
	data, _ := legible(bytes.TrimPrefix(document, byteOrderMark))
	decoder := xml.NewDecoder(bytes.NewReader(data))
	decoder.CharsetReader = charset
	var path []xml.Name
	var text strings.Builder
	skipped := 0 // the depth of what is left out
	add := func(format string, args ...any) {
		if skipped > 0 {
			return
		}
		if text.Len() > 0 {
			events = append(events, text.String())
			text.Reset()
		}
		events = append(events, fmt.Sprintf(format, args...))
	}
	bare := func(names ...string) bool {
		return slices.EqualFunc(path, names, func(n xml.Name, name string) bool { return n == xml.Name{Local: name} })
	}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			add("end")
			return events
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		switch token := token.(type) {
		case xml.StartElement:
			path = append(path, token.Name)
			in := bare("domain", "devices", "interface")
			switch {
			case skipped > 0:
				skipped++
			case bare("domain", "devices"): // may be added
			case len(path) == 4 && concerns(token.Name.Local) && slices.Equal(path[:3], []xml.Name{{Local: "domain"}, {Local: "devices"}, {Local: "interface"}}):
				skipped = 1
			case in:
				attributes := slices.DeleteFunc(token.Attr, func(a xml.Attr) bool {
					return a.Name.Space == "" && slices.Contains([]string{"type", "managed"}, a.Name.Local)
				})
				if len(attributes) > 0 {
					add("<interface %v", attributes)
				}
			default:
				add("<%v %v", token.Name, token.Attr)
			}
		case xml.EndElement:
			if skipped > 0 {
				skipped--
			} else if !bare("domain", "devices") && !bare("domain", "devices", "interface") {
				add("/%v", token.Name)
			}
			path = path[:len(path)-1]
		case xml.CharData:
			if skipped == 0 {
				text.WriteString(strings.Join(strings.Fields(string(token)), ""))
			}
		case xml.Comment:
			add("<!--%s", token)
		case xml.ProcInst:
			add("<?%s %s", token.Target, token.Inst)
		}
	}
}

// concerns reports whether Fill may change an interface's child of that name.
func concerns(name string) bool {
	return slices.Contains([]string{"mac", "target", "model", "driver", "mtu", "bandwidth"}, name) ||
		slices.ContainsFunc(connections, func(c connection) bool { return c.element == name })
}

// TestFillKeepsItsPromises tries documents that are odd in every way that XML allows.
func TestFillKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { holds(t, []byte(document(t)), drawNIC(t)) })
}

func drawNIC(t *rapid.T) NIC {
	return NIC{
		Tap:    rapid.SampledFrom([]string{"tap0", "tap0", "t&'<\">p"}).Draw(t, "tap"),
		MAC:    identity.MAC{0x0a, 0x58, rapid.Byte().Draw(t, "MAC")},
		MTU:    rapid.SampledFrom([]int{0, 1450, 9000}).Draw(t, "MTU"),
		Queues: rapid.IntRange(0, 4).Draw(t, "queues"),
	}
}

// document draws a domain's XML.
func document(t *rapid.T) string {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	space := func() string {
		return pick("between", "", " ", "\n", "\n  ", "\n\t", "\r\n    ", "\n\n   \n", "<!-- <interface/> -->", "\n <!--\n--> ", "<?pi?>", "<?😀 y?>", "text", "a&#13;À", "<q:😀 q:a:b='1'/>", "<:b/>", "<q:À1f600À/>", "<![CDATA[<x>\n]]>")
	}
	attributes := func(names ...string) string {
		var out strings.Builder
		for _, name := range names {
			if rapid.Bool().Draw(t, name) {
				quote := pick("quote", "'", `"`)
				value := pick("value", "", "tap0", "ethernet", "bridge", "no", "4", "1450", "vfio", "virtio", "e1000", "default", "passt", "0A:58:00:00:00:00", "a&amp;b", "&#116;ap0", ">", "\n x", "a&#10;b&#9;&#13;", "\r\n\ty")
				out.WriteString(pick("blank", " ", "\n   ", "\t") + name + pick("equals", "=", " = ") + quote + value + quote)
			}
		}
		return out.String()
	}
	element := func(name, attributes, content string) string {
		if content == "" && rapid.Bool().Draw(t, "self-closing") {
			return "<" + name + attributes + pick("slash", "/>", " />", "\n/>")
		}
		return "<" + name + attributes + pick("close", ">", " >") + content + "</" + name + pick("end", ">", "\n>")
	}
	child := func() string {
		name := pick("child", "mac", "target", "model", "driver", "mtu", "source", "script", "virtualport", "vlan", "backend", "teaming", "ip", "boot", "alias", "q:target", "unknown", "bandwidth")
		content := ""
		if rapid.Bool().Draw(t, "content") {
			content = space() + element(pick("grandchild", "inbound", "host", "tag"), attributes("average", "floor"), "") + space()
		}
		return element(name, attributes("dev", "managed", "address", "type", "queues", "size", "name", "q:dev", "q:😀", "Ͱb"), content)
	}
	children := func(label string, most int, draw func() string) string {
		var out strings.Builder
		for range rapid.IntRange(0, most).Draw(t, label) {
			out.WriteString(space() + draw())
		}
		return out.String() + space()
	}
	device := func() string {
		switch pick("device", "interface", "disk", "q:interface") {
		case "interface":
			return element("interface", attributes("type", "managed", "q:type"), children("children", 5, child))
		case "disk":
			return element("disk", attributes("type"), children("parts", 1, func() string { return "<interface/>" }))
		}
		return element("q:interface", attributes("type"), "")
	}
	part := func() string {
		if pick("part", "devices", "other") == "devices" {
			return element("devices", "", children("devices", 3, device))
		}
		return element(pick("other", "metadata", "memory", "q:devices"), attributes("unit"), children("others", 1, device))
	}
	head := pick("head", "", "\ufeff", "<?xml version='1.0'?>\n", "\ufeff<?xml version='1.0' encoding='UTF-8'?>\r\n", "<!DOCTYPE domain>\n", "<!-- c -->")
	return head + element("domain", " xmlns:q='urn:q'"+attributes("type"), space()+"<name>vm</name>"+children("parts", 3, part)) + pick("tail", "", "\n", "<!-- end -->")
}

// FuzzFill looks for bytes that Parse accepts and Fill damages.
func FuzzFill(f *testing.F) {
	documents, err := filepath.Glob("testdata/fill/*.xml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range documents {
		xml, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(xml, "tap0", 1450, 1)
		f.Add(xml, "vnet4", 0, 4)
	}
	f.Fuzz(func(t *testing.T, xml []byte, tap string, mtu, queues int) {
		// A tap's name is a link's: at most 15 bytes, no blanks and no control characters that XML could not carry.
		if len(tap) > 15 || strings.ContainsFunc(tap, func(r rune) bool { return r <= ' ' || r == 0x7f || r >= 0xfffd }) {
			return
		}
		if mtu > 1<<16 || queues > 1<<8 {
			return
		}
		holds(t, xml, NIC{Tap: tap, MAC: podNIC.MAC, MTU: mtu, Queues: queues})
	})
}
