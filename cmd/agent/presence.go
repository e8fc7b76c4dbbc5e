package agent

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/podnic/podnic/network"
)

// A serving process holds an abstract unix socket (unix(7)) in the pod's network namespace: the name belongs to the
// namespace, whatever file systems and process ids the containers of the pod see, it needs no privilege, and it goes
// with the process however that ends.
func presenceAddress(iface string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unixgram", Name: "@podnic/serve/" + iface}
}

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
	c := &claim{ns: ns}
	err = ns.Do(func() (err error) {
		c.socket, err = net.ListenUnixgram("unixgram", presenceAddress(iface))
		return err
	})
	if err == nil {
		return c, nil
	}
	ns.Close()
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, network.Refuse("another podnic serves %s in %s already: use that one, or end it first", iface, ns)
	}
	return nil, fmt.Errorf("claim the service of %s: %w", iface, err)
}

func (c *claim) release() {
	c.socket.Close()
	if c.metrics != nil {
		c.metrics.Close()
	}
	c.ns.Close()
}

// present reports whether a process serves the interface.
func present(ns *network.Namespace, iface string) (bool, error) {
	var there bool
	err := ns.Do(func() error {
		c, err := net.DialUnix("unixgram", nil, presenceAddress(iface))
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ask whether somebody serves %s: %w", iface, err)
		}
		there = true
		return c.Close()
	})
	return there, err
}
