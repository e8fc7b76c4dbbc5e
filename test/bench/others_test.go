package bench

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
	"github.com/podnic/podnic/test/shapes/tap"
)

// other is a wiring that podnic's are measured beside: what somebody else makes of a pod of the network plain, in as few
// processes as there can be.
type other struct {
	name string
	// on is where it is run: in the pod, or on the node.
	on func(*pod.Node, *pod.Pod) *pod.Namespace
	// first makes on the node what has to be there; far is the node's link that plays the network, if not the pod's.
	first, far string
	// batch is for ip(8), nft for nft(8), and settings are written: a file of /proc/sys/net each, and its value. In them POD is
	// the pod's namespace.
	batch, nft, settings string
	// undo takes it back, in the pod; settle is what comes of itself when a guest talks: neighbours that do not have to be asked
	// for while frames are measured.
	undo, settle string
	// guest is the MAC of the guest's card, gateway the one to which the guest sends what is for others, address the guest's, and
	// reached the MAC to which the network sends what is for the guest.
	guest, gateway, reached string
	address                 [4]byte
	// card opens the guest's end; nil is a tap by the name tap0.
	card func(testing.TB, *pod.Pod) *os.File
}

const (
	podMAC       = "0a:58:0a:f4:01:05" // of a pod that is made by hand
	elsewhereMAC = "02:00:00:00:00:99" // of no host
)

var podAddress = [4]byte{10, 244, 1, 5}

func inPod(_ *pod.Node, p *pod.Pod) *pod.Namespace     { return p.Namespace }
func onNode(node *pod.Node, _ *pod.Pod) *pod.Namespace { return node.Namespace }

// others are KubeVirt's core bindings, and a macvtap as its plugin makes one.
//
// What KubeVirt makes was read in its source at commit d923fdb (after v1.9.0-beta.0): pkg/network/setup/netpod/netpod.go has
// the links (bridgeBindingSpec, masqueradeBindingSpec), masquerade/masquerade.go beside it the rules, of a machine that lists
// no ports, and pkg/network/driver/nmstate/spec.go the order. It sends the requests for links itself, has a helper make the
// tap, and runs nft once for each table, chain and rule: 13 times.
var others = []other{
	{
		// The MAC of the bridge, which the NIC takes, is one that the kernel chooses; the placeholder is of the kind dummy, which
		// not every kernel has.
		name: "kubevirt-bridge", on: inPod,
		batch: `link add k6t-eth0 address 0a:58:0a:f4:01:fe type bridge
address add 169.254.75.10/32 dev k6t-eth0
link set k6t-eth0 up
link set eth0 down
link set eth0 name eth0-nic address 0a:58:0a:f4:01:fe
link set eth0-nic master k6t-eth0
address flush dev eth0-nic
link set eth0-nic up
link set eth0-nic type bridge_slave learning off
tuntap add tap0 mode tap vnet_hdr user 107 group 107
link set tap0 mtu 1200 master k6t-eth0 up
link add eth0 address 0a:58:0a:f4:01:05 mtu 1200 type bridge
address add 10.244.1.5/24 brd + dev eth0
`,
		settings: "ipv4/conf/all/arp_ignore 1\n",
		undo: `ip link delete eth0
ip link delete tap0
ip link delete k6t-eth0
ip link set eth0-nic down
ip link set eth0-nic name eth0 address 0a:58:0a:f4:01:05
ip address add 10.244.1.5/24 brd + dev eth0
ip link set eth0 up
ip route add default via 10.244.1.1
echo 0 >/proc/sys/net/ipv4/conf/all/arp_ignore`,
		guest: podMAC, gateway: elsewhereMAC, reached: podMAC, address: podAddress,
	},
	{
		name: "kubevirt-masquerade", on: inPod,
		batch: `link add k6t-eth0 address 02:00:00:00:00:00 mtu 1200 type bridge
address add 10.0.2.1/24 dev k6t-eth0
link set k6t-eth0 up
tuntap add tap0 mode tap vnet_hdr user 107 group 107
link set tap0 mtu 1200 master k6t-eth0 up
`,
		settings: "ipv4/conf/k6t-eth0/route_localnet 1\nipv4/ip_forward 1\n",
		nft: `table ip nat {
	chain prerouting {
		type nat hook prerouting priority -100
		iifname "eth0" counter jump KUBEVIRT_PREINBOUND
	}
	chain input {
		type nat hook input priority 100
	}
	chain output {
		type nat hook output priority -100
		ip daddr { 127.0.0.1 } counter dnat to 10.0.2.2
	}
	chain postrouting {
		type nat hook postrouting priority 100
		ip saddr 10.0.2.2 counter masquerade
		oifname "k6t-eth0" counter jump KUBEVIRT_POSTINBOUND
	}
	chain KUBEVIRT_PREINBOUND {
		counter dnat to 10.0.2.2
	}
	chain KUBEVIRT_POSTINBOUND {
		ip saddr { 127.0.0.1 } counter snat to 10.0.2.1
	}
}
`,
		undo: `nft delete table ip nat
ip link delete tap0
ip link delete k6t-eth0
echo 0 >/proc/sys/net/ipv4/ip_forward`,
		settle: `ip neighbour replace 10.244.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent
ip neighbour replace 10.0.2.2 lladdr 02:00:00:00:00:05 dev k6t-eth0 nud permanent`,
		guest: "02:00:00:00:00:05", gateway: "02:00:00:00:00:00", reached: podMAC, address: [4]byte{10, 0, 2, 2},
	},
	{
		// On a link of the node's, where the pod network has no part in it: the pod's own interface stays what it is. As
		// github.com/kubevirt/macvtap-cni makes it: mode bridge, moved to the pod, and up. The far end of the link plays the network.
		name: "macvtap", on: onNode,
		first: "ip link add lower type veth peer name far\nip link set lower mtu 1200 up\nip link set far mtu 1200 up", far: "far",
		batch: `link add macvtap0 link lower address 02:00:00:00:00:05 type macvtap mode bridge
link set macvtap0 netns POD name net1 mtu 1200 up
`,
		undo:  "ip link delete net1",
		guest: "02:00:00:00:00:05", gateway: elsewhereMAC, reached: "02:00:00:00:00:05", address: podAddress,
		card: macvtapCard,
	},
}

