package main

import (
	"errors"
	"fmt"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/cmd/agent/wiring"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/spf13/cobra"
)

func (a *app) restoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Give the pod its interface back",
		Long: `Undo 'podnic prepare' exactly: the pod has its interface, addresses, routes and
neighbours again, and nothing of podnic's is left in its network namespace.
Where nothing is wired, it does nothing. While a guest holds the tap it refuses,
unless --force is passed.

It restores all that are wired, or those that --interface names, and goes on
after one that fails: the exit status is the highest.

Exit status: 0 done; 1 failed; 2 wrong usage, or a refusal, nothing touched; 3
failed, and the pod lacks something of its interface.`,
		Example: `  podnic restore
  podnic restore --netns /proc/4711/ns/net --interface eth0`,
		Args: noArgs,
	}
	force := cmd.Flags().Bool("force", false, "also while a guest holds the tap; it loses its network")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := a.common.json()
		if err != nil {
			return err
		}
		req, err := a.common.request("")
		if err != nil {
			return err
		}
		all, failed := wiring.RestoreAll(cmd.Context(), req, *force)
		if failed != nil && len(all) == 0 {
			return failed
		}
		return errors.Join(a.printRestored(all, failed, asJSON), failed)
	}
	return cmd
}

// printRestored says what was restored. phase is that of what was asked for: it is left out where some of it failed.
func (a *app) printRestored(all []*network.Restoration, failed error, asJSON bool) error {
	steps, warnings, names := []plan.Step{}, []string{}, []string{}
	for _, r := range all {
		steps, warnings = append(steps, r.Steps...), append(warnings, r.Warnings...)
		if len(r.Steps) > 0 {
			names = append(names, r.Names.Interface)
			if !asJSON {
				fmt.Fprintf(a.out, "%s is the pod's again (%d changes)\n", r.Names.Interface, len(r.Steps))
			}
		}
	}
	if asJSON {
		result := map[string]any{"apiVersion": "podnic/v1", "interfaces": names, "steps": steps, "warnings": warnings}
		if failed == nil {
			result["phase"] = status.PhaseOriginal
		}
		return a.printJSON(result)
	}
	if len(names) == 0 {
		fmt.Fprintln(a.out, "nothing to restore: no interface is wired")
	}
	printWarnings(a.out, warnings)
	return nil
}
