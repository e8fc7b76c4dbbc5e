package kubevirt

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// VMI is the part of a VirtualMachineInstance (kubevirt.io/v1) that podnic reads.
type VMI struct {
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Spec struct {
		Domain struct {
			Devices struct {
				Interfaces            []vmiInterface `json:"interfaces"`
				UseVirtioTransitional *bool          `json:"useVirtioTransitional"`
			} `json:"devices"`
		} `json:"domain"`
		Networks     []vmiNetwork `json:"networks"`
		Subdomain    string       `json:"subdomain"`
		Architecture string       `json:"architecture"`
	} `json:"spec"`
	Status struct {
		MigrationState *migrationState `json:"migrationState"`
		Interfaces     []struct {
			Name             string `json:"name"`
			PodInterfaceName string `json:"podInterfaceName"`
		} `json:"interfaces"`
	} `json:"status"`
}

type vmiInterface struct {
	Name    string `json:"name"`
	Model   string `json:"model"`
	MAC     string `json:"macAddress"`
	State   string `json:"state"`
	Binding *struct {
		Name string `json:"name"`
	} `json:"binding"`
	PCIAddress  string       `json:"pciAddress"`
	ACPIIndex   int          `json:"acpiIndex"`
	BootOrder   *uint        `json:"bootOrder"`
	DHCPOptions *DHCPOptions `json:"dhcpOptions"`
}

// absent is the state of an interface that is being unplugged, and that a domain is made without.
const absent = "absent"

type vmiNetwork struct {
	Name   string `json:"name"`
	Multus *struct {
		Default bool `json:"default"`
	} `json:"multus"`
}

// secondary reports whether the network is another than the pod's own (vmispec.IsSecondaryMultusNetwork).
func (n vmiNetwork) secondary() bool { return n.Multus != nil && !n.Multus.Default }

// ParseVMI reads a VMI from JSON.
func ParseVMI(text []byte) (*VMI, error) {
	v := new(VMI)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("the VMI is not the JSON of one: %w", err)
	}
	return v, nil
}

// String names the VMI as kubectl does.
func (v *VMI) String() string { return v.Metadata.Namespace + "/" + v.Metadata.Name }

// Interface is an interface of a VMI that has podnic's binding.
type Interface struct {
	// Name is the VMI's name for it, and for its network.
	Name string
	// Model is the emulated card, empty when the VMI does not care.
	Model string
	Placement
	// DHCP is what the guest is to be told besides; nil for nothing.
	DHCP *DHCPOptions
	// MAC is what the VMI asks for, as it is written; empty when it does not care.
	MAC string
	// PodNames are what the interface may be called in the pod, the likelier before the less likely.
	PodNames []string
}

// Alias is the name of the interface's <alias> in the domain's XML: libvirt takes names of users' that begin with ua-.
func (i Interface) Alias() string { return "ua-" + i.Name }

// Bound lists the interfaces of the binding plugin; an empty name is the only plugin that the VMI has. None is an error,
// which says which bindings there are.
func (v *VMI) Bound(plugin string) ([]Interface, error) {
	plugin, err := v.plugin(plugin)
	if err != nil {
		return nil, err
	}
	var bound []Interface
	var others []string
	for _, i := range v.Spec.Domain.Devices.Interfaces {
		switch {
		case i.State == absent:
		case i.Binding == nil:
			others = append(others, i.Name+" has another kind of binding")
		case i.Binding.Name != plugin:
			others = append(others, fmt.Sprintf("%s has %s", i.Name, i.Binding.Name))
		default:
			at := slices.IndexFunc(v.Spec.Networks, func(n vmiNetwork) bool { return n.Name == i.Name })
			if at < 0 {
				return nil, fmt.Errorf("VMI %s: the interface %s has no network of its name", v, i.Name)
			}
			bound = append(bound, Interface{
				Name: i.Name, Model: v.model(i), Placement: i.placement(), DHCP: i.DHCPOptions, MAC: i.MAC, PodNames: v.podNames(at),
			})
		}
	}
	if len(bound) > 0 {
		return bound, nil
	}
	if len(others) == 0 {
		return nil, fmt.Errorf("VMI %s: it has no interfaces", v)
	}
	return nil, fmt.Errorf("VMI %s: no interface has the binding %s: %s", v, plugin, strings.Join(others, ", "))
}
