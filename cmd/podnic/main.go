// Command podnic gives a pod's network interface to a virtual machine that runs in the pod, serves the machine its
// address, and takes the interface back when the machine ends.
package main

import (
	"os"
	"slices"
	"time"

	"github.com/podnic/podnic/cmd/cni"
)

func main() {
	started := time.Now()
	if os.Getenv(cni.CommandVariable) != "" { // a container runtime calls plugins by their name alone
		os.Exit(cni.Main(version))
	}
	if args, ok := hookArgs(os.Args); ok {
		os.Exit(callHook(args, started, os.Stdin, os.Stdout, os.Stderr))
	}
	if slices.Contains(ownArgs(os.Args[1:]), "serve") {
		onOneProcessor()
	}
	os.Exit(execute(os.Args[1:], started, os.Stdout, os.Stderr))
}

// ownArgs are the arguments before those of a command that podnic is to run.
func ownArgs(args []string) []string {
	if dash := slices.Index(args, "--"); dash >= 0 {
		return args[:dash]
	}
	return args
}
