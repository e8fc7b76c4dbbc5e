package network

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// checkNames refuses when a name that the wiring needs is somebody else's, or an alternative one of the pod's link.
func checkNames(all []plan.Link, nic int, names plan.Names) error {
	if err := names.CheckTap(); err != nil {
		return err
	}
	needed := []string{names.Interface, names.NIC, names.Bridge, names.Tap, names.Aside}
	for _, l := range all {
		if l.Index == nic {
			if i := slices.IndexFunc(l.AltNames, func(name string) bool { return slices.Contains(needed, name) }); i >= 0 {
				name := l.AltNames[i]
				remedy := fmt.Sprintf("remove it (ip link property del dev %s altname %s)", l.Name, name)
				if name == names.Tap {
					remedy = "choose another name for the tap with --tap, or " + remedy
				}
				return plan.Refuse("the name %s is needed, and is an alternative name of %s: %s", name, l.Name, remedy)
			}
		}
		if l.Index == nic || plan.MarkedFor(l.Group, nic) {
			continue
		}
		for _, name := range append([]string{l.Name}, l.AltNames...) {
			if !slices.Contains(needed, name) {
				continue
			}
			if plan.IsMark(l.Group) {
				return plan.Refuse("the name %s is needed, and is that of a link of another interface's wiring: choose another name with --tap, or rename %s", name, names.Interface)
			}
			remedy := fmt.Sprintf("rename or remove it (ip link delete %s)", name)
			if name == names.Tap {
				remedy = "choose another name with --tap, or remove it (ip link delete " + name + ")"
			}
			return plan.Refuse("the name %s is needed and taken by a link that podnic did not make: %s", name, remedy)
		}
	}
	return nil
}

// nodeVeths is from how many other pods' veth ends on a namespace is taken for a node's. A pod with that many secondary
// networks has not been seen.
const nodeVeths = 8

// nodeLinks are names by which pod networks call their links on a node, and never in a pod.
var nodeLinks = []string{"cni0", "cbr0", "docker0", "flannel.1", "cilium_host", "vxlan.calico", "kube-ipvs0", "ovn-k8s-mp0", "kube-bridge", "antrea-gw0"}

// checkNotNode refuses a namespace that is plainly a node's, though not the machine's own: that of a kind node, say, into
// which a hostNetwork pod is put.
func checkNotNode(all []plan.Link) error {
	veths := 0
	for _, l := range all {
		if slices.Contains(nodeLinks, l.Name) || strings.HasPrefix(l.Name, "cali") && l.Kind == plan.KindVeth {
			return plan.Refuse("this is a node's network namespace, not a pod's (it has the link %s): run podnic in the pod (without hostNetwork), or pass --allow-host-namespace if you are certain", l.Name)
		}
		if l.Kind == plan.KindVeth && l.HasPeer {
			veths++
		}
	}
	if veths > nodeVeths {
		return plan.Refuse("this looks like a node's network namespace, not a pod's (it has %d veth links): run podnic in the pod (without hostNetwork), or pass --allow-host-namespace if you are certain", veths)
	}
	return nil
}

// capability is one that an operation needs.
type capability struct {
	bit  int
	name string
}

var (
	capNetAdmin = capability{unix.CAP_NET_ADMIN, "NET_ADMIN"}
	capNetRaw   = capability{unix.CAP_NET_RAW, "NET_RAW"}
	capSysAdmin = capability{unix.CAP_SYS_ADMIN, "SYS_ADMIN"}
)

// MayWire is nil for a process with the capabilities that Prepare and Restore take, and else says which it lacks.
func MayWire() error { return checkCapabilities(capNetAdmin, capNetRaw) }

// hasCapability reports whether this process has one.
func hasCapability(c capability) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("read this process's capabilities: %w", err)
	}
	return data[0].Effective&(1<<c.bit) != 0, nil
}

// checkCapabilities names the capability that is missing, where it is in time to say so.
func checkCapabilities(needed ...capability) error {
	var missing []string
	for _, c := range needed {
		has, err := hasCapability(c)
		if err != nil {
			return err
		}
		if !has {
			missing = append(missing, c.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, ", ")
	return plan.Refuse("this process lacks CAP_%s: add it to the container (securityContext.capabilities.add: [%s], as uid 0)",
		strings.Join(missing, " and CAP_"), list)
}

func asRefusal(err error) error {
	var unsupported rtnl.UnsupportedError
	if errors.As(err, &unsupported) {
		return plan.Refuse("%w", err)
	}
	return err
}
