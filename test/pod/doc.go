// Package pod makes pods out of network namespaces and the real CNI plugins.
//
// A [Node] is a namespace that plays the Kubernetes node: host sides of veths, bridges and routes live in it, never in the
// machine's own namespace. A [Pod] is a namespace that a plugin (ptp or bridge, with host-local) attached to the node, with
// a hostname and a resolver configuration for the programs that run in it.
//
// What a node made, Close undoes: CNI DEL for each pod, an end to every process that still runs in its namespaces, the
// namespaces, the files. It may be called twice, and NewNode and AddPod undo their own half when they fail. Only a kill -9 of
// the calling process can leave something; [Leftovers] finds it.
//
// Nothing here imports testing, since the demo makes pods too; tests have package podtest for that. Everything needs root.
package pod
