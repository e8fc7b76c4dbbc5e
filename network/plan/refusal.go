package plan

import "fmt"

// RefusalError says that podnic did not begin: the request or the namespace is not what it can work with, and nothing was
// touched. The message names the reason and the remedy.
type RefusalError struct{ Reason error }

func (e *RefusalError) Error() string { return e.Reason.Error() }

func (e *RefusalError) Unwrap() error { return e.Reason }

// Refuse makes a RefusalError. The format is that of fmt.Errorf.
func Refuse(format string, args ...any) error {
	return &RefusalError{Reason: fmt.Errorf(format, args...)}
}
