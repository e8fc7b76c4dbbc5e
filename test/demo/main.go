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
	flag.Parse()
	if *family != "4" && *family != "6" {
		fmt.Printf("demo: no family %q: it is 4 or 6\n", *family)
		os.Exit(2)
	}

	// A reader that goes away (`make demo | head`) must not end the program before it has cleaned up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, timeLimit, fmt.Errorf("not done after %v", timeLimit))
	defer cancel()

	if err := show(ctx, *podnic, *family == "6"); err != nil {
		fmt.Printf("\ndemo: failed: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("\ndemo: ok")
}

func show(ctx context.Context, podnic string, ipv6 bool) (err error) {
	podnic, err = filepath.Abs(podnic)
	if err != nil {
		return err
	}
	if _, err := os.Stat(podnic); err != nil {
		return fmt.Errorf("%w (run `make build`)", err)
	}
	d := &demo{podnic: podnic, ipv6: ipv6, screen: newScreen(os.Stdout)}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, step := range []func(context.Context) error{
		d.makePods, d.startLibvirtd, d.run, d.drawWiring, d.useGuest, d.endGuest, d.compare,
	} {
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
