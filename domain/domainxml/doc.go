// Package domainxml is a libvirt domain's XML: what it says of the guest's interfaces and, in podnic's metadata, of the pod's,
// and a new document with taps put into it (Parse, Document, Document.Fill).
//
// It is a pure function of bytes and needs no libvirt. It changes the bytes of one <interface> and no others: a document comes
// back with its comments, its quotes, its line ends and every element that this code has never heard of.
//
// Be aware: UTF-8 is the only encoding, and libvirt's own limit of 4 MiB the limit of a document's size.
package domainxml
