package domainxml

import (
	"fmt"
	"regexp"
	"strconv"
	"sync"

	"github.com/beevik/etree"
)

// Placement is where and how a card that is added to a domain appears in the guest. The zero value leaves all of it to
// libvirt.
type Placement struct {
	// PCIAddress is as 0000:81:01.0: domain, bus, slot and function in hexadecimal.
	PCIAddress string
	// ACPIIndex and BootOrder count from 1; 0 is none.
	ACPIIndex, BootOrder int
	// LinkDown says that the guest sees no carrier.
	LinkDown bool
}

var pciAddress = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([[:xdigit:]]{4}):([[:xdigit:]]{2}):([[:xdigit:]]{2})\.([0-7])$`)
})

// check refuses what libvirt would not take.
func (p Placement) check() error {
	switch {
	case p.PCIAddress != "" && !pciAddress().MatchString(p.PCIAddress):
		return fmt.Errorf("the PCI address %q is not one as 0000:81:01.0", p.PCIAddress)
	case p.ACPIIndex < 0 || p.BootOrder < 0:
		return fmt.Errorf("ACPI index %d and boot order %d are not both from 1 on", p.ACPIIndex, p.BootOrder)
	}
	return nil
}

// add gives an interface the placement.
func (p Placement) add(to *etree.Element) {
	if p.LinkDown {
		to.CreateElement("link").CreateAttr("state", "down")
	}
	if p.BootOrder > 0 {
		to.CreateElement("boot").CreateAttr("order", strconv.Itoa(p.BootOrder))
	}
	if p.ACPIIndex > 0 {
		to.CreateElement("acpi").CreateAttr("index", strconv.Itoa(p.ACPIIndex))
	}
	if part := pciAddress().FindStringSubmatch(p.PCIAddress); part != nil {
		address := to.CreateElement("address")
		address.CreateAttr("type", "pci")
		for i, name := range []string{"domain", "bus", "slot", "function"} {
			address.CreateAttr(name, "0x"+part[i+1])
		}
	}
}
