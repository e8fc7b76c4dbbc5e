package domain

import (
	"bytes"
	"slices"
	"strings"
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

// secretInside are elements below the telling ones that may hold what is nobody's business (802.1Qbh and filter parameters
// are the site's own).
var secretInside = []string{"virtualport", "filterref"}

// Redacted is the document for a bug report: all of its elements, and only those values that tell how the guest is
// connected. Comments and processing instructions are left out.
func (d *Document) Redacted() []byte {
	var b bytes.Buffer
	redact(&b, d.top, nil, false)
	b.WriteByte('\n')
	return b.Bytes()
}

func redact(b *bytes.Buffer, e *element, path []string, tells bool) {
	top := e.parent == nil
	if !top {
		path = append(slices.Clone(path), e.name.Local)
		tells = e.name.Space == "" && !slices.Contains(secretInside, e.name.Local) &&
			(tells || slices.Contains(telling, strings.Join(path, "/")))
	}
	indent := strings.Repeat("  ", len(path))
	b.WriteString(indent + "<" + e.name.Local)
	for _, a := range e.attributes {
		value := leftOut
		// The type of a domain, and of each of its parts, is a word of libvirt's.
		if tells || a.name.Space == "" && a.name.Local == "type" && word(a.value) {
			value = a.value
		}
		b.WriteString(" " + a.name.Local + "='")
		b.WriteString(escape(value))
		b.WriteString("'")
	}
	text := strings.TrimSpace(string(e.text))
	if text != "" && !tells {
		text = leftOut
	}
	switch {
	case len(e.children) > 0:
		b.WriteString(">")
		b.WriteString(escape(text))
		for _, c := range e.children {
			b.WriteByte('\n')
			redact(b, c, path, tells)
		}
		b.WriteString("\n" + indent + "</" + e.name.Local + ">")
	case text != "":
		b.WriteString(">")
		b.WriteString(escape(text))
		b.WriteString("</" + e.name.Local + ">")
	default:
		b.WriteString("/>")
	}
}

// word reports whether a value can be one of libvirt's own words.
func word(s string) bool {
	return len(s) <= 20 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}
