package presence

import (
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
)

// Older is the process that serves the interface, if it is of a podnic that kept a record of version 1: it looks for
// its record, and keeps its state, where that has them. Nil if there is none.
func Older(req network.Request) (*Process, error) {
	if !statefile.HasFirst(req.StateDir) {
		return nil, nil
	}
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	holders, err := All(ns)
	if err != nil || len(holders) == 0 {
		return nil, err
	}
	id, err := ns.ID()
	if err != nil {
		return nil, err
	}
	for _, holder := range holders {
		state, err := statefile.Load(req.StateDir, interfaceOf(&holder), id)
		if err == nil && state != nil && state.First && holder.Trusted() {
			s := &Process{Holder: holder}
			if state.Server != nil {
				s.PID, s.Detached = state.Server.ID, state.Server.Detached
			}
			return s, nil
		}
	}
	return nil, nil
}
