package kubevirt

import (
	"fmt"
	"slices"
	"strings"
)

// DefaultPlugin is the name under which the binding is registered by podnic's own manifests.
const DefaultPlugin = "podnic"

// plugin is the name under which this binding is registered. KubeVirt tells a sidecar from 1.9 on (NetworkBindingPluginNameEnvVar
// in pkg/hooks/hooks.go). Before, the VMI does, since a launcher pod has the sidecars of those bindings alone that the VMI
// uses: the only plugin of a VMI is ours, and one of several if it is called as in our manifests.
func (v *VMI) plugin(told string) (string, error) {
	if told != "" {
		return told, nil
	}
	var names []string
	for _, i := range v.Spec.Domain.Devices.Interfaces {
		if i.State != absent && i.Binding != nil && !slices.Contains(names, i.Binding.Name) {
			names = append(names, i.Binding.Name)
		}
	}
	switch {
	case len(names) == 1:
		return names[0], nil
	case len(names) == 0 || slices.Contains(names, DefaultPlugin):
		return DefaultPlugin, nil
	}
	return "", fmt.Errorf("VMI %s: this KubeVirt does not say which of its binding plugins (%s) is podnic's: set PODNIC_PLUGIN_NAME in the sidecar's image",
		v, strings.Join(names, " or "))
}