// script does what comes first, and writes what makes the wiring of a pod into dir, for `sh`.
func (o *other) script(b testing.TB, node *pod.Node, p *pod.Pod, dir string) string {
	b.Helper()
	podtest.In(b, node.Namespace, o.first)
	path := func(name, text string) string {
		path := filepath.Join(dir, o.name+"-"+name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "POD", p.Name)), 0o600); err != nil {
			b.Fatal(err)
		}
		return path
	}
	script := "set -e\nip -batch " + path("batch", o.batch) + "\n"
	for line := range strings.Lines(o.settings) {
		file, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		script += fmt.Sprintf("echo %s >/proc/sys/net/%s\n", value, file)
	}
	if o.nft != "" {
		script += "nft -f " + path("nft", o.nft) + "\n"
	}
	return path("script", script)
}

// macvtapCard opens the macvtap of a pod by a device file of its own: the machine's /dev need not have one.
func macvtapCard(b testing.TB, p *pod.Pod) *os.File {
	b.Helper()
	out, err := p.Command(b.Context(), "sh", "-c", "cat /sys/class/net/net1/tap*/dev").Output()
	var major, minor uint32
	if err == nil {
		_, err = fmt.Sscanf(string(out), "%d:%d", &major, &minor)
	}
	path := filepath.Join(b.TempDir(), "tap")
	if err == nil {
		err = unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor)))
	}
	var card *os.File
	if err == nil {
		card, err = tap.OpenMacvtap(path)
	}
	if err != nil {
		b.Fatal(err)
	}
	return card
}

func mac(b testing.TB, text string) net.HardwareAddr {
	b.Helper()
	address, err := net.ParseMAC(text)
	if err != nil {
		b.Fatal(err)
	}
	return address
}
