// Package domain runs a guest by libvirt: it starts it from a domain's XML (package domainxml), follows it until it ends, plugs
// and unplugs further interfaces, and stops it.
//
// A guest is followed by libvirt's events (Connect, Connection, Guest). The promise is that an ending is never missed: events are subscribed to before the domain is created, and when the connection to the daemon is lost it is made
// again, for as long as it takes, and the guest is looked up. A guest does not depend on the connection: it lives on when this
// process ends, and another one can find it.
//
// This package does not link libvirt. Each connection is a process of the helper podnic-libvirt, which does (package
// domain/libvirt): it is started by Connect, ends when the connection is closed or this process ends, however it does, and
// is replaced when it ends before, as a lost connection is.
//
// Be aware:
//   - The helper must be of podnic's own version, which they make sure of. podnic looks for it beside the running program, in
//     ../libexec/podnic from there, and in the PATH.
//   - While the daemon cannot be reached, each attempt starts a helper: once a second at most, 20 ms of a processor each.
package domain
