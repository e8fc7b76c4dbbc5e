// Command podnic gives a pod's network interface to a virtual machine that runs in the pod, serves the machine its
// address, and takes the interface back when the machine ends.
package main

import (
	"os"
	"time"
)

func main() {
	started := time.Now()
	if args, ok := hookArgs(os.Args); ok {
		os.Exit(callHook(args, started, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(execute(os.Args[1:], started, os.Stdout, os.Stderr))
}
