package kubevirt

import (
	"crypto/sha256"
	"fmt"
)

// What the interfaces are called in a launcher pod, from KubeVirt's pkg/network/namescheme/networknamescheme.go.
const (
	primaryName = "eth0"
	// maxHashed keeps pod names, and those that are made of them, within the 15 bytes of a link's name.
	maxHashed = 11
)

// podNames are what the interface of a network may be called in the pod: what the VMI's status says; eth0 for the pod's own
// network; else a hash of the network's name, or in pods of an earlier KubeVirt net and a number.
func (v *VMI) podNames(network int) []string {
	n := v.Spec.Networks[network]
	var names []string
	for _, status := range v.Status.Interfaces {
		if status.Name == n.Name && status.PodInterfaceName != "" {
			names = append(names, status.PodInterfaceName)
		}
	}
	if !n.secondary() {
		return append(names, primaryName)
	}
	ordinal := 0
	for _, other := range v.Spec.Networks[:network+1] {
		if other.secondary() {
			ordinal++
		}
	}
	return append(names, hashedName(n.Name), fmt.Sprintf("net%d", ordinal))
}

func hashedName(network string) string {
	return fmt.Sprintf("pod%x", sha256.Sum256([]byte(network)))[:len("pod")+maxHashed]
}
