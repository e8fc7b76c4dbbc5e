// Command podnic gives a pod's network interface to a virtual machine that runs in the pod, serves the machine its
// address, and takes the interface back when the machine ends.
package main

import (
	"os"
	"time"
)

func main() {
	os.Exit(execute(os.Args[1:], time.Now(), os.Stdout, os.Stderr))
}
