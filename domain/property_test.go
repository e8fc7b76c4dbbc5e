package domain

import (
	"bytes"
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
		nic.Queues <= 1 && e.child("driver").attribute("queues") != nil {
		t.Fatalf("the interface is %+v, for %+v\n%s", got, nic, filled)
	}

	again, err := after.Fill(nic)
	if err != nil || !bytes.Equal(again, filled) {
		t.Fatalf("filled again it changes: %v\n%s\n%s", err, filled, again)
	}

	// The one element that may change: the interface, or what it is added to.
	changed, err := before.choose(nic.Tap, "")
	if err != nil {
		t.Fatalf("choose: %v", err)
	}
	whole := changed != nil
	if !whole {
		changed = before.top
		if devices := before.top.child("devices"); devices != nil {
			changed = devices
		}
	}
	data := before.data
	body := bytes.TrimPrefix(filled, before.mark)
	if !bytes.HasPrefix(filled, before.mark) || !bytes.HasPrefix(body, data[:changed.start]) || !bytes.HasSuffix(body, data[changed.end:]) {
		t.Fatalf("bytes outside of <%s> changed:\n%s\n%s", changed.name.Local, xml, filled)
	}
	if !whole && !changed.selfClosing() {
		at := changed.start + commonPrefix(data[changed.start:], body[changed.start:])
		if !bytes.HasSuffix(body, data[at:]) {
			t.Fatalf("more than an insertion:\n%s\n%s", xml, filled)
		}
	}

	// The children of the interface that Fill has no business with are there, in order, byte by byte.
	if whole {
		var theirs []string
		for _, c := range changed.children {
			if !concerns(c) {
				theirs = append(theirs, string(data[c.start:c.end]))
			}
		}
		var kept []string
		for _, c := range e.children {
			if !concerns(c) {
				kept = append(kept, string(after.data[c.start:c.end]))
			}
		}
		if !slices.Equal(theirs, kept) {
			t.Fatalf("children changed:\n%q\n%q", theirs, kept)
		}
	}
}

// concerns reports whether Fill may change an interface's child of that name.
func concerns(e *element) bool {
	if slices.Contains([]string{"mac", "target", "model", "driver", "mtu", "bandwidth"}, e.name.Local) {
		return true
	}
	for _, c := range connections {
		if c.element == e.name.Local {
			return true
		}
	}
	return false
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
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
		return pick("between", "", " ", "\n", "\n  ", "\n\t", "\r\n    ", "\n\n   \n", "<!-- <interface/> -->", "\n <!--\n--> ", "<?pi?>", "text", "<![CDATA[<x>\n]]>")
	}
	attributes := func(names ...string) string {
		var out strings.Builder
		for _, name := range names {
			if rapid.Bool().Draw(t, name) {
				quote := pick("quote", "'", `"`)
				value := pick("value", "", "tap0", "ethernet", "bridge", "no", "4", "1450", "vfio", "virtio", "e1000", "default", "passt", "0A:58:00:00:00:00", "a&amp;b", "&#116;ap0", ">", "\n x")
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
		return element(name, attributes("dev", "managed", "address", "type", "queues", "size", "name", "q:dev"), content)
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
