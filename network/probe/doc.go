// Package probe tells whether something would work without trying it on the pod: what this process may do, and what the kernel
// can. Nothing of it changes the namespace that is asked about; what has to be tried is tried in a namespace of its own, or in
// a way that cannot succeed.
package probe

// namespace is one that is asked about.
type namespace interface {
	Do(f func() error) error
	String() string
}
