package cni

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"go.uber.org/zap"
)

// del gives the pod its interface back, so that the plugin that made it finds what it made. It may be called at any time
// and as often as the runtime likes.
func del(c *call) error {
	a, err := c.store.load(c.ContainerID, c.IfName)
	if err != nil {
		c.log.Warn("going by what the namespace itself carries", zap.Error(err))
	}
	if a == nil {
		if a = c.lost(); a == nil {
			return c.store.remove(c.ContainerID, c.IfName)
		}
	}
	return c.release(a)
}

// lost is an attachment whose directory is lost, as the namespace shows it; nil where nothing there is of this attachment.
func (c *call) lost() *attachment {
	if c.Netns == "" {
		return nil
	}
	all, err := network.InspectAll(network.Request{Namespace: c.Netns, StateDir: c.store.path(c.ContainerID, c.IfName)})
	if err != nil {
		return nil
	}
	iface := cmp.Or(c.config.Interface, c.IfName)
	i := slices.IndexFunc(all, func(seen *network.Inspection) bool { return seen.Wired && seen.Names.Interface == iface })
	if i < 0 {
		return nil // or another attachment's
	}
	return &attachment{
		ContainerID: c.ContainerID, IfName: c.IfName, Netns: c.Netns, Namespace: all[i].ID,
		Binding: plan.BindingAuto, Interface: iface,
	}
}

// release takes back all that ADD did, where its namespace still exists, and forgets the attachment.
func (c *call) release(a *attachment) error {
	log := c.log.With(zap.String("interface", a.Interface))
	if c.ContainerID == "" { // GC's
		log = log.With(zap.String("container", a.ContainerID), zap.String("ifname", a.IfName))
	}
	netns, err := c.namespaceOf(a)
	if err != nil {
		return err
	}
	if netns != "" {
		if a.wired() {
			if err := c.restore(a, netns, log); err != nil {
				return err
			}
		}
		if err := c.withdraw(a, netns, log); err != nil {
			return err
		}
	} else {
		log.Info("the namespace is gone")
	}
	return c.store.remove(a.ContainerID, a.IfName)
}

// namespaceOf is the path of the attachment's namespace; empty if it is gone. At another one that has taken its place
// there is nothing to do.
func (c *call) namespaceOf(a *attachment) (string, error) {
	for _, path := range []string{c.Netns, a.Netns} {
		if path == "" {
			continue
		}
		ns, err := network.OpenNamespace(path)
		if network.IsNoNamespace(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		id, err := ns.ID()
		if err = errors.Join(err, ns.Close()); err != nil {
			return "", err
		}
		if id == a.Namespace {
			return path, nil
		}
	}
	return "", nil
}

// restore also takes the interface from a guest, since the pod goes. A record that cannot be used must not keep it: then
// the namespace says what was.
func (c *call) restore(a *attachment, netns string, log *zap.Logger) error {
	req := c.request(a, netns)
	r, err := network.Restore(context.Background(), req, true)
	if network.IsNotWired(err) { // it was restored before, and another attachment's is wired
		return nil
	}
	if refused(err) {
		log.Warn("restoring from what the namespace itself carries", zap.Error(err))
		if err := network.Forget(req); err != nil {
			return err
		}
		r, err = network.Restore(context.Background(), req, true)
	}
	if refused(err) { // another try would be refused too, and the namespace goes with the pod
		log.Error("the interface could not be restored, and is left as it is", zap.Error(err))
		return nil
	}
	if err != nil {
		return err
	}
	for _, w := range r.Warnings {
		log.Warn(w)
	}
	log.Info("restored", zap.Int("changes", len(r.Steps)))
	return nil
}

func (c *call) withdraw(a *attachment, netns string, log *zap.Logger) error {
	warnings, err := network.Withdraw(context.Background(), c.request(a, netns), c.store.others(a))
	for _, w := range warnings {
		log.Warn(w)
	}
	if refused(err) {
		log.Error("the settings of the namespace could not be put back, and are left as they are", zap.Error(err))
		return nil
	}
	return err
}

// refused reports whether another try would do no better.
func refused(err error) bool { return network.IsRefusal(err) && !errors.Is(err, network.ErrBusy) }
