package domainxml

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/beevik/etree"
)

// MaxSize is the longest document that libvirt's daemons accept: REMOTE_STRING_MAX of libvirt's
// src/remote/remote_protocol.x, in bytes.
const MaxSize = 4 << 20

// byteOrderMark may stand at the beginning of a UTF-8 file. It is not part of the XML.
var byteOrderMark = []byte("\ufeff")

// Document is a libvirt domain's XML. It does not change.
type Document struct {
	tree *etree.Document
	top  *etree.Element
	// entity is one that the document refers to and nobody knows, empty when there is none.
	entity string
}

// Parse reads a domain's XML, in time that grows with its length and no faster. What is not the XML of a domain with a name
// is an error of one line; whether libvirt will take the rest is for libvirt to say.
func Parse(xml []byte) (*Document, error) {
	d, err := parse(xml)
	if err != nil {
		return nil, fmt.Errorf("domain XML: %w", err)
	}
	return d, nil
}

func parse(xml []byte) (*Document, error) {
	data, marked := bytes.CutPrefix(xml, byteOrderMark)
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("the document is empty")
	case len(xml) > MaxSize:
		return nil, fmt.Errorf("the document is longer than the %d bytes that libvirt accepts", MaxSize)
	case !marked && (bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff"))):
		return nil, encodingError("UTF-16")
	}
	tree, entity, err := readTree(data)
	if err != nil {
		return nil, err
	}
	top := tree.Root()
	d := &Document{tree: tree, top: top, entity: entity}
	switch {
	case top.Tag != "domain":
		return nil, fmt.Errorf("it is a <%s>, not a <domain>: give the XML that `virsh dumpxml` prints", restoreName(top.Tag))
	case !bare(top, "domain"):
		return nil, fmt.Errorf("<domain> is in the namespace %q: libvirt's elements have none", cmp.Or(top.NamespaceURI(), restoreName(top.Space)))
	case strings.TrimSpace(d.Name()) == "":
		return nil, errors.New("the domain has no <name>")
	}
	return d, nil
}

// Name is the domain's name.
func (d *Document) Name() string { return text(child(d.top, "name")) }

// UUID is the domain's UUID in the form that libvirt prints, empty when libvirt is to choose one.
func (d *Document) UUID() string { return canonicalUUID(text(child(d.top, "uuid"))) }

// Type is the hypervisor that the domain asks for: kvm, qemu.
func (d *Document) Type() string { return value(d.top, "type") }

// Interfaces are the domain's network interfaces, in the document's order.
func (d *Document) Interfaces() []Interface {
	var interfaces []Interface
	for _, e := range d.interfaces() {
		interfaces = append(interfaces, newInterface(e))
	}
	return interfaces
}

// interfaces are the elements that libvirt takes for interfaces, which it looks for as ./devices/interface
// (src/conf/domain_conf.c). What has that name elsewhere, in metadata or in a comment, does not count.
func (d *Document) interfaces() []*etree.Element {
	var found []*etree.Element
	for devices := range named(d.top, "devices") {
		for e := range named(devices, "interface") {
			found = append(found, e)
		}
	}
	return found
}

// canonicalUUID brings a UUID into the form that libvirt prints. It reads them without regard to case, and with hyphens
// anywhere or nowhere (virUUIDParse). What is not a UUID stays as it is.
func canonicalUUID(s string) string {
	s = strings.TrimSpace(s)
	hex := strings.ToLower(strings.ReplaceAll(s, "-", ""))
	if len(hex) != 32 || strings.Trim(hex, "0123456789abcdef") != "" {
		return s
	}
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
}
