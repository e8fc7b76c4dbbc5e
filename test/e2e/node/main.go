// Node is what the suite runs on a node, in a pod that shares the node's processes and network.
//
// Usage:
//
//	node serve RESOURCE [NAMESPACE DIRECTORY]
//	                      until SIGTERM, offer the node's tun device to pods under that name; and have podnic's CNI
//	                      plugin wire the pods of a namespace, in the node's directory of network configurations
//	node look [POD...]    a line for each link, nftables table and process on the node that launchers may have left, without
//	                      those of the pods of these UIDs
//	node kill CONTAINER   end the first process of a container with SIGKILL
//
// A container runtime finds it as a CNI plugin of the node.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	work := func() error { return run(os.Args[1:], os.Stdout) }
	if os.Getenv("CNI_COMMAND") != "" {
		work = beThePlugin
	}
	if err := work(); err != nil {
		fmt.Fprintf(os.Stderr, "node: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) == 4 && args[0] == "serve":
		defer unchain()
		if err := chain(args[2], args[3]); err != nil {
			return fmt.Errorf("chain podnic to the node's network: %w", err)
		}
		return serve(args[1])
	case len(args) > 0 && args[0] == "look":
		all, err := processes()
		if err != nil {
			return err
		}
		return look(out, all, args[1:])
	case len(args) == 2 && args[0] == "kill":
		return kill(args[1])
	}
	return fmt.Errorf("usage: node serve RESOURCE [NAMESPACE DIRECTORY] | node look [POD...] | node kill CONTAINER")
}
