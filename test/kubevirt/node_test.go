package kubevirt

import (
	"fmt"
	"strings"

	"github.com/podnic/podnic/test/pod"
)

// attach does what the CNI plugin of the binding does in the pod's namespace before any container starts: the settings
// that a UDP server without capabilities needs, an address for it to answer from, and a filter for the links that KubeVirt
// is going to make.
func (s *site) attach(iface string) {
	s.t.Helper()
	base := strings.TrimPrefix(iface, "pod")
	nic, tap := base+"-nic", tapOf(iface)
	s.in(s.pod.Namespace, strings.NewReplacer("NIC", nic, "TAP", tap, "IFACE", iface).Replace(`
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
echo 1 >/proc/sys/net/ipv4/conf/all/accept_local
echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter
ip address replace 169.254.75.10/32 dev lo
nft -f - <<-END
	table bridge podnic-IFACE {
		chain forward {
			type filter hook forward priority filter
			iifname { "TAP", "NIC" } meta protocol ip meta l4proto udp udp dport 67-68 drop
			iifname "TAP" arp operation request arp daddr ip 169.254.75.10 drop
		}
		chain input {
			type filter hook input priority filter
			iifname "TAP" meta protocol ip udp dport 67 accept
			iifname "TAP" arp daddr ip 169.254.75.10 accept
			iifname { "TAP", "NIC" } drop
		}
		chain output {
			type filter hook output priority filter
			oifname "TAP" meta protocol ip udp sport 67 accept
			oifname "TAP" arp saddr ip 169.254.75.10 accept
			oifname { "TAP", "NIC" } drop
		}
	}
END`))
}

// tapOf is what KubeVirt calls the tap of a pod interface.
func tapOf(iface string) string {
	if iface == pod.Interface {
		return "tap0"
	}
	return "tap" + iface[len("pod"):]
}

// wire does what KubeVirt's node agent does for domainAttachmentType managedTap, once the launcher runs
// (pkg/network/setup/netpod, managedTapSpec, at d923fdb). Its placeholder is a dummy link; a kernel without those is given
// a bridge without ports.
func (s *site) wire(iface string, tapOptions ...string) {
	s.t.Helper()
	base := strings.TrimPrefix(iface, "pod")
	s.in(s.pod.Namespace, strings.NewReplacer("NIC", base+"-nic", "BRIDGE", "k6t-"+base, "TAP", tapOf(iface), "IFACE", iface, "USER", fmt.Sprint(launcherUser),
		"OPTIONS", strings.Join(append(tapOptions, "vnet_hdr"), " ")).Replace(`
mac=$(cat /sys/class/net/IFACE/address)
mtu=$(cat /sys/class/net/IFACE/mtu)
addresses=$(ip -4 -o address show dev IFACE | awk '{ print $4 }')
ip link set IFACE down
ip link set IFACE name NIC
ip address flush dev NIC
ip link add BRIDGE type bridge
ip link set BRIDGE up
ip link set NIC address "$(cat /sys/class/net/BRIDGE/address)"
ip link set NIC master BRIDGE up
bridge link set dev NIC learning off
ip tuntap add TAP mode tap user USER group USER OPTIONS
ip link set TAP mtu "$mtu" master BRIDGE up
ip link add IFACE address "$mac" mtu "$mtu" type dummy 2>/dev/null || ip link add IFACE address "$mac" mtu "$mtu" type bridge
for address in $addresses; do ip address add "$address" dev IFACE; done
echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore`))
}
