package network

import (
	"errors"
	"fmt"

	"github.com/podnic/podnic/network/plan"
)

// StuckError says that a change failed and the namespace is neither what it was nor what it should be. The record is
// kept, and `podnic restore` can be run again once the cause is mended.
type StuckError struct {
	Cause    error // why the change failed
	Rollback error // why it could not be taken back; nil if taking back is what failed
}

func (e *StuckError) Error() string {
	s := e.Cause.Error()
	if e.Rollback != nil {
		s += "; taking it back failed too: " + e.Rollback.Error()
	}
	return s + "; the record is kept: run `podnic restore` once the cause is mended"
}

func (e *StuckError) Unwrap() []error { return []error{e.Cause, e.Rollback} }

// ErrBusy is why a lock was not had: another podnic works in the namespace, or so it seems. It is worth trying again.
var ErrBusy = errors.New("the namespace is locked")

// busyError is ErrBusy, and says more.
type busyError struct{ error }

func (busyError) Is(target error) bool { return target == ErrBusy }

func (e busyError) Unwrap() error { return e.error }

func busy(format string, args ...any) error {
	return &plan.RefusalError{Reason: busyError{fmt.Errorf(format, args...)}}
}

var (
	errNoNamespace  = errors.New("no network namespace")
	errNotNamespace = errors.New("not a network namespace")
)

// IsNoNamespace reports whether err means that the path names no network namespace, or none any more.
func IsNoNamespace(err error) bool {
	return errors.Is(err, errNoNamespace) || errors.Is(err, errNotNamespace)
}

// IsRefusal reports whether err means that nothing was touched.
func IsRefusal(err error) bool {
	_, ok := errors.AsType[*plan.RefusalError](err)
	return ok
}
