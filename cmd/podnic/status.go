package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/podnic/podnic/cmd/agent/hooklog"
	"github.com/podnic/podnic/cmd/agent/logs"
	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/cmd/draw"
	"github.com/podnic/podnic/network"
	"github.com/spf13/cobra"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the wiring, the lease and how far things are",
		Long: `Show what is really there: the wiring as the kernel has it, what the guest is
told, its lease, and when each part came to be and how long it took. What is not
as it should be is marked, and named at the end with what to do about it. It
changes nothing and needs no capability; what the server knows
is shown to users who may read --state-dir.

With --watch it draws again whenever something changes, until it is interrupted.
With -o dot it writes a graph for Graphviz: podnic status -o dot | dot -Tsvg.
Colours are for terminals alone, and not where NO_COLOR is set.

With --wait it exits 0 as soon as the phase is reached, and 4 when --timeout ran
out before; without --timeout it inspects once. So it serves as an exec probe:
podnic status --wait ready.

Exit status: 0 whatever the phase; 1 failed; 2 wrong usage, or a refusal; 4
--wait ran out of time.`,
		Example: `  podnic status
  podnic status --wait ready --timeout 30s
  podnic status -o dot | dot -Tsvg >pod.svg`,
		Args: noArgs,
	}
	wait := cmd.Flags().String("wait", "", "wait for a `phase`: wired or ready")
	timeout := cmd.Flags().Duration("timeout", 0, "how long to wait; 0 inspects once")
	showLog := cmd.Flags().Bool("log", false, "also show what libvirt called 'podnic hook' for, and what came of it")
	watch := cmd.Flags().Bool("watch", false, "draw again whenever something changes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		show, err := a.shower()
		if err != nil {
			return err
		}
		a.common.byRecord = true
		req, err := a.common.request("")
		if err != nil {
			return err
		}
		if err := checkPhase(*wait); err != nil {
			return err
		}
		if *watch {
			if *wait != "" || *showLog {
				return usageError{errors.New("--watch goes with neither --wait nor --log: it has no end")}
			}
			return a.watch(req, show)
		}
		var calls []hooklog.Entry
		if *showLog {
			if calls, err = hooklog.Read(req.StateDir); err != nil {
				return err
			}
		}
		view, reached, err := status.Await(req, a.common.inspectService(), *wait, *timeout)
		if err != nil {
			// Also where there is nothing to look at any more, the log says why.
			return errors.Join(hooklog.Draw(a.err, calls), err)
		}
		view.Report.Log = calls
		err = show(view)
		if a.common.output == "text" {
			err = errors.Join(err, hooklog.Draw(a.out, calls))
		}
		if err == nil && !reached {
			return statusError{exitTimeout, fmt.Errorf("not %s after %v: the phase is %s", *wait, timeout.Round(time.Millisecond), view.Report.Phase)}
		}
		return err
	}
	return cmd
}

// shower prints an inspection in the format that was asked for.
func (a *app) shower() (func(status.View) error, error) {
	switch a.common.output {
	case "dot":
		return func(v status.View) error { return draw.Dot(a.out, v) }, nil
	case "json":
		return func(v status.View) error { return a.printJSON(v.Report) }, nil
	}
	_, err := a.common.json("dot")
	return func(v status.View) error { return draw.Text(a.stdout, v, colorful(a.stdout)) }, err
}

// watch shows inspections until it is interrupted: as drawings in one place on a terminal, else one after the other.
func (a *app) watch(req network.Request, show func(status.View) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	screen := &draw.Screen{Terminal: logs.IsTerminal(a.stdout), Color: colorful(a.stdout), Rows: func() int { return rows(a.stdout) }}
	return status.Watch(ctx, req, a.common.inspectService(), func(v status.View, failed error) error {
		switch {
		case a.common.output == "text":
			return screen.Show(a.stdout, v, failed)
		case failed != nil:
			fmt.Fprintf(a.err, "podnic: %v\n", failed)
			return nil
		}
		return show(v)
	})
}

func checkPhase(wait string) error {
	switch wait {
	case "", status.PhaseWired, status.PhaseReady:
		return nil
	}
	return usageError{fmt.Errorf("--wait takes wired or ready, not %q", wait)}
}
