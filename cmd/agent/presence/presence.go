// Package presence knows who serves an interface, as far as this process believes it, and ends a detached server:
// one that the hook or attach started. The one that serves is in package serving.
package presence

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/podnic/podnic/cmd/agent/detached"
	"github.com/podnic/podnic/cmd/agent/statefile"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/holding"
	"github.com/podnic/podnic/network/plan"
	"github.com/podnic/podnic/network/statedir"
)

// presencePrefix begins the name of the abstract unix socket (unix(7)) that a serving process holds in the pod's network
// namespace: the name belongs to the namespace, whatever file systems and process ids the containers of the pod see, it
// needs no privilege, and it goes with the process however that ends. Since it needs none, any process of the pod can take
// it first: the kernel says which process has it.
const presencePrefix = "podnic/serve/"

// Address is the name of the socket that the process that serves the interface holds.
func Address(iface string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unixgram", Name: "@" + presencePrefix + iface}
}

// Squatted refuses since an unprivileged process, which may or may not be podnic, has the server's socket.
func Squatted(holder *holding.Socket) error {
	return plan.Refuse("%s has the socket @%s, by which podnic knows who serves: end it first", holder, holder.Name)
}

// Of is the process that holds the server's socket of the interface; nil if there is none.
func Of(ns *network.Namespace, iface string) (*holding.Socket, error) {
	holder, err := holding.OfSocket(ns, presencePrefix+iface)
	if err != nil {
		return nil, fmt.Errorf("ask whether somebody serves %s: %w", iface, err)
	}
	return holder, nil
}

// All are those who have the place of a process that serves some interface.
func All(ns *network.Namespace) ([]holding.Socket, error) {
	return holding.OfSockets(ns, presencePrefix)
}

// interfaceOf is the interface that the holder of a socket serves.
func interfaceOf(holder *holding.Socket) string {
	return strings.TrimPrefix(holder.Name, presencePrefix)
}

// Process is one that serves an interface, proven: its user is root or this one, and it has the server's socket.
type Process struct {
	Holder holding.Socket
	PID    int // 0 where it is not to be seen: in another container, say, whose process ids are others
	// Detached says that the hook started it, or attach.
	Detached bool
	// Interfaces are those that it serves, where [Detached] has found it.
	Interfaces []string
}

// Proven is the serving process, if it is a podnic that this process believes: the one that a state file names which is to be
// believed, or else the one that by its command line is the hook's `podnic serve`. It is nil, without an error, where the
// socket's holder is neither.
func Proven(holder *holding.Socket, stateDir string, id network.NamespaceID) (*Process, error) {
	if !holder.Trusted() {
		return nil, nil
	}
	state, err := statefile.Load(stateDir, interfaceOf(holder), id)
	named := state != nil && state.Server != nil
	if named && holder.HeldBy(state.Server.ID) {
		return &Process{Holder: *holder, PID: state.Server.ID, Detached: state.Server.Detached}, nil
	}
	pid := holder.Process()
	switch {
	case named && pid == 0:
		return &Process{Holder: *holder}, nil
	case pid > 0 && isDetached(holding.CommandOf(pid)): // the file is lost, or it is in another directory
		return &Process{Holder: *holder, PID: pid, Detached: true}, nil
	}
	if statedir.IsUntrusted(err) {
		err = nil
	}
	return nil, err
}

// isDetached reports whether a command line is that of a detached server.
func isDetached(command []string) bool {
	return len(command) > 2 && command[1] == "serve" && slices.ContainsFunc(command, func(arg string) bool {
		return strings.HasPrefix(arg, "--"+detached.StarterFlag+"=")
	})
}
