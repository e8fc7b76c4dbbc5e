package main

import (
	"fmt"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/cmd/agent/wiring"
	"github.com/podnic/podnic/network"
	"github.com/spf13/cobra"
)

func (a *app) restoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Give the pod its interface back",
		Long: `Undo 'podnic prepare' exactly: the pod has its interface, addresses, routes and
neighbours again, and nothing of podnic's is left. Where nothing is wired, it
does nothing. While a guest holds the tap it refuses, unless --force is said.`,
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
		r, err := wiring.Restore(cmd.Context(), req, *force)
		if err != nil {
			return err
		}
		if asJSON {
			steps := r.Steps
			if steps == nil {
				steps = []network.Step{}
			}
			return a.printJSON(map[string]any{"apiVersion": "podnic/v1", "phase": status.PhaseOriginal, "steps": steps, "warnings": append([]string{}, r.Warnings...)})
		}
		if len(r.Steps) == 0 {
			fmt.Fprintln(a.out, "nothing to restore: no interface is wired")
		} else {
			fmt.Fprintf(a.out, "%s is the pod's again (%d changes)\n", r.Names.Interface, len(r.Steps))
		}
		printWarnings(a.out, r.Warnings)
		return nil
	}
	return cmd
}
