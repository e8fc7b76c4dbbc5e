package probe

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/internal/rtnl"
	"github.com/podnic/podnic/network/plan"
	"golang.org/x/sys/unix"
)

// CheckMachine tells whether namespaces of other processes could be wired from here: an error where not, warnings where
// something would be missing. Nothing of the machine is changed: what has to be tried is tried in a namespace of its own.
func CheckMachine() (warnings []string, err error) {
	if err := CheckCapabilities(NetAdmin, NetRaw, SysAdmin); err != nil {
		return nil, err
	}
	if err := rtnl.CheckTunDevice(); err != nil {
		return nil, err
	}
	err = inNewNamespace(tryFilter)
	if errors.Is(err, rtnl.ErrNoFilter) {
		return []string{plan.Unfiltered(plan.Options{})}, nil
	}
	return nil, err
}

// inNewNamespace runs f on a thread in an empty network namespace. Both end with f.
func inNewNamespace(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// here is the namespace of the calling thread.
type here struct{}

func (here) Do(f func() error) error { return f() }

func (here) String() string { return "this network namespace" }

// tryFilter puts a filter in place: that a kernel has no nftables for bridges is seen no earlier.
func tryFilter() error {
	n := &rtnl.NFT{NS: here{}}
	defer n.Close()
	served := identity.Identity{V4: identity.Family{Addresses: make([]identity.Address, 1)}}
	return n.Put(plan.ProvisionFilter(plan.NamesFor("eth0", plan.DefaultTap), identity.ServerLinkLocal, served, "", nil), false)
}
