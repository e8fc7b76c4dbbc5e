package serving

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/podnic/podnic/cmd/agent/presence"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

// Claim is the right of this process to serve an interface.
type Claim struct {
	ns     *network.Namespace // closed by the claim's maker, when it is released
	socket *net.UnixConn
}

// NewClaim makes this process the one that serves an interface of a namespace, or refuses because another is.
func NewClaim(ns *network.Namespace, iface string) (*Claim, error) {
	c := &Claim{ns: ns}
	err := ns.Do(func() (err error) {
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
			return nil, presence.Squatted(holder)
		}
		who = holder.String()
	}
	return nil, plan.Refuse("%s serves %s in %s already: use that one, or end it first", who, iface, ns)
}

// Release gives the interface up. A claim that a Server took over is released by its Close.
func (c *Claim) Release() { c.socket.Close() }
