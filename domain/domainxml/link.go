package domainxml

import (
	"fmt"

	"github.com/beevik/etree"
)

// LinkDown reports whether the document takes the link of the tap's interface down (<link state='down'/>): the guest then
// sees a network card without a carrier.
func (d *Document) LinkDown(tap string) bool {
	e, err := d.choose(tap, "")
	return err == nil && value(child(e, "link"), "state") == "down"
}

// WithLink is the interface of a tap alone, as XML, with its link up or down.
func (d *Document) WithLink(tap string, up bool) ([]byte, error) {
	e, err := d.choose(tap, "")
	if err == nil && e == nil {
		err = fmt.Errorf("domain %q has no interface", d.Name())
	}
	if err != nil {
		return nil, err
	}
	device := etree.NewDocument()
	device.WriteSettings = d.tree.WriteSettings
	device.SetRoot(e.Copy())
	link := child(device.Root(), "link")
	if link == nil {
		link = device.Root().CreateElement("link")
	}
	link.CreateAttr("state", LinkState(up))
	return write(device), nil
}

// LinkState is how libvirt writes a link that is up, or down.
func LinkState(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
