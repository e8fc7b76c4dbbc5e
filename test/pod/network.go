package pod

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/libcni"
)

// cniVersion of the configurations. Every plugin since 2020 speaks it, Debian's packages included.
const cniVersion = "1.0.0"

// Network says how a pod is attached to its node.
type Network struct {
	// Plugin is the CNI plugin's name: ptp or bridge.
	Plugin string
	// Subnet is the range that host-local takes addresses from; its first address is the gateway. It exists in the node's
	// namespace only. Networks of one node must not overlap.
	Subnet netip.Prefix
	// MTU of the pod's interface in bytes; 0 leaves the kernel's 1500.
	MTU int
}

// The two networks that pods usually have.
var (
	// PTP is kind's default: a veth for each pod, whose neighbours are reached through the node.
	PTP = Network{Plugin: "ptp", Subnet: netip.MustParsePrefix("10.244.1.0/24")}
	// Bridge is flannel's: the pods of a node share a segment.
	Bridge = Network{Plugin: "bridge", Subnet: netip.MustParsePrefix("10.244.2.0/24")}
)

// WithMTU is the same network with another MTU.
func (n Network) WithMTU(mtu int) Network {
	n.MTU = mtu
	return n
}

// config is the network configuration that a container runtime would read from /etc/cni/net.d.
func (n Network) config(dataDir string) (*libcni.NetworkConfigList, error) {
	plugin := map[string]any{
		"type": n.Plugin,
		"ipam": map[string]any{
			"type":    "host-local",
			"dataDir": dataDir,
			"ranges":  [][]map[string]any{{{"subnet": n.Subnet.String()}}},
			"routes":  []map[string]any{{"dst": "0.0.0.0/0"}},
		},
	}
	if n.MTU != 0 {
		plugin["mtu"] = n.MTU
	}
	switch n.Plugin {
	case "ptp":
	case "bridge":
		plugin["bridge"] = "cni0"
		plugin["isGateway"] = true
		plugin["hairpinMode"] = true
	default:
		return nil, fmt.Errorf("network plugin %q: only ptp and bridge are known", n.Plugin)
	}
	list, err := json.Marshal(map[string]any{"cniVersion": cniVersion, "name": n.Plugin, "plugins": []any{plugin}})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}
