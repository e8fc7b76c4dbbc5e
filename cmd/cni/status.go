package cni

import (
	"github.com/containernetworking/cni/pkg/types"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/probe"
)

// status says whether ADD could succeed. What would only be missing, such as the filter, is logged.
func status(c *call) error {
	if err := c.validate(); err != nil {
		return err
	}
	warnings, err := probe.CheckMachine()
	if err == nil {
		err = network.MakeStateDir(c.store.dir)
	}
	if err != nil {
		return types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
	}
	c.warn(warnings)
	return nil
}
