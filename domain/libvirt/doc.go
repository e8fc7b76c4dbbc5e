//go:build cgo && libvirt_dlopen

// Package libvirt serves domain's calls with libvirt's client library. It is the only package that links the library, and
// the helper podnic-libvirt the only program: the library costs each program that is linked with it 20 ms at every start
// and more memory than all of podnic, and a fault in it ends the process that it is in.
//
// Calls run concurrently, and none of them is bounded: libvirt has no call that is. To stop waiting, end the process.
package libvirt
