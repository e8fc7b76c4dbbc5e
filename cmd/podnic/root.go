package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/logs"
	"github.com/podnic/podnic/cmd/printable"
	"github.com/podnic/podnic/domain/command"
	"github.com/podnic/podnic/network"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

// app is what every command shares.
type app struct {
	common  commonFlags
	started time.Time
	// out and err make fit for a terminal what is written to them. What is made fit already, or is not text, goes to stdout
	// and stderr.
	out, err       io.Writer
	stdout, stderr io.Writer
	log            *zap.Logger
	// command says that `run` has a command, whose exit statuses these are.
	command bool
}

// execute runs one command line and returns the exit status.
func execute(args []string, started time.Time, out, stderr io.Writer) int {
	return executeFrom(os.Stdin, args, started, out, stderr)
}

// executeFrom is execute with another standard input.
func executeFrom(in io.Reader, args []string, started time.Time, out, stderr io.Writer) int {
	a := &app{
		command: runsCommand(args), started: started, out: printable.Writer(out), err: printable.Writer(stderr), stdout: out, stderr: stderr, log: zap.NewNop(),
	}
	root := a.rootFor(args)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) { // or without descriptions
		a.completeValues(root)
	}
	root.SetArgs(args)
	root.SetIn(in)
	return a.exit(root.Execute())
}

// ofBuilds are the commands that only builds with a tag have.
var ofBuilds = map[string]func(*app) *cobra.Command{}

// commands makes each command, by its name.
func (a *app) commands() map[string]func() *cobra.Command {
	all := map[string]func() *cobra.Command{
		"run": a.runCommand, "prepare": a.prepareCommand, "serve": a.serveCommand, "restore": a.restoreCommand, "status": a.statusCommand,
		"doctor": a.doctorCommand, "trace": a.traceCommand, "hook": a.hookCommand, "sidecar": a.sidecarCommand, "cni": a.cniCommand,
		"version": a.versionCommand, "attach": a.attachCommand, "detach": a.detachCommand,
	}
	for name, command := range ofBuilds {
		all[name] = func() *cobra.Command { return command(a) }
	}
	return all
}

// rootFor is the root with the command that the arguments begin with alone, or with all where they begin otherwise: to make the
// flags of all would take a sixth of what the start of the program puts into memory.
func (a *app) rootFor(args []string) *cobra.Command {
	if len(args) > 0 {
		if command := a.commands()[args[0]]; command != nil {
			root := a.bareRoot()
			root.CompletionOptions.DisableDefaultCmd = true
			root.AddCommand(command())
			hideUnused(root)
			return root
		}
	}
	return a.root()
}

// root is the root with all commands.
func (a *app) root() *cobra.Command {
	root := a.bareRoot()
	// Not cobra's own, which has a template: text/template would make the program a fifth larger.
	printVersion := root.Flags().Bool("version", false, "print the version")
	help := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if !*printVersion {
			return help(cmd, args)
		}
		_, err := fmt.Fprintln(a.out, versionText())
		return err
	}
	for _, command := range a.commands() {
		root.AddCommand(command())
	}
	a.addHelpAndCompletion(root)
	hideUnused(root)
	return root
}

func (a *app) bareRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "podnic",
		Short: "Give a pod's network interface to a virtual machine in the pod",
		Long: `podnic gives a pod's network interface to a virtual machine that runs in the
pod: it discovers the interface, joins it to a tap, hands the pod's addresses,
MAC, routes, MTU and resolver to the guest by DHCP and DHCPv6, starts the guest,
and gives the pod its interface back when the guest has ended.

While a guest has the interface, the pod's own processes have no network on it:
other containers of the pod cannot use it, and probes reach the guest. With
--binding shared the containers keep the ports of --pod-ports, and can connect.

Every flag can also be set in the environment (--tap-owner as PODNIC_TAP_OWNER)
and in the YAML file that --config names (tap-owner: 107). The command line
comes before the environment, and the environment before the file. A variable
that begins with PODNIC_ and is no setting is a warning.

Exit status: 0 done; 1 failed, and the namespace is as it was; 2 wrong usage or
configuration, or a refusal, nothing touched; 3 failed, and the namespace could
not be put back (run 'podnic restore'); 4 status --wait ran out of time; run
only: 5 the guest crashed, 6 somebody else destroyed it, 7 it was destroyed
after the grace period; 'run -- COMMAND' has statuses of its own.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
		Args:              noArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.setUp(cmd) },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.common.add(root.PersistentFlags())
	root.SetFlagErrorFunc(flagError)
	return root
}

// setUp reads environment and configuration file into the flags and makes the logger.
func (a *app) setUp(cmd *cobra.Command) error {
	a.common.warn = func(err error) {
		fmt.Fprintf(a.err, "podnic: warning: %s\n", printable.Line(strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	given, err := unusedGiven(cmd)
	if err == nil {
		err = a.configure(cmd)
	}
	if err != nil {
		return usageError{err}
	}
	log, err := logs.New(a.stderr, a.common.logLevel, a.common.logFormat)
	if err != nil && a.common.unchecked {
		a.common.warn(err)
		log, err = logs.New(a.stderr, "info", "")
	}
	if err != nil {
		return usageError{err}
	}
	a.log = log
	for _, name := range given {
		fmt.Fprintf(a.err, "podnic: warning: '%s' ignores --%s\n", cmd.CommandPath(), name)
	}
	for _, line := range unknownVariables(cmd) {
		fmt.Fprintf(a.err, "podnic: warning: %s\n", line)
	}
	return nil
}

// flagError is what is wrong with a flag of a command line.
func flagError(cmd *cobra.Command, err error) error { return usageError{inWords(cmd, err)} }

// runsCommand reports whether the line is that of `podnic run -- COMMAND`, also if its flags are wrong.
func runsCommand(args []string) bool {
	own := ownArgs(args)
	return len(own) < len(args)-1 && slices.Contains(own, "run")
}

// noArgs is for commands that take flags alone.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("%q is not a command or flag of '%s'%s; '%s --help' lists them", args[0], cmd.CommandPath(), meantCommand(cmd, args[0]), cmd.CommandPath())}
}

// meantCommand asks for the command below cmd that is most like what was given; empty where none is.
func meantCommand(cmd *cobra.Command, given string) string {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return didYouMean("", given, names)
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
	exitCommandFailed      = 125 // of `run -- COMMAND`, where all others are the command's
)

// exit prints the error, one line, and maps it to the exit status.
func (a *app) exit(err error) int {
	if err == nil {
		return 0
	}
	status := exitFailed
	var unstarted *command.StartError
	var own statusError
	var stuck *network.StuckError
	var usage usageError
	switch {
	case errors.As(err, &own):
		status = own.status
		if own.error == nil {
			return status
		}
	case errors.As(err, &unstarted):
		status = unstarted.Status
	case a.command:
		status = exitCommandFailed
	case errors.As(err, &stuck):
		status = exitStuck
	case errors.As(err, &usage), network.IsRefusal(err):
		status = exitRefused
	}
	fmt.Fprintf(a.err, "podnic: %s\n", printable.Line(strings.ReplaceAll(err.Error(), "\n", "; ")))
	return status
}
