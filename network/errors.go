package network

import (
	"errors"
	"fmt"
)

// RefusalError says that podnic did not begin: the request or the namespace is not what it can work with, and nothing was
// touched. The message names the reason and the remedy.
type RefusalError struct{ Reason error }

func (e *RefusalError) Error() string { return e.Reason.Error() }
func (e *RefusalError) Unwrap() error { return e.Reason }

// Refuse makes a RefusalError. The format is that of fmt.Errorf.
func Refuse(format string, args ...any) error {
	return &RefusalError{Reason: fmt.Errorf(format, args...)}
}

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
func (e busyError) Unwrap() error      { return e.error }

func busy(format string, args ...any) error {
	return &RefusalError{Reason: busyError{fmt.Errorf(format, args...)}}
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
	_, ok := errors.AsType[*RefusalError](err)
	return ok
}
