package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/doctor"
	"github.com/podnic/podnic/network/plan"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// doctorFlags are those of doctor. Its bundle has them too, but for the choice of checks.
type doctorFlags struct {
	socket, uri    string
	connectTimeout time.Duration
	only, ignore   []string
}

func (f *doctorFlags) addPlaces(set *pflag.FlagSet) {
	set.StringVar(&f.socket, "socket", "", "the server's socket that is wanted: packet or udp (default: what the pod is wired for, or packet)")
	set.StringVar(&f.uri, "connect", "", "libvirt's `URI` (default: libvirt's own default, such as qemu:///system for root)")
	set.DurationVar(&f.connectTimeout, "connect-timeout", 2*time.Second, "how long to wait for libvirt")
}

func (f *doctorFlags) addChecks(set *pflag.FlagSet) {
	set.StringSliceVar(&f.only, "only", nil, "these `checks` alone")
	set.StringSliceVar(&f.ignore, "ignore", nil, "`checks` whose failure is a warning")
}

func (f *doctorFlags) options(a *app) (doctor.Examination, error) {
	switch f.socket {
	case "", plan.SocketPacket, plan.SocketUDP:
	default:
		return doctor.Examination{}, usageError{fmt.Errorf("--socket takes packet or udp, not %q", f.socket)}
	}
	if err := checksFlag("only", f.only); err != nil {
		return doctor.Examination{}, err
	}
	if err := checksFlag("ignore", f.ignore); err != nil {
		return doctor.Examination{}, err
	}
	req, err := a.common.request(f.socket)
	if err != nil {
		return doctor.Examination{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return doctor.Examination{}, fmt.Errorf("find this program: %w", err)
	}
	return doctor.Examination{
		Request: req, Service: a.common.inspectService(), URI: f.uri, ConnectTimeout: f.connectTimeout, Only: f.only, Ignore: f.ignore,
		ProbeKVM: []string{program, "doctor", probeKVM},
	}, nil
}

// checksFlag refuses names that no check has.
func checksFlag(name string, given []string) error {
	for _, check := range given {
		if all := doctor.Names(); !slices.Contains(all, check) {
			return usageError{fmt.Errorf("--%s: no check is called %q%s: there are %s", name, check, didYouMean("", check, all), strings.Join(all, ", "))}
		}
	}
	return nil
}

// probeKVM is a command that is for doctor itself.
const probeKVM = "probe-kvm"

func (a *app) doctorCommand() *cobra.Command {
	var flags doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this machine or pod lacks, and how to mend it",
		Long: `Check the machine, the pod, and what the guest will get: one line for each check
with its reason, and a remedy where there is something to mend. It changes
nothing. It works without privileges as far as it can, and says what it could
not look at. In the machine's own network namespace it checks the machine alone.

Exit status: 0; 1 when something will not work; 2 wrong usage.

The checks: ` + wrapped(doctor.Names()) + `.`,
		Example: `  podnic doctor
  podnic doctor --ignore kvm -o json
  podnic doctor --only tun,libvirt`,
		Args: noArgs,
	}
	flags.addPlaces(cmd.Flags())
	flags.addChecks(cmd.Flags())
	cmd.RunE = func(*cobra.Command, []string) error {
		asJSON, err := a.common.json()
		if err != nil {
			return err
		}
		options, err := flags.options(a)
		if err != nil {
			return err
		}
		report, err := doctor.Check(options)
		if err != nil {
			return err
		}
		if asJSON {
			err = a.printJSON(report)
		} else {
			err = report.Text(a.out)
		}
		if err == nil && !report.OK {
			return statusError{exitFailed, nil}
		}
		return err
	}
	cmd.AddCommand(a.bundleCommand(), a.probeKVMCommand())
	return cmd
}

// wrapped joins names in lines of 80 columns, the first of which has begun.
func wrapped(names []string) string {
	var b strings.Builder
	column := len("The checks: ")
	for i, name := range names {
		if i > 0 {
			b.WriteString(",")
			column++
			if column+1+len(name)+1 > 80 {
				b.WriteString("\n")
				column = 0
			} else {
				b.WriteString(" ")
				column++
			}
		}
		b.WriteString(name)
		column += len(name)
	}
	return b.String()
}

// probeKVMCommand is started by doctor, which can kill it.
func (a *app) probeKVMCommand() *cobra.Command {
	return &cobra.Command{
		Use:    probeKVM + " DEVICE",
		Short:  "Run a guest of eight instructions (for doctor itself)",
		Long:   "Run a guest of eight instructions, and say whether that works.",
		Hidden: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return usageError{fmt.Errorf("'%s' takes one device", cmd.CommandPath())}
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := doctor.ProbeKVM(args[0]); err != nil {
				fmt.Fprintln(a.out, err)
				return statusError{exitFailed, nil}
			}
			fmt.Fprintln(a.out, "works")
			return nil
		},
	}
}

func (a *app) bundleCommand() *cobra.Command {
	var flags doctorFlags
	cmd := &cobra.Command{
		Use:   "bundle FILE",
		Short: "Write all that a bug report needs into one archive",
		Long: `Write status, doctor's findings, the record and the state, all links, addresses,
routes, rules, neighbours and filters, versions and logs into FILE, a tar.gz, or
to standard output for -. Passwords, what the domain was given by cloud-init,
values of the environment and of DHCP options are left out; the archive's README
says what is in it. A file that is there is not overwritten.

Exit status: 0 written; 1 failed; 2 wrong usage, or a refusal.`,
		Example: `  podnic doctor bundle report.tar.gz
  kubectl exec vm -- podnic doctor bundle - >report.tar.gz`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return usageError{fmt.Errorf("'%s' takes one file to write, or - for standard output", cmd.CommandPath())}
		},
		RunE: func(_ *cobra.Command, args []string) error {
			options, err := flags.options(a)
			if err != nil {
				return err
			}
			files, err := doctor.Bundle(args[0], a.stdout, options, versionText())
			if err == nil && args[0] != "-" {
				fmt.Fprintf(a.out, "%s: %d files; read them before you pass them on\n", args[0], files)
			}
			return err
		},
	}
	flags.addPlaces(cmd.Flags())
	return cmd
}
