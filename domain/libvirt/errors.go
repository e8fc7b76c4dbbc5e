//go:build cgo && libvirt_dlopen

package libvirt

import (
	"errors"
	"strings"

	"github.com/podnic/podnic/domain/internal/wire"
	"libvirt.org/go/libvirt"
)

var errGone = &wire.Error{Kind: wire.KindGone, Text: "the domain is not running"}

// dialError sorts out the errors that waiting does not mend.
func dialError(err error) error {
	short := cause(err)
	switch text := strings.ToLower(short.Error()); {
	case errors.Is(err, libvirt.ERR_AUTH_FAILED), errors.Is(err, libvirt.ERR_AUTH_CANCELLED),
		errors.Is(err, libvirt.ERR_AUTH_UNAVAILABLE), errors.Is(err, libvirt.ERR_ACCESS_DENIED),
		strings.Contains(text, "permission denied"):
		return permanent(short, "run podnic as root or as a member of the group libvirt")
	case errors.Is(err, libvirt.ERR_NO_CONNECT), errors.Is(err, libvirt.ERR_INVALID_ARG), errors.Is(err, libvirt.ERR_CONF_SYNTAX),
		strings.Contains(text, " uri "):
		return permanent(short, "give a URI such as qemu:///system")
	}
	return short
}

// cause is the text of a libvirt error in one line, without the binding's numbers around it.
func cause(err error) error {
	if detail, ok := errors.AsType[libvirt.Error](err); ok {
		return errors.New(strings.Join(strings.Fields(detail.Message), " "))
	}
	return err
}

func permanent(err error, remedy string) error {
	return &wire.Error{Kind: wire.KindPermanent, Text: err.Error(), Remedy: remedy}
}

// closeReason is why libvirt closed a connection.
func closeReason(reason libvirt.ConnectCloseReason) string {
	switch reason {
	case libvirt.CONNECT_CLOSE_REASON_EOF:
		return "the daemon closed it"
	case libvirt.CONNECT_CLOSE_REASON_KEEPALIVE:
		return "the daemon does not answer"
	}
	return "reading from the daemon failed"
}
