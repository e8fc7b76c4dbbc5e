// Package libvirtd runs a libvirt daemon of its own in a pod, as a launcher container would.
//
// The daemon and its guests live in the pod's network namespace, in a PID namespace, and in a mount namespace whose /dev,
// /run, /etc/libvirt and /var/{lib,cache,log}/libvirt are private: it meets neither the machine's libvirt nor its networks,
// and no network `default` starts. /dev has no kvm unless KVM was found to work (package guest), because libvirt and QEMU
// take a /dev/kvm that exists for one that works.
//
// The namespaces belong to a holder, a process that does nothing. When it ends, the kernel ends the daemon and all guests
// with it; and it ends when the process that started it does, however that ends. So nothing is ever left running.
//
// The socket is a file that is reachable from outside of the namespaces by the [Daemon]'s URI.
package libvirtd
