package domainxml

import (
	"slices"
	"strings"

	"github.com/beevik/etree"
)

// leftOut stands for a value that is not passed on.
const leftOut = "left-out"

// telling are the elements, by their path below <domain>, whose values say how the guest is connected and what it runs on.
// A path stands for all below it as well. What is not listed keeps its name and loses its values: passwords
// (<graphics passwd=…>), secrets, what cloud-init is given (<sysinfo>, <qemu:commandline>, <cmdline>), metadata, file names,
// and whatever libvirt will have tomorrow.
var telling = []string{
	"name", "uuid", "memory", "currentMemory", "vcpu", "cpu", "features", "clock", "on_poweroff", "on_reboot", "on_crash",
	"os/type", "os/boot", "os/bios", "iothreads", "devices/emulator", "devices/interface", "devices/controller", "devices/memballoon",
}

// secretInside are elements below the telling ones that may hold private values (802.1Qbh and filter parameters
// are the site's own).
var secretInside = []string{"virtualport", "filterref"}

// Redacted is the document for a bug report: all of its elements, and only those values that tell how the guest is
// connected. Comments and processing instructions are left out.
func (d *Document) Redacted() []byte {
	top := d.top.Copy()
	redact(top, nil, false)
	tree := etree.NewDocumentWithRoot(top)
	tree.WriteSettings = d.tree.WriteSettings
	return write(tree)
}

func redact(e *etree.Element, path []string, tells bool) {
	if e.Parent() != nil { // not the top
		path = append(path, e.Tag)
		tells = bare(e, e.Tag) && !slices.Contains(secretInside, e.Tag) &&
			(tells || slices.Contains(telling, strings.Join(path, "/")))
	}
	for i := range e.Attr {
		// The type of a domain, and of each of its parts, is a libvirt word.
		if a := &e.Attr[i]; !tells && !(a.FullKey() == "type" && word(a.Value)) {
			a.Value = leftOut
		}
	}
	for _, token := range slices.Clone(e.Child) {
		switch token := token.(type) {
		case *etree.Element:
			redact(token, path, tells)
		case *etree.CharData:
			if !tells && !token.IsWhitespace() {
				token.SetData(leftOut)
			}
		default: // comments and instructions
			e.RemoveChild(token)
		}
	}
}

// word reports whether a value can be one of libvirt's own words.
func word(s string) bool {
	return len(s) <= 20 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}
