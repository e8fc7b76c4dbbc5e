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
after one that fails: the exit status is the highest. JSON has the changes of
each interface under "restored".

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
		a.common.byRecord = true
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

// restoredReport is what restore and detach print as JSON.
type restoredReport struct {
	APIVersion string `json:"apiVersion"` // podnic/v1
	// Phase is that of what was asked for: it is left out where some of it failed.
	Phase    string              `json:"phase,omitempty"`
	Restored []restoredInterface `json:"restored"`
	// Interfaces, Steps and Warnings are those of all in one, in the same order.
	Interfaces []string    `json:"interfaces"`
	Steps      []plan.Step `json:"steps"`
	Warnings   []string    `json:"warnings"`
}

// restoredInterface is one that the pod has again.
type restoredInterface struct {
	Name     string      `json:"name"`
	Steps    []plan.Step `json:"steps"`
	Warnings []string    `json:"warnings"`
}

// printRestored says what was restored.
func (a *app) printRestored(all []*network.Restoration, failed error, asJSON bool) error {
	steps, warnings, names, restored := []plan.Step{}, []string{}, []string{}, []restoredInterface{}
	for _, r := range all {
		steps, warnings = append(steps, r.Steps...), append(warnings, r.Warnings...)
		if len(r.Steps) > 0 {
			names = append(names, r.Names.Interface)
			restored = append(restored, restoredInterface{r.Names.Interface, r.Steps, append([]string{}, r.Warnings...)})
			if !asJSON {
				fmt.Fprintf(a.out, "%s is the pod's again (%d changes)\n", r.Names.Interface, len(r.Steps))
			}
		}
	}
	if asJSON {
		result := restoredReport{APIVersion: "podnic/v1", Restored: restored, Interfaces: names, Steps: steps, Warnings: warnings}
		if failed == nil {
			result.Phase = status.PhaseOriginal
		}
		return a.printJSON(result)
	}
	if len(names) == 0 {
		fmt.Fprintln(a.out, "nothing to restore: no interface is wired")
	}
	printWarnings(a.out, warnings)
	return nil
}
