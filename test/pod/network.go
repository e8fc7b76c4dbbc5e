package pod

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/libcni"
)

// cniVersion of the configurations. Every plugin since 2020 speaks it, Debian's packages included.
const cniVersion = "1.0.0"

// Network says how a pod is attached to its node.
type Network struct {
	// Plugin is the CNI plugin's name: ptp or bridge. Empty where Scripts do a plugin's work.
	Plugin string
	// Scripts attach the pod when there is no plugin that makes such a network here.
	Scripts Scripts
	// Subnet is the range that host-local takes addresses from; its first address is the gateway. It exists in the node's
	// namespace only. Networks of one node must not overlap.
	Subnet netip.Prefix
	// MTU of the pod's interface in bytes; 0 leaves the kernel's 1500.
	MTU int
	// Chained are configurations of plugins that follow, in order. Where their programs are, [Node.AddPlugins] says.
	Chained []map[string]any
}

// Scripts attach a pod by hand: there is a veth pair already, one end in the pod as eth0 with MAC 0a:58:0a:f4:01:NN, the
// other on the node, and the shell runs Node in the node's namespace and then Pod in the pod's, with -e and these
// variables: LINK is the node's end, POD the pod's namespace as `ip netns` calls it, ADDRESS the address below, NUMBER its
// last byte, MAC the pod's.
type Scripts struct {
	Node, Pod string
	// Address is the pod's; not valid for a pod that has none.
	Address netip.Addr
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

// Chain is the same network with a plugin more at its end.
func (n Network) Chain(plugin map[string]any) Network {
	n.Chained = append(slices.Clone(n.Chained), plugin)
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
	case "":
		return nil, nil
	default:
		return nil, fmt.Errorf("network plugin %q: only ptp and bridge are known", n.Plugin)
	}
	plugins := append([]map[string]any{plugin}, n.Chained...)
	list, err := json.Marshal(map[string]any{"cniVersion": cniVersion, "name": n.Plugin, "plugins": plugins})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}
