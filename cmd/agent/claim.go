package agent

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/network"
)

// claim is the right of this process to serve an interface, and its sockets besides the server's.
type claim struct {
	ns      *network.Namespace
	socket  *net.UnixConn
	metrics net.Listener // nil if metrics are not wanted
}

// claimService makes this process the one that serves the interface, or refuses because another is.
func claimService(req network.Request, iface string) (*claim, error) {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			ns.Close()
		}
	}()
	c := &claim{ns: ns}
	err = ns.Do(func() (err error) {
		c.socket, err = net.ListenUnixgram("unixgram", presence.Address(iface))
		return err
	})
	if err == nil {
		return c, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("claim the service of %s: %w", iface, err)
	}
	who := "another podnic"
	if holder, failed := presence.Of(ns, iface); failed == nil && holder != nil {
		if !holder.Trusted() {
			err = presence.Squatted(holder)
			return nil, err
		}
		who = holder.String()
	}
	err = network.Refuse("%s serves %s in %s already: use that one, or end it first", who, iface, ns)
	return nil, err
}

func (c *claim) release() {
	c.socket.Close()
	if c.metrics != nil {
		c.metrics.Close()
	}
	c.ns.Close()
}
