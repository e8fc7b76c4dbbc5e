// Package cni is podnic as a CNI plugin (https://www.cni.dev/docs/spec/, versions 0.3.0 to 1.1.0): what takes privileges
// is done on the node, so that no container of the pod needs any.
//
// With the bindings "bridge", "redirect" and "shared", and with "auto", which chooses between the first two, ADD wires the
// pod's interface for a guest, as `podnic prepare` does, and DEL takes it back.
// With "managedTap" the wiring is KubeVirt's, and ADD gives the pod's namespace what a DHCP server without capabilities
// needs there. Be aware:
//
//   - It is called after the plugin that makes the interface, and before it at DEL.
//   - What DEL needs is kept on the node, in a directory for each attachment. Where that is lost, DEL restores from what
//     the namespace itself carries.
//   - DEL succeeds whenever another try would not do better: a pod must be able to go.
package cni
