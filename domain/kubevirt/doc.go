// Package kubevirt is what podnic knows of KubeVirt: which interfaces of a virtual machine are podnic's to serve, what they
// are called in the pod, and how they are put into the domain's XML. It is functions of bytes and names; the calls of
// KubeVirt's launcher come in by package hooks, which links gRPC and is therefore in a program of its own, podnic-sidecar.
//
// What is known of KubeVirt is from its sources at d923fdb, and said beside what relies on it.
package kubevirt
