// Package network finds out what a pod's interface holds, joins it to a tap for a virtual machine ([plan.Binding]), and
// takes all of that back.
//
// It is declarative. A [plan.Snapshot] is what the kernel holds now, [plan.Wired] is what it should hold, [plan.Diff] is
// the ordered list of steps from one to the other, and internal/rtnl carries the steps out. [Prepare] applies Diff(now, Wired(original)),
// [Restore] applies Diff(now, original). A first run, a second run, a run after a crash, the repair of drift and a
// rollback are all the same two lines; there is no journal and no special case.
//
// What it promises: nothing is changed before the record of the original is on disk; whatever fails, the namespace is
// what it was or the record is kept and the error says so; objects that are not podnic's own are never touched.
//
// Be aware: each interface of a namespace is worked on by itself. Policy rules survive all that it does, so it records
// them and leaves them alone. Temporary IPv6 addresses (RFC 8981) and what the kernel keeps in the table "local" are the
// kernel's own and follow from the rest. XDP and sysctls stay on the link and are not touched. Traffic control is touched
// only where a redirect has to be made with it.
package network
