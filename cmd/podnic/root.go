package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/logs"
	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/network"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
)

// app is what every command shares.
type app struct {
	common  commonFlags
	started time.Time
	// out and err make fit for a terminal what is written to them. What is made fit already, or is no text, goes to stdout
	// and stderr.
	out, err       io.Writer
	stdout, stderr io.Writer
	log            *zap.Logger
	// configured are the flags that environment and file have set.
	configured []*pflag.Flag
}

// execute runs one command line and returns the exit status.
func execute(args []string, started time.Time, out, stderr io.Writer) int {
	return executeFrom(os.Stdin, args, started, out, stderr)
}

// executeFrom is execute with another standard input.
func executeFrom(in io.Reader, args []string, started time.Time, out, stderr io.Writer) int {
	a := &app{
		started: started, out: printable.Writer(out), err: printable.Writer(stderr), stdout: out, stderr: stderr, log: zap.NewNop(),
	}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	return a.exit(root.Execute())
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "podnic",
		Short: "Give a pod's network interface to a virtual machine in the pod",
		Long: `podnic gives a pod's network interface to a virtual machine that runs in the pod:
it discovers the interface, rewires it into a bridge and a tap, hands the pod's
address, MAC, routes, MTU and resolver to the guest by DHCP, starts the libvirt
domain, and gives the pod its interface back when the guest has ended.

While a guest has the interface, the pod's own processes have no network on it:
other containers of the pod cannot use it, and probes reach the guest.

Every flag can also be set in the environment (--tap-owner as PODNIC_TAP_OWNER)
and in the YAML file that --config names (tap-owner: 107). The command line
comes before the environment, and the environment before the file.

Exit status: 0 done; 1 failed, and the namespace is as it was; 2 wrong usage or
configuration, or a refusal, nothing touched; 3 failed, and the namespace could
not be put back (run 'podnic restore'); 4 status --wait ran out of time; run
only: 5 the guest crashed, 6 somebody else destroyed it, 7 it was destroyed
after the grace period.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
		Args:              noArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.setUp(cmd) },
	}
	a.common.add(root.PersistentFlags())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; '%s --help' lists the flags", err, cmd.CommandPath())}
	})
	root.AddCommand(a.runCommand(), a.prepareCommand(), a.serveCommand(), a.restoreCommand(), a.statusCommand(), a.doctorCommand(),
		a.traceCommand(), a.hookCommand(), a.sidecarCommand(), a.cniCommand(), a.versionCommand())
	return root
}

// setUp reads environment and configuration file into the flags and makes the logger.
func (a *app) setUp(cmd *cobra.Command) error {
	if err := a.configure(cmd); err != nil {
		return usageError{err}
	}
	log, err := logs.New(a.stderr, a.common.logLevel, a.common.logFormat)
	if err != nil {
		return usageError{err}
	}
	a.log = log
	return nil
}

// noArgs is for commands that take flags alone.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("%q is not a command or flag of '%s'; '%s --help' lists them", args[0], cmd.CommandPath(), cmd.CommandPath())}
}

// usageError is a command line or a configuration that cannot be used.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// statusError ends the program with a status of its own. The error, if there is one, is printed.
type statusError struct {
	status int
	error
}

func (e statusError) Unwrap() error { return e.error }

// Exit statuses, as the command line's contract has them.
const (
	exitFailed             = 1
	exitRefused            = 2
	exitStuck              = 3
	exitTimeout            = 4
	exitCrashed            = 5
	exitDestroyedByOther   = 6
	exitDestroyedAfterWait = 7
)

// exit prints the error, one line, and maps it to the exit status.
func (a *app) exit(err error) int {
	if err == nil {
		return 0
	}
	status := exitFailed
	var own statusError
	var stuck *network.StuckError
	var usage usageError
	switch {
	case errors.As(err, &own):
		status = own.status
		if own.error == nil {
			return status
		}
	case errors.As(err, &stuck):
		status = exitStuck
	case errors.As(err, &usage), network.IsRefusal(err):
		status = exitRefused
	}
	fmt.Fprintf(a.err, "podnic: %s\n", printable.Line(strings.ReplaceAll(err.Error(), "\n", "; ")))
	return status
}
