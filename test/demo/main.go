// Command demo shows podnic at work, as it happens: a pod made by a real CNI plugin gives its network identity to a real
// virtual machine, and gets it back when the machine ends.
//
// It changes no network but that of the namespaces it makes, and leaves nothing behind, also when it fails or is
// interrupted. Its last line is "demo: ok", or the reason why not, with a status other than 0. `make demo` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// timeLimit ends a demo that hangs. It takes about 15 seconds where guests are emulated.
const timeLimit = 3 * time.Minute

func main() {
	podnic := flag.String("podnic", "bin/podnic", "the program to show")
	family := flag.String("family", "4", "the pod's addresses: 4, or 6 for a pod that has IPv6 alone")
	vmm := flag.String("vmm", "libvirt", "what runs the guest: libvirt, or qemu for QEMU without it")
	flag.Parse()
	for _, choice := range []struct{ what, is, one, other string }{{"family", *family, "4", "6"}, {"vmm", *vmm, "libvirt", "qemu"}} {
		if choice.is != choice.one && choice.is != choice.other {
			fmt.Printf("demo: no %s %q: it is %s or %s\n", choice.what, choice.is, choice.one, choice.other)
			os.Exit(2)
		}
	}

	// A reader that goes away (`make demo | head`) must not end the program before it has cleaned up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, timeLimit, fmt.Errorf("not done after %v", timeLimit))
	defer cancel()

	if err := show(ctx, os.Stdout, *podnic, *family == "6", *vmm == "qemu"); err != nil {
		fmt.Printf("\ndemo: failed: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("\ndemo: ok")
}

func show(ctx context.Context, to *os.File, podnic string, ipv6, qemu bool) (err error) {
	podnic, err = filepath.Abs(podnic)
	if err != nil {
		return err
	}
	if _, err := os.Stat(podnic); err != nil {
		return fmt.Errorf("%w (run `make build`)", err)
	}
	d := &demo{podnic: podnic, ipv6: ipv6, screen: newScreen(to)}
	defer func() { err = errors.Join(err, d.close()) }()
	steps := []func(context.Context) error{d.makePods, d.startLibvirtd, d.runDomain, d.drawWiring, d.useGuest, d.endGuest, d.compare}
	if qemu {
		steps = []func(context.Context) error{d.makePods, d.runCommand, d.drawWiring, d.useGuest, d.endGuest, d.compare}
	}
	for _, step := range steps {
		err := step(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			d.explain()
			return err
		}
	}
	return nil
}
