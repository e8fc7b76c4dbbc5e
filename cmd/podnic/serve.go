package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/podnic/podnic/cmd/agent/detached"
	"github.com/podnic/podnic/cmd/agent/serving"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/spf13/cobra"
)

func (a *app) serveCommand() *cobra.Command {
	var flags serviceFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve DHCP to the guest of an interface that is wired",
		Long: `Answer the guest's DHCP requests with the pod's address, routes, MTU, resolver
and hostname, until SIGTERM or SIGINT. SIGHUP reads them and the
configuration file anew.

Who the guest is comes from the record, or, where there is none that this
process may read, from what the namespace itself carries. One process serves all
interfaces that are wired, or those that --interface names, and notices which
are wired and restored while it runs.

It needs CAP_NET_RAW if the interface was prepared with --socket packet, and no
capability with --socket udp, or CAP_NET_BIND_SERVICE where port 67 is kept for
those who have it. Once it is set up it drops all others, takes no new
privileges, and, where the kernel has Landlock, opens no files but those of its
state directory and those that SIGHUP reads anew.

Exit status: 0 asked to end; 1 failed; 2 wrong usage, or a refusal.`,
		Example: `  podnic serve
  podnic serve --lease-time 1h --dns 10.96.0.10 --search example.com`,
		Args: noArgs,
	}
	flags.add(cmd.Flags())
	socket := socketFlag(cmd, "that of the wiring")
	starterFD := cmd.Flags().Int(detached.StarterFlag, -1, "for podnic's own use")
	guest := cmd.Flags().String(detached.GuestFlag, "", "for podnic's own use")
	mtus := cmd.Flags().StringToInt(detached.GuestMTUFlag, nil, "for podnic's own use")
	for _, hidden := range []string{detached.StarterFlag, detached.GuestFlag, detached.GuestMTUFlag} {
		_ = cmd.Flags().MarkHidden(hidden)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		starter, err := detached.NewStarter(*starterFD)
		if err != nil {
			return usageError{err}
		}
		service, err := a.reloadable(cmd, &flags)
		if err != nil {
			return err
		}
		service.GuestMTUs = *mtus
		a.common.byRecord = true
		req, err := a.common.request(socket())
		if err != nil {
			return err
		}
		var of *network.DomainRef
		if uuid, name, said := strings.Cut(*guest, "/"); said {
			of = &network.DomainRef{Name: name, UUID: uuid}
		}
		if asked := socket(); asked != "" {
			if err := checkSocket(req, asked); err != nil {
				return err
			}
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		return serving.Serve(ctx, req, service, hangups(), a.started, starter, of, a.log)
	}
	return cmd
}

// checkSocket refuses a socket that an interface was not wired for: the wiring differs.
func checkSocket(req network.Request, socket string) error {
	all, err := network.InspectAll(req)
	if err != nil {
		return err
	}
	for _, seen := range all {
		if seen.Wired && seen.Options.Socket != socket {
			return plan.Refuse("%s was prepared with --socket %s, so --socket %s cannot serve it: pass the same, or leave it out", seen.Names.Interface, seen.Options.Socket, socket)
		}
	}
	return nil
}

func hangups() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}
