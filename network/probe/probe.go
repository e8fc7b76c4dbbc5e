package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// ErrHidden says that this process may not see what it was asked for.
var ErrHidden = errors.New("that requires CAP_NET_ADMIN, which this process lacks")

// LackingCapabilities are those of the capabilities that wiring needs which this process does not have, as NET_ADMIN.
func LackingCapabilities() ([]string, error) {
	var lacking []string
	for _, c := range []Capability{NetAdmin, NetRaw} {
		has, err := hasCapability(c)
		if err != nil {
			return nil, err
		}
		if !has {
			lacking = append(lacking, c.name)
		}
	}
	return lacking, nil
}

// CheckTun tells whether taps can be made.
func CheckTun() error { return rtnl.CheckTunDevice() }

// LinkKinds are the kinds of links that the wiring is made of, but for taps.
var LinkKinds = []string{plan.KindBridge, plan.KindVeth}

// CheckKind tells whether the kernel can make links of a kind. It asks for one with a multicast address, which the kind's
// own check refuses with EADDRNOTAVAIL (br_validate, veth_validate), and which gets as far only where the kind is known:
// else the answer is EOPNOTSUPP (rtnl_newlink). The kernel may load a module for that, as prepare would have it do.
func CheckKind(ns namespace, kind string) error {
	return inScratch(ns, func() error {
		r, err := rtnl.OpenHere(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer r.Close()
		err = r.ProbeKind(kind)
		switch {
		case errors.Is(err, unix.EADDRNOTAVAIL):
			return nil
		case errors.Is(err, unix.EPERM):
			return ErrHidden
		case errors.Is(err, unix.EOPNOTSUPP):
			return plan.Refuse("the kernel has no links of the kind %s: load the module %s on the node", kind, kind)
		case err == nil:
			return fmt.Errorf("the kernel made a %s with a multicast address", kind)
		}
		return fmt.Errorf("ask for a link of the kind %s: %w", kind, err)
	})
}

// inScratch runs f in a namespace that nothing else is in and that goes with it, where that may be made (it takes
// CAP_SYS_ADMIN), else in ns.
func inScratch(ns namespace, f func() error) error {
	type result struct {
		made bool
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, and the namespace with the thread
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{false, err}
			return
		}
		done <- result{true, f()}
	}()
	if r := <-done; r.made {
		return r.err
	}
	return ns.Do(f)
}

// CheckFilter tells whether the kernel has nftables for bridges, which only shows when a table is made. It makes one in a
// transaction that cannot succeed, since it also deletes a chain that is not there: the kernel takes all of it back.
func CheckFilter(ns namespace) error { return checkFamily(ns, plan.BridgeFilter.Number) }

func checkFamily(ns namespace, family byte) error {
	return inScratch(ns, func() error {
		switch err := rtnl.ProbeTable(family); {
		case errors.Is(err, rtnl.ErrNoFilter):
			return &plan.RefusalError{Reason: errors.New(plan.Unfiltered(plan.Options{}))}
		case errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EPERM):
			return ErrHidden
		case err == nil:
			return errors.New("the kernel deleted a chain that is not there")
		default:
			return fmt.Errorf("ask for a table of the bridge family: %w", err)
		}
	})
}

// LinkNames lists the links of a namespace by name.
func LinkNames(ns namespace) ([]string, error) {
	r, err := rtnl.Open(ns)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	links, err := r.Links()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(links))
	for i, l := range links {
		names[i] = l.Name
	}
	return names, nil
}

// PacketFilters lists what filters or rewrites the IP packets of a namespace: chains of nftables (iptables-nft's too) that
// have rules or a policy other than accept, and tables of the older iptables. Where a bridge hands its frames to them
// (net.bridge.bridge-nf-call-iptables), they meet the guest's traffic.
func PacketFilters(ns namespace) ([]string, error) {
	var found []string
	err := ns.Do(func() error {
		var err error
		if found, err = rtnl.PacketChains(); err != nil {
			return err
		}
		for _, name := range []string{"ip", "ip6"} {
			// Of the reading thread's namespace.
			b, err := os.ReadFile("/proc/thread-self/net/" + name + "_tables_names")
			if err != nil {
				continue // no such tables, or not for us to see: nftables needs the same privilege, and says so
			}
			for _, table := range strings.Fields(string(b)) {
				found = append(found, fmt.Sprintf("%stables-legacy table %s", name, table))
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, unix.EPERM):
		return nil, ErrHidden
	case errors.Is(err, rtnl.ErrNoFilter):
		return found, nil
	case err != nil:
		return nil, fmt.Errorf("list packet filters in %s: %w", ns, err)
	}
	slices.Sort(found)
	return found, nil
}

// Sysctl reads a setting of a namespace by its path below /proc/sys. An error is os.ErrNotExist where the kernel has none.
func Sysctl(ns namespace, path string) (value string, err error) {
	err = ns.Do(func() error {
		// The directory is looked up in the reading thread's namespace.
		b, err := os.ReadFile("/proc/sys/" + path)
		value = strings.TrimSpace(string(b))
		return err
	})
	return value, err
}
