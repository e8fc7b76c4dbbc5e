package kubevirt

// Placement is how the VMI wants a card to be placed in the guest. KubeVirt sees to it itself where it puts the card into the
// domain, which it does for a binding that is registered with a domainAttachmentType.
type Placement struct {
	// PCIAddress is as 0000:81:01.0, empty for any.
	PCIAddress string
	// ACPIIndex is what the guest names the card by, from 1 on; 0 for none.
	ACPIIndex int
	// BootOrder is the card's turn among all devices, from 1 on; 0 for none.
	BootOrder int
	// LinkDown says that the guest is to see no carrier.
	LinkDown bool
}

// down is the state of an interface without carrier.
const down = "down"

func (i vmiInterface) placement() Placement {
	p := Placement{PCIAddress: i.PCIAddress, ACPIIndex: i.ACPIIndex, LinkDown: i.State == down}
	if i.BootOrder != nil {
		p.BootOrder = int(*i.BootOrder)
	}
	return p
}

// model is the emulated card. The older kind of virtio is a PCI device, and S/390 has none such (InterpretTransitionalModelType
// in pkg/virt-launcher/virtwrap/converter).
func (v *VMI) model(i vmiInterface) string {
	transitional := v.Spec.Domain.Devices.UseVirtioTransitional
	if (i.Model == "" || i.Model == "virtio") && transitional != nil && *transitional && v.Spec.Architecture != "s390x" {
		return "virtio-transitional"
	}
	return i.Model
}
