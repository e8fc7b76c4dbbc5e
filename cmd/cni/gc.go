package cni

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	"go.uber.org/zap"
)

// gc releases the attachments of the network that the runtime does not know any more: it was not there to call DEL.
func gc(c *call) error {
	// Without the key everything would be garbage. No attachment at all is an empty list.
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(c.StdinData, &keys); err != nil {
		return err
	}
	if _, ok := keys["cni.dev/valid-attachments"]; !ok {
		return types.NewError(types.ErrInvalidNetworkConfig, "GC takes the key cni.dev/valid-attachments", "")
	}
	all, err := c.store.all()
	if err != nil {
		c.log.Warn("some attachments cannot be read, and are left", zap.Error(err))
	}
	var failed error
	for _, a := range all {
		valid := types.GCAttachment{ContainerID: a.ContainerID, IfName: a.IfName}
		if a.Network == c.config.Name && !slices.Contains(c.config.ValidAttachments, valid) {
			failed = errors.Join(failed, c.release(a))
		}
	}
	return failed
}
