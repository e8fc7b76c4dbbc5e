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
	"github.com/podnic/podnic/network"
	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	var flags serviceFlags
	cmd := &cobra.Command{
		Use:   "run --domain FILE",
		Short: "Run a libvirt domain that is the pod on the network",
		Long: `Wire the pod's interface, serve DHCP, start the libvirt domain, follow it until
it ends, and give the pod its interface back: a launcher container's main
process.

The domain's interface is filled in (or added, when it has none): the tap, the
pod's MAC and MTU, virtio unless it says otherwise. Nothing else in the document
is changed. A guest of this name that an earlier run started here and that runs
still is taken over.

On SIGTERM or SIGINT the guest is asked to shut down, and destroyed when it has
not done so after --grace; a second signal does not wait. SIGHUP reads resolver,
hostname and the configuration file anew.

Where libvirt ended with the same signal, the guest's end is that nobody holds
the tap any more. If a process holds it still after --grace, it is named in the
log, and ended with --kill-orphan; a second signal ends podnic with status 3,
and leaves the guest its wiring. To see and end another user's process requires
CAP_SYS_PTRACE and CAP_KILL.

It needs CAP_NET_ADMIN, CAP_NET_RAW, /dev/net/tun, a libvirt daemon in the same
network namespace, and the program podnic-libvirt beside this one. Without the
capabilities it uses an existing wiring (the CNI plugin's, with --socket udp),
and leaves it in place.`,
		Args: noArgs,
	}
	flags.add(cmd.Flags())
	socket := socketFlag(cmd)
	file := cmd.Flags().String("domain", "", "the `file` with the domain's XML, - for standard input")
	uri := cmd.Flags().String("connect", "", "libvirt's `URI` (default: libvirt's own default, such as qemu:///system for root)")
	connectTimeout := cmd.Flags().Duration("connect-timeout", 30*time.Second, "how long to wait for libvirt")
	grace := cmd.Flags().Duration("grace", 30*time.Second, "the guest's time to shut down when podnic is asked to end")
	killOrphan := cmd.Flags().Bool("kill-orphan", false, "when libvirt is away, end the process that still holds the tap after --grace")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if os.Getpid() == 1 {
			return a.beInit()
		}
		if *file == "" {
			return usageError{errors.New("--domain is missing: name the file with the domain's XML, or - for standard input")}
		}
		service, err := a.reloadable(cmd, &flags)
		if err != nil {
			return err
		}
		req, err := a.common.request(socket())
		if err != nil {
			return err
		}
		xml, err := readDomain(*file, cmd.InOrStdin())
		if err != nil {
			return err
		}
		stop := make(chan os.Signal, 2)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		ending, err := run.Run(run.Task{
			Request: req, Service: service, XML: xml, URI: *uri, ConnectTimeout: *connectTimeout, Grace: *grace, KillOrphan: *killOrphan,
			Started: a.started,
		}, stop, hangups(), a.log)
		if err != nil {
			return err
		}
		return endingError(ending)
	}
	return cmd
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
		return nil, network.Refuse("the domain's XML cannot be read: %w", err)
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
