// Package containers runs the commands of the documents that take a container engine, by podman and as they stand there.
//
// It is built with the tag e2e (`make containers`). The commands run in a copy of the checkout, and podman keeps what it makes
// in directories of its own, so that images and containers which are here already stay as they are. Only what builds an image
// uses the machine's network; containers run in a network namespace that plays the machine. Nothing is left.
package containers
