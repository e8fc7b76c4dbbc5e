//go:build cgo && libvirt_dlopen

// Command podnic-libvirt is podnic's helper for libvirt: podnic starts it when it needs libvirt, and it ends when podnic
// does. It is not meant to be started by hand.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/domain/libvirt"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "podnic-libvirt takes no arguments: podnic starts it when it needs libvirt")
		os.Exit(2)
	}
	// A signal to all of podnic's processes still means that the guest is to be shut down, which podnic does through
	// this one. They are caught, since what is ignored would be ignored by the ssh of a remote URI, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	if err := libvirt.Serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, printable.Text(err.Error()))
		os.Exit(1)
	}
}
