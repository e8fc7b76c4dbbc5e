// Package hooks is the server of KubeVirt's hook protocol, by which a launcher tells its sidecars what it is about to do:
// gRPC on a unix socket that all containers of the pod see. Its messages are in the packages below, generated from the
// .proto files there.
package hooks
