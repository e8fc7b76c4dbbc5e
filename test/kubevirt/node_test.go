package kubevirt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// attach calls the CNI plugin as Multus does for the network attachment of the manifest, before any container starts. Its
// records are in a directory of the pod's.
func (s *site) attach(iface string) {
	s.T.Helper()
	text, err := os.ReadFile("../../deploy/kubevirt/network-attachment-definition.yaml")
	if err != nil {
		s.T.Fatal(err)
	}
	var manifest struct{ Spec struct{ Config string } }
	if err := yaml.Unmarshal(text, &manifest); err != nil {
		s.T.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal([]byte(manifest.Spec.Config), &config); err != nil {
		s.T.Fatal(err)
	}
	config["interface"], config["stateDir"] = iface, filepath.Join(s.Pod.Dir, "cni")
	stdin, err := json.Marshal(config)
	if err != nil {
		s.T.Fatal(err)
	}
	var out []byte
	err = s.Node.Do(func() (err error) {
		cmd := exec.CommandContext(s.T.Context(), podtest.Program(s.T))
		cmd.Stdin = bytes.NewReader(stdin)
		cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID="+s.Pod.Name, "CNI_NETNS="+s.Pod.Path,
			"CNI_IFNAME=podnic-"+iface[:3], "CNI_PATH=/nowhere")
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		s.T.Fatalf("CNI ADD: %v: %s", err, out)
	}
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
	s.T.Helper()
	base := strings.TrimPrefix(iface, "pod")
	s.In(s.Pod.Namespace, strings.NewReplacer("NIC", base+"-nic", "BRIDGE", "k6t-"+base, "TAP", tapOf(iface), "IFACE", iface, "USER", fmt.Sprint(launcherUser),
		"OPTIONS", strings.Join(append(tapOptions, "vnet_hdr"), " ")).Replace(`
mac=$(cat /sys/class/net/IFACE/address)
mtu=$(cat /sys/class/net/IFACE/mtu)
addresses=$(ip -o address show dev IFACE | awk '{ print $4 }')
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
