// Node is what the suite runs on a node, in a pod that shares the node's processes and network.
//
// Usage:
//
//	node serve RESOURCE   offer the node's tun device to pods under that name, until SIGTERM
//	node look             a line for each link, nftables table and launcher's process of the node
//	node kill CONTAINER   end the first process of a container with SIGKILL
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "node: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) == 1 && args[0] == "look":
		return look(out)
	case len(args) == 2 && args[0] == "kill":
		return kill(args[1])
	}
	return fmt.Errorf("usage: node serve RESOURCE | node look | node kill CONTAINER")
}
