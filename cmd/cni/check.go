package cni

import (
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

// check reads back all that ADD made, and names what is not as it was.
func check(c *call) error {
	a, err := c.store.load(c.ContainerID, c.IfName)
	if err != nil {
		return broken(err.Error())
	}
	if a == nil {
		return broken(fmt.Sprintf("there is no record of the attachment in %s", c.store.dir))
	}
	req := c.request(a, c.Netns)
	var deviations []string
	if a.wired() {
		seen, err := network.Inspect(req)
		switch {
		case refused(err) && !network.IsNoNamespace(err):
			return broken(err.Error())
		case err != nil:
			return err
		}
		deviations = wiring(seen, a.Interface)
	}
	if !a.wired() || c.config.Socket == plan.SocketUDP || c.config.Binding == plan.BindingShared {
		more, err := network.InspectProvision(req)
		if err != nil {
			return err
		}
		deviations = append(deviations, more...)
	}
	if len(deviations) > 0 {
		return broken(deviations...)
	}
	return nil
}

// wiring lists what is wrong with the wiring of an interface.
func wiring(seen *network.Inspection, iface string) (deviations []string) {
	switch {
	case !seen.Wired:
		return []string{fmt.Sprintf("%s is not wired to a guest", iface)}
	case seen.Record == nil:
		deviations = append(deviations, "the record of the wiring is gone or cannot be used")
		deviations = append(deviations, seen.Warnings...)
	}
	for _, step := range seen.Repairs {
		deviations = append(deviations, fmt.Sprintf("the wiring needs %q", strings.Join(strings.Fields(step.String()), " ")))
	}
	return deviations
}

func broken(deviations ...string) error {
	return types.NewError(CodeBroken, "the attachment is not as it was made", strings.Join(deviations, "; "))
}
