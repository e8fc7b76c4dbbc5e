package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/podnic/podnic/cmd/agent/run"
	"github.com/podnic/podnic/domain"
	"github.com/podnic/podnic/network/plan"
	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	var flags serviceFlags
	cmd := &cobra.Command{
		Use:   "run (--domain FILE | -- COMMAND [ARG…])",
		Short: "Run a guest that is the pod on the network",
		Long: `Wire the pod's interface, serve DHCP, start the guest, follow it until it ends,
and give the pod its interface back: a launcher container's main process. The
guest is a libvirt domain (--domain), or that of a COMMAND, such as QEMU's.

In the command's arguments $(PODNIC_TAP) is replaced by the guest's tap; there
are PODNIC_INTERFACE, PODNIC_MAC, PODNIC_MTU, PODNIC_QUEUES and, with --tap-fd,
PODNIC_TAP_FD, too, also in its environment, and all of them as JSON in
PODNIC_INTERFACES. Those of a second interface end in _1. $$(NAME) stands for
$(NAME). SIGTERM and SIGINT are passed on; with --qmp the guest is asked to shut
down first, and the command gets the signal after --grace. The exit status is
the command's, 128 and the number of the signal that ended it, 126 or 127 if it
cannot be run, and 125 for podnic's own errors. A command that puts its guest in
the background has ended.

The domain's interface is filled in (or added, when it has none): the tap, the
pod's MAC and MTU, virtio unless it says otherwise. Nothing else in the document
is changed. Of several (--interface eth0 --interface net1, or all) each is found
by its tap in <target dev='tap1'/>, else by <alias name='ua-net1'/>, else by its
MAC, else in order; one that the domain lacks is added. A guest of this name
that an earlier run started here and that runs still is taken over, with what
was attached to it meanwhile ('podnic attach').

On SIGTERM or SIGINT the guest is asked to shut down, and destroyed when it has
not done so after --grace; a second signal does not wait. SIGHUP reads resolver,
hostname and the configuration file anew.

Where libvirt ended with the same signal, the guest's end is that nobody holds
the tap any more. If a process holds it still after --grace, it is named in the
log, and ended with --kill-orphan; a second signal ends podnic with status 3,
and leaves the guest its wiring. To see and end another user's process requires
CAP_SYS_PTRACE and CAP_KILL.

While the pod's interface has no carrier, the guest's link is down, as a network
card's without its cable, and comes back with it; not with
--follow-carrier=false, nor where the domain's XML has the link down. For a
command that takes --qmp.

It needs CAP_NET_ADMIN, CAP_NET_RAW, /dev/net/tun, a libvirt daemon in the same
network namespace, and the program podnic-libvirt beside this one. Without the
capabilities it uses an existing wiring (the CNI plugin's, with --socket udp),
and leaves it in place.

Exit status: that of the command. Of a domain: 0 it shut down, 5 it crashed, 6
somebody else destroyed it, 7 it was destroyed after --grace; and 1, 2 and 3 as
'podnic --help' says.`,
		Example: `  podnic run --domain vm.xml --tap-owner 107
  podnic run -- qemu-system-x86_64 … \
    -netdev 'tap,id=n0,ifname=$(PODNIC_TAP),script=no,downscript=no' \
    -device 'virtio-net-pci,netdev=n0,mac=$(PODNIC_MAC),host_mtu=$(PODNIC_MTU)'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() == 0 || len(args) == 0 {
				return nil
			}
			return commandBeforeDashes(args)
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); len(args) > 0 { // the flag is the command's, most likely
			return commandBeforeDashes(args)
		}
		return flagError(cmd, err)
	})
	flags.add(cmd.Flags())
	socket := socketFlag(cmd, asWired)
	tapFD := cmd.Flags().Bool("tap-fd", false, "open the tap for the command, which then needs neither the device nor a privilege")
	qmp := cmd.Flags().String("qmp", "", "ask the command's guest to shut down, and set its link, at QEMU's monitor, the unix socket at this `path`")
	file := cmd.Flags().String("domain", "", "the `file` with the domain's XML, - for standard input")
	uri := cmd.Flags().String("connect", "", "libvirt's `URI` (default: libvirt's own default, such as qemu:///system for root)")
	connectTimeout := cmd.Flags().Duration("connect-timeout", 30*time.Second, "how long to wait for libvirt")
	grace := cmd.Flags().Duration("grace", 30*time.Second, "the guest's time to shut down when podnic is asked to end")
	killOrphan := cmd.Flags().Bool("kill-orphan", false, "when libvirt is away, end the process that still holds the tap after --grace")
	followCarrier := cmd.Flags().Bool("follow-carrier", true, "take the guest's link down while the pod's interface has no carrier, and up again with it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if os.Getpid() == 1 {
			return a.beInit()
		}
		switch {
		case *file == "" && len(args) == 0:
			return usageError{errors.New("neither --domain nor a command: name the file with the domain's XML (- for standard input), or give the command after --")}
		case *file != "" && len(args) > 0:
			return usageError{errors.New("--domain and a command: give one of them")}
		case len(args) == 0 && (*tapFD || *qmp != ""):
			return usageError{errors.New("--tap-fd and --qmp are for a command: libvirt opens the tap and QEMU's monitor itself")}
		}
		service, err := a.reloadable(cmd, &flags)
		if err != nil {
			return err
		}
		req, err := a.common.request(socket())
		if err != nil {
			return err
		}
		stop := make(chan os.Signal, 2)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		if len(args) > 0 {
			ending, err := run.Command(run.CommandTask{
				Request: req, Service: service, Command: args, TapFD: *tapFD, QMP: *qmp, Grace: *grace,
				FollowCarrier: *followCarrier, Started: a.started,
			}, stop, hangups(), a.log)
			if err != nil {
				return err
			}
			return statusError{ending.ExitStatus(), nil}
		}
		xml, err := readDomain(*file, cmd.InOrStdin())
		if err != nil {
			return err
		}
		ending, err := run.Run(run.Task{
			Request: req, Service: service, XML: xml, URI: *uri, ConnectTimeout: *connectTimeout, Grace: *grace, KillOrphan: *killOrphan,
			FollowCarrier: *followCarrier, Started: a.started,
		}, stop, hangups(), a.log)
		if err != nil {
			return err
		}
		return endingError(ending)
	}
	return cmd
}

// commandBeforeDashes refuses a command that does not stand after --.
func commandBeforeDashes(args []string) error {
	return usageError{fmt.Errorf("%q stands before --: put the command after it, as in 'podnic run -- %s'", args[0], args[0])}
}

func readDomain(file string, stdin io.Reader) ([]byte, error) {
	var b []byte
	var err error
	if file == "-" {
		b, err = io.ReadAll(stdin)
	} else {
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, plan.Refuse("the domain's XML cannot be read: %w", err)
	}
	return b, nil
}

// endingError maps how the guest ended to the exit status.
func endingError(e domain.Ending) error {
	status := map[domain.How]int{
		domain.Shutdown:            0,
		domain.Crashed:             exitCrashed,
		domain.DestroyedByOther:    exitDestroyedByOther,
		domain.DestroyedAfterGrace: exitDestroyedAfterWait,
		domain.Unknown:             exitFailed,
	}[e.How]
	if status == 0 {
		return nil
	}
	return statusError{status, fmt.Errorf("the guest %s (%s)", e.How, e.Reason)}
}
