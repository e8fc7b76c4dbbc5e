package main

import (
	"github.com/podnic/podnic/cmd/cni"
	"github.com/spf13/cobra"
)

func (a *app) cniCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cni",
		Short: "Be a CNI plugin, for launcher pods without privileges",
		Long: `Answer a container runtime that calls podnic as a CNI plugin, chained after the
plugin that makes the pod's interface: ADD wires the interface for a guest as
'podnic prepare' does, DEL takes it back, and no container of the pod needs a
capability. Where CNI_COMMAND is set, podnic does the same without this word, so
that the program can be put into the directory of the plugins as it is.

It takes no flags and reads none from the environment: the call comes in the
CNI_... variables, and the configuration on standard input. Called by hand, it
says which versions of CNI it speaks.

Exit status: 0 done; otherwise the error is on standard output, as CNI has it.`,
		Example: `  CNI_COMMAND=VERSION podnic cni </dev/null`,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if status := cni.Main(version); status != 0 {
				return statusError{status, nil} // it has said why, in JSON
			}
			return nil
		},
	}
	cmd.AddCommand(a.cniInstallCommand())
	return cmd
}
