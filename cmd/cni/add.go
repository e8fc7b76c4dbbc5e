package cni

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/identity"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap"
)

// add gives the pod's interface to a guest, or makes the namespace fit for KubeVirt's wiring. Done twice, it checks and
// mends. After an error, the namespace is what it was, unless the code is CodeStuck.
func add(c *call) error {
	if err := c.validate(); err != nil {
		return err
	}
	result, err := c.config.previous() // what cannot be converted is known before anything is changed
	if err != nil {
		return err
	}
	a, pod, err := c.attach()
	if err != nil {
		return err
	}
	known, err := c.know(a)
	if err != nil {
		return err
	}
	tap, err := c.prepare(a)
	if err != nil {
		if !known {
			err = c.undo(a, err)
		}
		return err
	}
	if result == nil { // not chained: then the interface is not in anybody's result
		result = &types100.Result{Interfaces: []*types100.Interface{{Name: a.Interface, Mac: pod.String(), Sandbox: c.Netns}}}
	}
	if tap != nil && !slices.ContainsFunc(result.Interfaces, func(i *types100.Interface) bool { return i.Name == tap.Name && i.Sandbox == c.Netns }) {
		result.Interfaces = append(result.Interfaces, tap)
	}
	return types.PrintResult(result, c.config.CNIVersion)
}

// attach finds out which interface of which namespace the call is about, and its MAC.
func (c *call) attach() (*attachment, identity.MAC, error) {
	a := &attachment{
		Version: attachmentVersion, Network: c.config.Name, ContainerID: c.ContainerID, IfName: c.IfName, Netns: c.Netns,
		Binding: c.config.Binding, Interface: c.config.Interface,
	}
	ns, err := network.OpenNamespace(c.Netns)
	if err != nil {
		return nil, identity.MAC{}, err
	}
	defer ns.Close()
	if a.Namespace, err = ns.ID(); err != nil {
		return nil, identity.MAC{}, err
	}
	var mac identity.MAC
	err = ns.Do(func() error {
		if a.Interface == "" {
			a.Interface = podInterface(c.IfName, c.config.Args.CNI.LogicNetworkName)
		}
		link, err := net.InterfaceByName(a.Interface)
		if err != nil {
			return nil // package network says what is there instead
		}
		mac, _ = identity.FromHardwareAddr(link.HardwareAddr)
		return nil
	})
	return a, mac, err
}

// podInterface is the name of the pod's interface, as seen from the namespace of the calling thread. KubeVirt has a
// binding's network attachment called with a name of its own, and names the virtual machine's network besides: the
// interface of a secondary one is called pod and 11 digits of a hash (kubevirt, pkg/network/namescheme), that of the
// pod network eth0.
func podInterface(ifName, logicNetwork string) string {
	if logicNetwork == "" {
		return ifName
	}
	sum := sha256.Sum256([]byte(logicNetwork))
	hashed := "pod" + hex.EncodeToString(sum[:])[:11]
	if _, err := net.InterfaceByName(hashed); err == nil {
		return hashed
	}
	return "eth0"
}

// know records the attachment, so that DEL and GC can take back what comes next, and reports whether it was recorded
// already: then the interface is the recorded one. A record for another namespace, under the same name, is out of date.
func (c *call) know(a *attachment) (known bool, err error) {
	if err := network.MakeStateDir(c.store.dir); err != nil {
		return false, err
	}
	before, err := c.store.load(a.ContainerID, a.IfName)
	switch {
	case err != nil:
		return false, &plan.RefusalError{Reason: err}
	case before != nil && before.Namespace == a.Namespace && !agrees(before.Binding, a.Binding):
		return true, plan.Refuse("the attachment was added with the binding %s, and not %s: delete it first", before.Binding, a.Binding)
	case before != nil && before.Namespace == a.Namespace:
		a.Interface = before.Interface
		return true, nil
	case before != nil:
		c.log.Info("forgetting an attachment of the same name in another namespace")
	}
	if err := c.store.remove(a.ContainerID, a.IfName); err != nil {
		return false, err
	}
	return false, c.store.save(a)
}

// agrees reports whether an attachment that was added with one binding is what another asks for. What auto chose stays.
func agrees(before, now string) bool {
	return before == now || now == plan.BindingAuto && before != BindingManagedTap
}

// prepare does what the binding takes, and returns the tap that was made.
func (c *call) prepare(a *attachment) (*types100.Interface, error) {
	ctx := context.Background()
	req := c.request(a, c.Netns)
	others := c.store.others(a)
	if !a.wired() {
		links := plan.ManagedTapNames(a.Interface)
		links.Tap = cmp.Or(c.config.tap(a.Interface), plan.DefaultTap)
		warnings, err := network.Provide(ctx, req, &links, others)
		if err != nil {
			return nil, err
		}
		c.warn(warnings)
		c.log.Info("ready for a wiring by KubeVirt", zap.String("interface", a.Interface))
		return nil, nil
	}
	if c.config.Socket == plan.SocketUDP || c.config.Binding == plan.BindingShared {
		if _, err := network.Provide(ctx, req, nil, others); err != nil {
			return nil, err
		}
	}
	r, err := network.Prepare(ctx, req)
	if err != nil {
		return nil, err
	}
	c.warn(r.Warnings)
	_, warnings := plan.Identify(r.Record.Original, r.Record.Options)
	c.warn(warnings)
	c.log.Info("wired", zap.String("interface", a.Interface), zap.String("tap", r.Names.Tap), zap.Int("changes", len(r.Steps)))
	tap := r.Seen.Current.Link(plan.Tap)
	return &types100.Interface{Name: tap.Name, Mac: tap.MAC.String(), Mtu: tap.MTU, Sandbox: c.Netns}, nil
}

// undo takes back what was provided for a wiring that failed. What is stuck is left to DEL, and so is what another podnic
// is in the way of: the attachment stays known, and with it all that DEL needs.
func (c *call) undo(a *attachment, cause error) error {
	if _, stuck := errors.AsType[*network.StuckError](cause); stuck {
		return cause
	}
	if _, err := network.Withdraw(context.Background(), c.request(a, c.Netns), c.store.others(a)); err != nil && !refused(err) {
		return errors.Join(cause, err)
	}
	return errors.Join(cause, c.store.remove(a.ContainerID, a.IfName))
}

func (c *call) warn(warnings []string) {
	for _, w := range warnings {
		c.log.Warn(w)
	}
}
