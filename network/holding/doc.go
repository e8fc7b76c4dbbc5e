// Package holding finds out which processes hold what podnic wants, or has given away: the lock of a namespace, a tap, an
// abstract unix socket, a port. It asks the kernel, and /proc for what the kernel does not say.
//
// Be aware: a process in another PID namespace, or another user's without CAP_SYS_PTRACE, is not to be seen, and may hold
// them all the same.
package holding

// namespace is one that something is held in.
type namespace interface {
	Do(f func() error) error
	Fd() uintptr
	String() string
}
