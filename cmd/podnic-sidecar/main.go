// Command podnic-sidecar is what `podnic sidecar` becomes: the part of podnic that links gRPC, apart from the rest so that
// nobody else carries it. It is not meant to be started by hand.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/podnic/podnic/cmd/agent/logs"
	"github.com/podnic/podnic/cmd/agent/sidecar"
	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/domain/kubevirt"
	"github.com/podnic/podnic/domain/kubevirt/hooks"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

// version is set at link time, as podnic's is.
var version = "unknown"

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "podnic: %s\n", printable.Line(strings.ReplaceAll(err.Error(), "\n", "; ")))
	if network.IsRefusal(err) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(args []string) error {
	if len(args) != 1 {
		return plan.Refuse("podnic-sidecar is started by `podnic sidecar`: use that")
	}
	var request sidecar.Request
	if err := json.Unmarshal([]byte(args[0]), &request); err != nil {
		return plan.Refuse("podnic-sidecar is started by `podnic sidecar`: use that (%w)", err)
	}
	if request.Version != version {
		return plan.Refuse("this podnic-sidecar is of version %s, and podnic of %s: install both from one release", version, request.Version)
	}
	log, err := logs.New(os.Stderr, request.LogLevel, request.LogFormat)
	if err != nil {
		return err
	}
	defer log.Sync() //nolint:errcheck // there is nowhere to say so
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	serve := func(ctx context.Context, socket kubevirt.Socket, callbacks kubevirt.Callbacks, ready func()) error {
		return hooks.Serve(ctx, socket, callbacks, ready, log)
	}
	return sidecar.Run(ctx, request, serve, reload, log)
}
