// Command pump joins a tap of its own network namespace with a new one in another, as an emulator joins a pod's tap
// with the card of its guest.
//
// Usage: pump TAP NAMESPACE LINK
package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/test/shapes/tap"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pump:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: pump TAP NAMESPACE LINK")
	}
	runtime.LockOSThread()
	pods, err := tap.Open(args[0])
	if err != nil {
		return err
	}
	namespace, err := os.Open(args[1])
	if err != nil {
		return err
	}
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("setns", err)
	}
	guests, err := tap.Open(args[2])
	if err != nil {
		return err
	}
	fmt.Println("pumping")
	tap.Pump(pods, guests)
	return nil
}
