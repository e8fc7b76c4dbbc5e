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

// linkKinds says of each kind of link that people give to pods why it cannot be wired, and what would work.
var linkKinds = map[string]string{
	"macvlan": "it passes only frames of its own MAC, and the guest's frames would come from a bridge port with another; give the pod a veth (a bridge or ptp network), or the guest a macvtap of its own",
	"ipvlan":  "it shares its parent's MAC and sorts frames by IP address, so that a bridge behind it hears nothing; give the pod a veth (a bridge or ptp network)",
	"netkit":  "in its L3 mode it has no MAC to give away; configure the pod network to use veth",
	"bridge":  "a bridge cannot be a port of another bridge",
	"tun":     "it belongs to the program that holds it",
	"vlan":    "its frames would be bridged below it; give the pod a veth on the VLAN's bridge",
	"":        "it is a device of the machine (an SR-IOV function, a moved NIC), whose hardware passes only frames of its own MAC; hand it to the guest by PCI passthrough",
}

// checkKind refuses a link that cannot be a bridge port for a guest.
func checkKind(l plan.Link) error {
	switch {
	case l.Type == unix.ARPHRD_LOOPBACK:
		return plan.Refuse("%s is the loopback: name the pod's interface with --interface", l.Name)
	case l.Kind == plan.KindVeth:
		return nil
	}
	reason, known := linkKinds[l.Kind]
	if !known {
		reason = "podnic knows how to wire veth alone; give the pod a veth (a bridge or ptp network)"
	}
	kind := l.Kind
	if kind == "" {
		kind = "physical"
	}
	return plan.Refuse("%s cannot be wired to a guest: it is a %s link, and %s", l.Name, kind, reason)
}

// checkFree refuses links and things on the link that podnic could not take along.
func checkFree(all []plan.Link, nic plan.Link) error {
	if nic.MasterIndex != 0 {
		return plan.Refuse("%s is already a port of %s: take it out first (ip link set %s nomaster)", nic.Name, nameOf(all, nic.MasterIndex), nic.Name)
	}
	for _, l := range all {
		if l.ParentIndex == nic.Index && !l.HasPeer && l.Kind != plan.KindVeth {
			return plan.Refuse("the %s link %s stands on %s, and would hear nothing once %s is a bridge port: remove it first", l.Kind, l.Name, nic.Name, nic.Name)
		}
	}
	return nil
}

func nameOf(all []plan.Link, index int) string {
	for _, l := range all {
		if l.Index == index {
			return l.Name
		}
	}
	return fmt.Sprintf("link %d", index)
}

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

// checkNexthops refuses nexthop objects, which vanish when the link is set down, and which a snapshot does not hold.
func checkNexthops(r *rtnl.Conn, nic plan.Link) error {
	ids, err := r.NexthopObjects(nic.Index)
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		return plan.Refuse("%s has the nexthop object %d, which podnic cannot put back: use routes with their own next hops", nic.Name, ids[0])
	}
	return nil
}

func asRefusal(err error) error {
	var unsupported rtnl.UnsupportedError
	if errors.As(err, &unsupported) {
		return plan.Refuse("%w", err)
	}
	return err
}
