package pod

import (
	"context"
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
	// Plugin is the CNI plugin's name: ptp, bridge, macvlan or ipvlan. Empty where Scripts do a plugin's work.
	Plugin string
	// Scripts attach the pod when there is no plugin that makes such a network here.
	Scripts Scripts
	// Subnet and Subnet6 are the ranges that host-local takes addresses from, one of each family that the pod has; their
	// first address is the gateway. They exist in the node's namespace only. Networks of one node must not overlap.
	Subnet, Subnet6 netip.Prefix
	// IPAM is the configuration of another plugin that gives addresses than host-local, which the ranges are for.
	IPAM map[string]any
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

// Networks that pods have. The last two are made by hand: the pod has the same MAC and the same index of its link each time.
var (
	// PTP is kind's default: a veth for each pod, whose neighbours are reached through the node.
	PTP = Network{Plugin: "ptp", Subnet: netip.MustParsePrefix("10.244.1.0/24")}
	// Bridge is flannel's: the pods of a node share a segment.
	Bridge = Network{Plugin: "bridge", Subnet: netip.MustParsePrefix("10.244.2.0/24")}
	// Plain gives a pod one address and a gateway.
	Plain = Network{Scripts: Scripts{
		Address: netip.MustParseAddr("10.244.1.5"),
		Node:    "ip address add 10.244.1.1/24 dev $LINK\nip link set $LINK up",
		Pod:     "ip address add $ADDRESS/24 brd + dev eth0\nip link set eth0 up\nip route add default via 10.244.1.1",
	}}
	// HostAddress is what Calico makes: a /32, and a gateway outside of every subnet. What the node answers for by ARP must be
	// elsewhere, so it needs a default route by another link.
	HostAddress = Network{Scripts: Scripts{
		Address: netip.MustParseAddr("10.244.1.5"),
		Node: `ip link set $LINK up
ip route add $ADDRESS dev $LINK
echo 1 >/proc/sys/net/ipv4/conf/$LINK/proxy_arp
echo 0 >/proc/sys/net/ipv4/neigh/$LINK/proxy_delay`,
		Pod: `ip address add $ADDRESS/32 dev eth0
ip link set eth0 up
ip route add 169.254.1.1 dev eth0 scope link
ip route add default via 169.254.1.1`,
	}}
)

// Networks whose pods are on a link of the node's, [Uplink], which [Node.AddUplink] makes.
var (
	Macvlan = onUplink("macvlan")
	// Ipvlan is of the mode L2. All its pods have the MAC of the link.
	Ipvlan = onUplink("ipvlan")
)

func onUplink(plugin string) Network {
	return Network{Plugin: plugin, Subnet: netip.MustParsePrefix("10.244.3.0/24"), Subnet6: netip.MustParsePrefix("2001:db8:3::/64")}
}

// OnUplink reports whether the network's pods are on [Uplink].
func (n Network) OnUplink() bool { return n.Plugin == Macvlan.Plugin || n.Plugin == Ipvlan.Plugin }

// Uplink is the node's link that macvlans and ipvlans stand on.
const Uplink = "uplink"

// AddUplink makes the link that pods of Macvlan and Ipvlan stand on, and at its other end the gateway of their subnets.
func (n *Node) AddUplink(ctx context.Context) error {
	gateway := func(subnet netip.Prefix) netip.Prefix { return netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits()) }
	_, err := n.Output(ctx, "sh", "-e", "-c", fmt.Sprintf(`ip link add %s type veth peer name gateway
ip link set %[1]s up
ip address add %s dev gateway
ip address add %s dev gateway nodad
ip link set gateway up`, Uplink, gateway(Macvlan.Subnet), gateway(Macvlan.Subnet6)))
	return err
}

// Dual is the same network with IPv6 as well; of a plugin alone.
func (n Network) Dual() Network {
	b := n.Subnet.Addr().As4()
	n.Subnet6 = netip.MustParsePrefix(fmt.Sprintf("fd00:%d:%d:%d::/64", b[0], b[1], b[2]))
	return n
}

// IPv6Only is the same network without IPv4; of a plugin alone.
func (n Network) IPv6Only() Network {
	n = n.Dual()
	n.Subnet = netip.Prefix{}
	return n
}

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
	var ranges [][]map[string]any
	var routes []map[string]any
	for _, family := range []struct {
		subnet      netip.Prefix
		destination string
	}{{n.Subnet, "0.0.0.0/0"}, {n.Subnet6, "::/0"}} {
		if family.subnet.IsValid() {
			ranges = append(ranges, []map[string]any{{"subnet": family.subnet.String()}})
			routes = append(routes, map[string]any{"dst": family.destination})
		}
	}
	plugin := map[string]any{
		"type": n.Plugin,
		"ipam": map[string]any{
			"type":    "host-local",
			"dataDir": dataDir,
			"ranges":  ranges,
			"routes":  routes,
		},
	}
	if n.IPAM != nil {
		plugin["ipam"] = n.IPAM
	}
	if n.MTU != 0 {
		plugin["mtu"] = n.MTU
	}
	switch n.Plugin {
	case "ptp":
	case "macvlan":
		plugin["master"] = Uplink
		plugin["mode"] = "bridge"
	case "ipvlan":
		plugin["master"] = Uplink
		plugin["mode"] = "l2"
	case "bridge":
		plugin["bridge"] = "cni0"
		plugin["isGateway"] = true
		plugin["hairpinMode"] = true
	case "":
		return nil, nil
	default:
		return nil, fmt.Errorf("network plugin %q: only ptp, bridge, macvlan and ipvlan are known", n.Plugin)
	}
	plugins := append([]map[string]any{plugin}, n.Chained...)
	list, err := json.Marshal(map[string]any{"cniVersion": cniVersion, "name": n.Plugin, "plugins": plugins})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}
