// Package plan knows what a pod's interface may hold, what a guest needs in its place, and which changes lead from one to
// the other. It is all values and pure functions: nothing in here opens a socket or a file, reads a clock or needs a
// privilege, so that unit tests and properties cover it on any machine.
//
// A [Snapshot] is what a namespace holds at one moment. [Wired] is what it should hold for a guest, [Binding.Rebuild] what
// it held before, where the record is lost, and [Identify] who the guest has to be. [Diff] lists the steps from one snapshot to
// another; it plans with a model of the kernel ([Snapshot.Model]), which tests of package network hold against the real
// one. [Deviations] says the difference in words.
//
// Numbers are the kernel's (RTN_…, IFA_F_…, NFPROTO_…), and the filter's rules are expressions of nftables as values.
// How they are written into messages is for network/internal/rtnl to know.
package plan
