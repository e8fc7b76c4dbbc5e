package network

import (
	"fmt"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
)

// Lies is how many frames of the guest's the spoof guard of a wiring has dropped since its filter was put in place. Reading
// it requires CAP_NET_ADMIN (unix.EPERM), but for what tc counts.
func Lies(namespace string, names plan.Names) (uint64, error) {
	ns, err := OpenNamespace(namespace)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	if plan.ByTC(names.Binding) {
		return liesByTC(ns, names)
	}
	n := &rtnl.NFT{NS: ns}
	defer n.Close()
	f, err := n.Read(names.Binding.FilterFamily(), plan.FilterTable(names.Interface))
	if err != nil {
		return 0, err
	}
	if !f.Guards() {
		return 0, fmt.Errorf("the filter of %s counts no lies", names.Interface)
	}
	return f.Lies, nil
}

// liesByTC asks the tap's qdisc.
func liesByTC(ns *Namespace, names plan.Names) (uint64, error) {
	conn, err := rtnl.Open(ns)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	links, err := conn.Links()
	if err != nil {
		return 0, err
	}
	for _, l := range links {
		if l.Name != names.Tap {
			continue
		}
		qdiscs, err := conn.Qdiscs(map[int]plan.Role{l.Index: plan.Tap})
		if err != nil {
			return 0, err
		}
		if len(qdiscs) == 1 {
			return qdiscs[0].Dropped, nil
		}
	}
	return 0, fmt.Errorf("%s has no qdisc that counts lies", names.Tap)
}
