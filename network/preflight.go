package network

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/probe"
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

// MayWire is nil for a process with the capabilities that Prepare and Restore take, and else says which it lacks.
func MayWire() error { return probe.CheckCapabilities(probe.NetAdmin, probe.NetRaw) }

func asRefusal(err error) error {
	var unsupported rtnl.UnsupportedError
	if errors.As(err, &unsupported) {
		return plan.Refuse("%w", err)
	}
	return err
}

// Shape refuses an interface that cannot be wired, as Prepare would, and needs no privilege. An existing wiring passed.
func Shape(req Request) error {
	if err := req.Options.Check(); err != nil {
		return err
	}
	s, err := open(req)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.discover(req.Options); err != nil {
		return err
	}
	names := s.found.names
	if !s.found.wired() {
		c, err := s.choose(req.Options)
		if err != nil {
			return err
		}
		names = c.names
	}
	return checkNames(s.found.all, s.found.nic.Index, names)
}
