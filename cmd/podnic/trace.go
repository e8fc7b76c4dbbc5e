package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podnic/podnic/cmd/agent/trace"
	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
)

func (a *app) traceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Show the DHCP, ARP and ND between the guest and the rest as they pass",
		Long: `Show each DHCP, ARP and Neighbor Discovery frame that passes the guest's tap, a
line each as it happens: who asks for what, what is answered, and where nothing
is, why not. What the server ignores or refuses is explained by the server's own
rules. It sends nothing and changes nothing. Lines end at the terminal's width,
or at 120 columns; -o json prints everything, one object a line.

--write also makes a pcapng file, which tcpdump and Wireshark read; the reasons
are in it as comments. With --write - it goes to standard output, without lines:
podnic trace --write - | wireshark -k -i -

It ends on SIGINT or SIGTERM, after --count or --for, or when the tap is gone,
with a summary on standard error and exit status 0. It needs CAP_NET_RAW.

Exit status: 0 ended; 1 failed; 2 wrong usage, or a refusal.`,
		Example: `  podnic trace --for 1m
  podnic trace -o json --count 20
  podnic trace --write - | wireshark -k -i -`,
		Args: noArgs,
	}
	write := cmd.Flags().String("write", "", "also write the frames to this pcapng `file`; - is standard output")
	var limits trace.Limits
	cmd.Flags().IntVar(&limits.Count, "count", 0, "end after this `number` of frames")
	cmd.Flags().DurationVar(&limits.For, "for", 0, "end after this `duration`")
	cmd.RunE = func(*cobra.Command, []string) error {
		asJSON, err := a.common.json()
		if err != nil {
			return err
		}
		if limits.Count < 0 || limits.For < 0 {
			return usageError{errors.New("--count and --for take no negative values")}
		}
		a.common.byRecord = true
		req, err := a.common.request("")
		if err != nil {
			return err
		}
		// A reader that goes away makes writing fail, with an error to print, in place of ending the program.
		signal.Ignore(syscall.SIGPIPE)
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		return a.trace(ctx, req, limits, *write, asJSON)
	}
	return cmd
}

func (a *app) trace(ctx context.Context, req network.Request, limits trace.Limits, write string, asJSON bool) (err error) {
	tracing, err := trace.Open(req, a.common.inspectService())
	if err != nil {
		return err
	}
	defer tracing.Close()
	show, capture := a.traceLines(asJSON), discard
	if write != "" {
		file := a.stdout
		if write == "-" {
			show = discard
		} else {
			f, failed := os.Create(write)
			if failed != nil {
				return plan.Refuse("the capture cannot be written: %w", failed)
			}
			defer func() {
				if failed := f.Close(); failed != nil { // on NFS, say, a full disk shows only now
					err = errors.Join(err, fmt.Errorf("write the capture: %w", failed))
				}
			}()
			file = f
		}
		if capture, err = tracing.Capture(file, "podnic "+buildVersion()); err != nil {
			return fmt.Errorf("write the capture: %w", err)
		}
	}
	fmt.Fprintln(a.err, tracing)
	summary, err := tracing.Run(ctx, limits, func(f trace.Frame) error {
		if err := capture(f); err != nil {
			return fmt.Errorf("write the capture: %w", err)
		}
		if err := show(f); err != nil {
			return fmt.Errorf("write the trace: %w", err)
		}
		return nil
	})
	if err == nil {
		fmt.Fprintln(a.err, summary)
	}
	return err
}

func discard(trace.Frame) error { return nil }

// lineWidth is that of a line which does not go to a terminal, in columns.
const lineWidth = 120

func (a *app) traceLines(asJSON bool) func(trace.Frame) error {
	if asJSON {
		e := json.NewEncoder(printable.JSON(a.stdout))
		e.SetEscapeHTML(false)
		return func(f trace.Frame) error { return e.Encode(f) }
	}
	return func(f trace.Frame) error {
		_, err := fmt.Fprintln(a.out, trace.Line(f, a.width()))
		return err
	}
}

// width is the terminal's, which may change while lines are printed.
func (a *app) width() int {
	f, ok := a.stdout.(*os.File)
	if !ok {
		return lineWidth
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return lineWidth
	}
	return int(size.Col)
}
