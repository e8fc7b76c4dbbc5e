package serving

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/network"
)

// Claim is the right of this process to serve an interface, and its sockets besides the server's.
type Claim struct {
	ns      *network.Namespace
	socket  *net.UnixConn
	metrics net.Listener // nil if metrics are not wanted
}

// NewClaim makes this process the one that serves the interface, or refuses because another is.
func NewClaim(req network.Request, iface string) (*Claim, error) {
	ns, err := network.OpenNamespace(req.Namespace)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			ns.Close()
		}
	}()
	c := &Claim{ns: ns}
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

// Release gives the interface up. A claim that a Server took over is released by its Close.
func (c *Claim) Release() {
	c.socket.Close()
	if c.metrics != nil {
		c.metrics.Close()
	}
	c.ns.Close()
}
