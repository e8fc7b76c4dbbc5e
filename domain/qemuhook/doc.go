// Package qemuhook is the protocol of libvirt's qemu hook: what a call of it means, and what libvirt makes of the answer. It is
// a pure function of the arguments.
package qemuhook
