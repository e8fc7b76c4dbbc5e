package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/podnic/podnic/cmd/cni"
	"github.com/spf13/cobra"
)

func (a *app) cniInstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install --bin-dir DIR [--network FILE --conf-dir DIR]",
		Short: "Put this program on a node as a CNI plugin",
		Long: `Copy this program into the node's directory of CNI plugins, and a network
configuration into a directory of those. What is there is replaced, also while a
runtime uses it. With --stay it does so and waits for SIGTERM, as the one
container of a DaemonSet does.

Exit status: 0 installed; 1 failed; 2 wrong usage.`,
		Example: `  podnic cni install --bin-dir /opt/cni/bin
  podnic cni install --bin-dir /host/bin --network /etc/podnic/podnic.conflist --conf-dir /host/net.d --stay`,
		Args: noArgs,
	}
	binDir := cmd.Flags().String("bin-dir", "", "the `directory` of the node's plugins, often /opt/cni/bin")
	network := cmd.Flags().String("network", "", "a network configuration `file`, such as podnic.conflist")
	confDir := cmd.Flags().String("conf-dir", "", "the `directory` for the network configuration")
	stay := cmd.Flags().Bool("stay", false, "wait for SIGTERM when done")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *binDir == "" || (*network == "") != (*confDir == "") {
			return usageError{errors.New("name the directory with --bin-dir, and --network and --conf-dir together or not at all")}
		}
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		if err := cni.Install(program, *binDir, *network, *confDir); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "installed in %s\n", *binDir)
		if *stay {
			<-stop
		}
		return nil
	}
	return cmd
}
