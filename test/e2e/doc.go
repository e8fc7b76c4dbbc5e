// Package e2e runs launcher pods with guests in a real cluster: the one that KUBECONFIG names.
//
// It is built with the tag e2e (`make e2e`), and takes the manifests in deploy/launcher as they are. It makes namespaces of
// its own and removes them, also when a test fails, and asks for no image that is not on the node (`make images` builds
// them; how they get there is up to the cluster, scripts/kind.sh shows it for kind). A pod of a test that failed is
// described first: its events, and what its containers said.
//
// One privileged pod of its own (test/e2e/node) kills processes on the node, offers /dev/net/tun to pods by a device plugin,
// and appends podnic to the node's CNI chain for the launchers without capabilities. It also looks at the node before the
// first launcher and after the last one, and the suite fails if there is more of podnic's, or of the suite's pods, than before:
// what the cluster's other pods have is theirs. All pods are on that pod's node.
package e2e
