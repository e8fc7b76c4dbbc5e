// Package domain is all that podnic knows of libvirt: it puts the pod's network interface into a domain's XML, starts the
// guest, follows it until it ends, and stops it.
//
// The XML half (Parse, Document, Document.Fill) is a pure function of bytes and needs no libvirt. It changes the bytes of
// one <interface> and no others: a document comes back with its comments, its quotes, its line ends and every element that
// this code has never heard of.
//
// The other half (Connect, Connection, Guest) follows a guest by libvirt's events. It promises that an ending is never
// missed: events are subscribed to before the domain is created, and when the connection to the daemon is lost it is made
// again, for as long as it takes, and the guest is looked up. A guest belongs to nobody's connection: it lives on when this
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
//   - UTF-8 is the only encoding, and libvirt's own limit of 4 MiB the limit of a document's size.
package domain
