package domain

import (
	"context"
	"errors"

	"github.com/podnic/podnic/domain/internal/wire"
)

// conn is one connection to a daemon, with exactly the operations that following a guest takes. The only one outside of
// tests is the helper's. Guests are named by UUID: they outlive connections, libvirt's own handles do not. After lost, every
// operation fails. Errors are one line.
type conn interface {
	// start creates a transient domain and returns its UUID.
	start(xml []byte) (uuid string, err error)
	// find looks for a running domain by name; nil without an error when there is none.
	find(name string) (*found, error)
	// lookUp tells a domain's state; errGone when it is not running. It does not answer while the daemon has not yet found
	// out itself.
	lookUp(uuid string) (GuestState, error)
	// describe returns a running domain's XML; errGone when it is not running.
	describe(uuid string) (xml []byte, err error)
	// update changes a device of a running domain. The XML is the whole device's.
	update(uuid string, device []byte) error
	// attach gives a running domain a device.
	attach(uuid string, device []byte) error
	// detach asks the guest to give up the device of an alias, and does not wait until it has.
	detach(uuid, alias string) error
	// shutdown asks the guest to shut down, and does not wait until it has.
	shutdown(uuid string) error
	// destroy ends the guest at once.
	destroy(uuid string) error
	// version tells what is at the other end.
	version() (*wire.Daemon, error)
	// lost is closed when the connection has broken; why then says why.
	lost() <-chan struct{}
	why() error
	// close gives up the connection, and with it the calls that are under way. No event is delivered afterwards. Closing
	// it again does nothing.
	close()
}

// found is a running domain.
type found struct {
	uuid  string
	xml   []byte
	state GuestState
}

// dialer makes a connection, unless ctx ends before. From before it returns, every change of any domain's state is passed to
// deliver, which does not block.
type dialer func(ctx context.Context, uri string, deliver func(event)) (conn, error)

var errGone = errors.New("the domain is not running")

// permanentError is a dialer's: trying again will not help.
type permanentError struct {
	error
	remedy string
}
