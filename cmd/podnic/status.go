package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/podnic/podnic/cmd/agent"
	"github.com/spf13/cobra"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the wiring, the lease and how far things are",
		Long: `Show what is really there: the wiring as the kernel has it, what the guest is
told, its lease, and when each part came to be. It changes nothing and needs no
capability; what the server knows, it tells whoever may read --state-dir.

With --wait it exits 0 as soon as the phase is reached, and 4 when --timeout ran
out before; without --timeout it looks once. So it serves as an exec probe:
podnic status --wait ready.`,
		Args: noArgs,
	}
	wait := cmd.Flags().String("wait", "", "wait for a `phase`: wired or ready")
	timeout := cmd.Flags().Duration("timeout", 0, "how long to wait; 0 looks once")
	showLog := cmd.Flags().Bool("log", false, "also show what libvirt called 'podnic hook' for, and what came of it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := a.common.json()
		if err != nil {
			return err
		}
		req, err := a.common.request("")
		if err != nil {
			return err
		}
		if err := checkPhase(*wait); err != nil {
			return err
		}
		var calls []agent.HookEntry
		if *showLog {
			if calls, err = agent.HookLog(req.StateDir); err != nil {
				return err
			}
		}
		service := a.common.looker()
		view, reached, err := agent.Await(req, service, *wait, *timeout)
		if err != nil {
			// Also where there is nothing to look at any more, the log says why.
			return errors.Join(agent.DrawHookLog(a.err, calls), err)
		}
		if asJSON {
			view.Report.Log = calls
			err = printJSON(a.out, view.Report)
		} else {
			err = errors.Join(agent.Draw(a.out, view), agent.DrawHookLog(a.out, calls))
		}
		if err == nil && !reached {
			return statusError{exitTimeout, fmt.Errorf("not %s after %v: the phase is %s", *wait, timeout.Round(time.Millisecond), view.Report.Phase)}
		}
		return err
	}
	return cmd
}

func checkPhase(wait string) error {
	switch wait {
	case "", agent.PhaseWired, agent.PhaseReady:
		return nil
	}
	return usageError{fmt.Errorf("--wait takes wired or ready, not %q", wait)}
}
