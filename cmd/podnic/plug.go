package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/podnic/podnic/cmd/agent/plug"
	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/network"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) attachCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach NAME[,KEY=VALUE…]",
		Short: "Give one more interface of the pod to a running guest",
		Long: `Wire an interface of the pod for a running libvirt guest, have it served,
plug a network card into the guest, and return when the emulator holds its tap.
The other interfaces of the guest go on undisturbed. The server of those,
whether 'podnic run', 'podnic serve' or the hook's, takes it up; where there is
none, one is started, as the hook starts one.

The keys are those of --interface. The socket is that of the guest's other
interfaces, unless it is named. MAC and MTU are the pod's; libvirt chooses the
PCI address, for which a q35 machine needs a free port (<controller type='pci'
model='pcie-root-port'/> in the domain's XML). With the guest's end, what was
attached is given back like the rest.

It needs what 'podnic prepare' and 'podnic run' do. When a step fails, those
before it are undone. A guest that has the interface already is left as it is.

In the environment and the file, --domain and --timeout are attach.domain and
attach.timeout (PODNIC_ATTACH_TIMEOUT): those of 'podnic run' and 'podnic
status' are something else. A server that is started reads the same file.

Exit status: 0 done; 1 failed, and pod and guest are as they were; 2 wrong
usage, or a refusal, nothing touched; 3 failed, and not all could be put back.`,
		Example: `  podnic attach net1
  podnic attach net2,binding=redirect,queues=2 --domain vm
  podnic status --interface net2 --wait ready`,
		Args:              a.oneInterface,
		ValidArgsFunction: a.completeInterfaces(false),
	}
	socket := socketFlag(cmd, "that of the guest's other interfaces")
	task := a.plugFlags(cmd, 10*time.Second, "how long to wait until the emulator holds the tap")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := a.common.json()
		if err != nil {
			return err
		}
		t, err := task(args[0], socket())
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		done, err := plug.Attach(ctx, t, a.log)
		if err != nil {
			return err
		}
		seen, err := network.Inspect(t.Request)
		if err != nil {
			return err
		}
		report, err := status.NewReport(t.Request, []*network.Inspection{seen}, a.common.inspectService())
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(report)
		}
		verb := "is attached to"
		if done.Had {
			verb = "was attached already to"
		}
		r := report.Interfaces[0]
		fmt.Fprintf(a.out, "%s %s the guest %s, by %s\n", r.Name, verb, done.Domain.Name, r.Tap)
		fmt.Fprintf(a.out, "  guest    %s\n", strings.Join(guestLine(r), "  "))
		printWarnings(a.out, done.Warnings)
		return nil
	}
	return cmd
}

func (a *app) detachCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "detach NAME",
		Short: "Take an interface from a running guest, and give it back to the pod",
		Long: `Ask a running libvirt guest to give up the network card of an interface,
wait until it has, and give the pod its interface back, exactly. The other
interfaces of the guest go on undisturbed.

A guest that refuses, or that does nothing within --timeout, keeps its card and
its network, and the exit status is 1. One whose system is not up yet is asked
again every five seconds. Where the card was unplugged already, say by virsh,
the interface is given back. A guest that ends has given it up.

In the environment and the file, --domain and --timeout are detach.domain and
detach.timeout (PODNIC_DETACH_TIMEOUT).

Exit status: 0 done; 1 failed, or the guest keeps its card; 2 wrong usage, or a
refusal, nothing touched; 3 failed, and the pod lacks something of its
interface.`,
		Example: `  podnic detach net1
  podnic detach net2 --domain vm --timeout 60s`,
		Args:              a.oneInterface,
		ValidArgsFunction: a.completeInterfaces(true),
	}
	task := a.plugFlags(cmd, 30*time.Second, "how long the guest has to give the card up")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := a.common.json()
		if err != nil {
			return err
		}
		if strings.Contains(args[0], ",") {
			return usageError{fmt.Errorf("detach takes the name of an interface alone, not %q", args[0])}
		}
		t, err := task(args[0], "")
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		r, err := plug.Detach(ctx, t, a.log)
		if err != nil {
			return err
		}
		if len(r.Steps) == 0 && !asJSON {
			fmt.Fprintf(a.out, "%s is the pod's again: it was given back at the guest's end\n", args[0])
			printWarnings(a.out, r.Warnings)
			return nil
		}
		return a.printRestored([]*network.Restoration{r}, nil, asJSON)
	}
	return cmd
}

// plugFlags adds what attach and detach share. What it returns makes the task of an argument.
func (a *app) plugFlags(cmd *cobra.Command, patience time.Duration, meaning string) func(arg, socket string) (plug.Task, error) {
	name := cmd.Flags().String("domain", "", "the guest's `name` (default: the one that has other interfaces of this pod)")
	uri := cmd.Flags().String("connect", "", "libvirt's `URI` (default: libvirt's own default, such as qemu:///system for root)")
	connectTimeout := cmd.Flags().Duration("connect-timeout", 30*time.Second, "how long to wait for libvirt")
	timeout := cmd.Flags().Duration("timeout", patience, meaning)
	setApart(cmd, "domain", "timeout") // run's domain is a file, and status waits for something else
	return func(arg, socket string) (plug.Task, error) {
		text := configuredInterface(a.common.interfaces, arg)
		if a.common.interfaces = []string{text}; text == arg {
			a.common.interfacesBy = cmd.Name() // its argument
		}
		if arg == allInterfaces {
			return plug.Task{}, usageError{errors.New("all: name one interface")}
		}
		req, err := a.common.request(socket)
		return plug.Task{
			Request: req, Domain: *name, URI: *uri, ConnectTimeout: *connectTimeout, Timeout: *timeout, Started: a.started,
			ServeArgs: shared(cmd.Flags()),
		}, err
	}
}

// configuredInterface is an argument, or what the configuration says of the interface that it names without a key.
func configuredInterface(configured []string, arg string) string {
	for _, text := range configured {
		if name, _, _ := strings.Cut(text, ","); name == arg {
			return text
		}
	}
	return arg
}

// shared are the flags that were set and that a `podnic serve` of the same pod needs too, as its arguments.
func shared(flags *pflag.FlagSet) []string {
	var args []string
	for _, name := range []string{"netns", "state-dir", "allow-host-namespace", "log-level", "log-format", "config"} {
		f := flags.Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		value := f.Value.String()
		if value != "" && slices.Contains([]string{"netns", "state-dir", "config"}, name) {
			if path, err := filepath.Abs(value); err == nil {
				value = path // the server works in another directory
			}
		}
		args = append(args, "--"+name+"="+value)
	}
	return args
}

func (a *app) oneInterface(cmd *cobra.Command, args []string) error {
	if _, err := a.common.json(); err != nil {
		return err
	}
	if len(args) == 1 {
		return nil
	}
	return usageError{fmt.Errorf("'%s' takes the name of one interface; '%s --help' says more", cmd.CommandPath(), cmd.CommandPath())}
}

// completeInterfaces completes the pod's interfaces that are wired, or those that are not.
func (a *app) completeInterfaces(wired bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if !wired && strings.Contains(toComplete, ",") {
			return a.interfaceKey(cmd, toComplete)
		}
		req := network.Request{Namespace: a.common.netns, StateDir: a.common.stateDir, AllowHostNamespace: a.common.allowHost}
		names, err := network.Wired(req)
		if err == nil && !wired {
			there := names
			names, err = network.PodInterfaces(req)
			names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(there, name) })
		}
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
