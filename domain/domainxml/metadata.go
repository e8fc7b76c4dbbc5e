package domainxml

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/beevik/etree"
)

// MetadataURI is the XML namespace of podnic's element in a domain's metadata, which marks the domain as podnic's.
const MetadataURI = "urn:podnic:domain:1"

// ReadXML reads a domain's XML, and no more of it than shows that it is longer than libvirt takes.
func ReadXML(r io.Reader) ([]byte, error) {
	xml, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the domain's XML: %w", err)
	}
	return xml, nil
}

// Marked reads a domain's XML until it finds MetadataURI, and reports whether it does: a domain without it has no element of
// podnic's, whatever else it holds, and whether it is XML or not. libvirt prints namespaces with libxml2, which never writes
// characters of this one as entities. The reader gives the document from its beginning, as much of it as ReadXML reads.
func Marked(r io.Reader) (io.Reader, bool) {
	var kept, window []byte
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.Read(buffer)
		if len(kept) <= MaxSize {
			kept = append(kept, buffer[:n]...)
		}
		window = append(window, buffer[:n]...)
		switch {
		case bytes.Contains(window, []byte(MetadataURI)):
			return io.MultiReader(bytes.NewReader(kept), r), true
		case err != nil:
			return bytes.NewReader(kept), false
		}
		// It may have begun.
		window = append(window[:0], window[max(0, len(window)-len(MetadataURI)+1):]...)
	}
}

// Pod is what the metadata says, of one interface or of several:
//
//	<podnic:pod xmlns:podnic="urn:podnic:domain:1" interface="eth0" binding="bridge" spoof-guard="on" ipv6="auto"/>
//
//	<podnic:pod xmlns:podnic="urn:podnic:domain:1">
//	  <podnic:interface name="eth0" binding="shared" pod-ports="80/tcp,8080" guest-ports="22"/>
//	  <podnic:interface name="net1" binding="redirect" tap="tap7" socket="udp" queues="2" spoof-guard="on" ipv6="pass"/>
//	</podnic:pod>
//
// Each attribute may be left out, but the name of one of several. What <pod> says goes for each that does not say it itself.
type Pod struct {
	Interface  string // the pod's interface
	Binding    string
	SpoofGuard string // on, off, or empty: it is not said
	IPv6       string // auto, serve, pass, off, or empty
	// PodPorts and GuestPorts are as the flags of these names take them.
	PodPorts, GuestPorts string
	// Interfaces are those that are listed, with what <pod> says filled in. Then Interface is empty.
	Interfaces []PodInterface
}

// PodInterface is one of several in the metadata. What is not said is empty.
type PodInterface struct {
	Name, Binding, Tap, Socket, SpoofGuard, IPv6, PodPorts, GuestPorts string
	Queues                                                             int
}

// Pod is the metadata's element, nil when there is none. An element that cannot be understood whole is an error, since what
// it asks for would be missing without a word.
func (d *Document) Pod() (*Pod, error) {
	var found *Pod
	for _, e := range d.metadata() {
		if found != nil {
			return nil, fmt.Errorf("domain %q: two <pod> elements of %s in the metadata: leave one, with an <interface> for each that the guest gets", d.Name(), MetadataURI)
		}
		found = new(Pod)
		err := d.attributes(e, map[string]*string{
			"interface": &found.Interface, "binding": &found.Binding, "spoof-guard": &found.SpoofGuard, "ipv6": &found.IPv6,
			"pod-ports": &found.PodPorts, "guest-ports": &found.GuestPorts,
		})
		if err == nil {
			err = d.podInterfaces(e, found)
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// podInterfaces reads what <pod> lists.
func (d *Document) podInterfaces(pod *etree.Element, into *Pod) error {
	for e := range pod.ChildElementsSeq() {
		if e.Tag != "interface" || e.NamespaceURI() != MetadataURI {
			return fmt.Errorf("domain %q: <pod> in the metadata has a <%s>, which this podnic does not know: remove it", d.Name(), restoreName(e.FullTag()))
		}
		i, queues := PodInterface{}, ""
		err := d.attributes(e, map[string]*string{
			"name": &i.Name, "binding": &i.Binding, "tap": &i.Tap, "socket": &i.Socket, "queues": &queues, "spoof-guard": &i.SpoofGuard,
			"ipv6": &i.IPv6, "pod-ports": &i.PodPorts, "guest-ports": &i.GuestPorts,
		})
		switch {
		case err != nil:
			return err
		case i.Name == "":
			return fmt.Errorf("domain %q: an <interface> of <pod> in the metadata has no name: name the pod's interface", d.Name())
		case slices.ContainsFunc(into.Interfaces, func(o PodInterface) bool { return o.Name == i.Name }):
			return fmt.Errorf("domain %q: <pod> in the metadata names the interface %s twice: leave one", d.Name(), i.Name)
		}
		if i.Queues = number(queues); queues != "" && i.Queues == 0 {
			return fmt.Errorf("domain %q: queues of <interface> in the metadata takes a number, not %q", d.Name(), queues)
		}
		i.Binding, i.SpoofGuard, i.IPv6 = cmp.Or(i.Binding, into.Binding), cmp.Or(i.SpoofGuard, into.SpoofGuard), cmp.Or(i.IPv6, into.IPv6)
		i.PodPorts, i.GuestPorts = cmp.Or(i.PodPorts, into.PodPorts), cmp.Or(i.GuestPorts, into.GuestPorts)
		into.Interfaces = append(into.Interfaces, i)
	}
	if len(into.Interfaces) > 0 && into.Interface != "" {
		return fmt.Errorf("domain %q: <pod> in the metadata has the attribute interface, and lists interfaces too: leave one of them", d.Name())
	}
	return nil
}

// attributes reads all attributes of an element of the metadata.
func (d *Document) attributes(e *etree.Element, into map[string]*string) error {
	for _, a := range e.Attr {
		field := into[a.FullKey()]
		switch {
		case isNamespace(a):
			continue
		case field == nil:
			return fmt.Errorf("domain %q: <%s> in the metadata has the attribute %s, which this podnic does not know: remove it", d.Name(), e.Tag, restoreName(a.Key))
		case a.Key == "spoof-guard" && a.Value != "on" && a.Value != "off":
			return fmt.Errorf("domain %q: spoof-guard of <%s> in the metadata takes on or off, not %q", d.Name(), e.Tag, a.Value)
		case a.Key == "ipv6" && !slices.Contains([]string{"auto", "serve", "pass", "off"}, a.Value):
			return fmt.Errorf("domain %q: ipv6 of <%s> in the metadata takes auto, serve, pass or off, not %q", d.Name(), e.Tag, a.Value)
		}
		*field = a.Value
	}
	return nil
}

// metadata are podnic's elements in the domain's metadata.
func (d *Document) metadata() (found []*etree.Element) {
	for metadata := range named(d.top, "metadata") {
		for e := range metadata.ChildElementsSeq() {
			if e.Tag == "pod" && e.NamespaceURI() == MetadataURI {
				found = append(found, e)
			}
		}
	}
	return found
}

func isNamespace(a etree.Attr) bool { return a.Space == "xmlns" || a.FullKey() == "xmlns" }
