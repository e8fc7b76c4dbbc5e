package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/podnic/podnic/cmd/agent/sidecar"
	"github.com/podnic/podnic/domain/kubevirt"
	"github.com/podnic/podnic/network/plan"
	"github.com/spf13/cobra"
)

func (a *app) sidecarCommand() *cobra.Command {
	var flags serviceFlags
	cmd := &cobra.Command{
		Use:   "sidecar",
		Short: "Serve a KubeVirt virtual machine, as the sidecar of a network binding plugin",
		Long: `Be the sidecar of KubeVirt's network binding plugin: put the pod's interface
into the domain when KubeVirt's launcher asks for it, and answer the guest's
DHCP requests with what the pod had. It serves the interfaces that the virtual
machine gives the binding of --plugin-name, until the launcher says that the
guest has ended, or SIGTERM. SIGHUP reads resolver and hostname anew.

It needs no capability, but what the binding's CNI plugin has set up in the
pod's namespace, and the program podnic-sidecar beside this one.

What is served is kept in --state-dir, which is what podnic status wants:
podnic status --state-dir DIRECTORY --interface eth0

Exit status: 0 the guest has ended; 1 failed; 2 wrong usage, or a refusal.`,
		Example: `  podnic sidecar --plugin-name podnic`,
		Args:    noArgs,
	}
	flags.add(cmd.Flags())
	hooks := cmd.Flags().String("hook-dir", "/var/run/kubevirt-hooks", "the `directory` that the launcher looks for sidecars in")
	plugin := cmd.Flags().String("plugin-name", "", "the `name` that the binding is registered with (default: $NETWORK_BINDING_PLUGIN_NAME, which KubeVirt sets from 1.9 on, or the only binding plugin of the machine)")
	container := cmd.Flags().String("container-name", "", "this container's `name`, which makes its socket's unique (default: $CONTAINER_NAME, which KubeVirt sets from 1.6 on, or the plugin's name)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		service, err := flags.service(&a.common)
		if err != nil {
			return err
		}
		req, err := a.common.request(plan.SocketUDP)
		if err != nil {
			return err
		}
		*plugin = cmp.Or(*plugin, os.Getenv("NETWORK_BINDING_PLUGIN_NAME"))
		// Before KubeVirt 1.6 the launcher looks for sockets in the directory itself, and waits three seconds for whatever
		// else is there to become one.
		shared := *container == "" && os.Getenv("CONTAINER_NAME") == ""
		*container = cmp.Or(*container, os.Getenv("CONTAINER_NAME"), *plugin, kubevirt.DefaultPlugin)
		if filepath.Base(*container) != *container {
			return usageError{fmt.Errorf("--container-name takes a name without a slash, not %q", *container)}
		}
		if !cmd.Flags().Changed("state-dir") {
			// It outlives the container, and the launcher passes over directories there.
			req.StateDir = filepath.Join(*hooks, "podnic")
			if shared {
				// So does this, which all containers of a pod have.
				req.StateDir = filepath.Join("/dev/shm", "podnic-"+*container)
			}
		}
		return sidecar.Start(sidecar.Request{
			Version: version, Request: req, Service: service, Plugin: *plugin,
			Socket:   kubevirt.Socket{Dir: *hooks, Name: "podnic-" + *container + ".sock"},
			LogLevel: a.common.logLevel, LogFormat: a.common.logFormat, Started: a.started,
		})
	}
	return cmd
}
