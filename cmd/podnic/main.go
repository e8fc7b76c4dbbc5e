// Command podnic gives a pod's network interface to a virtual machine that runs in the pod, serves the machine its
// address, and takes the interface back when the machine ends.
package main

import (
	"os"
	"slices"
	"time"
)

func main() {
	if slices.Contains(os.Args[1:], "serve") {
		onOneProcessor()
	}
	os.Exit(execute(os.Args[1:], time.Now(), os.Stdout, os.Stderr))
}
