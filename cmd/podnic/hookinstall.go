package main

import (
	"fmt"

	"github.com/podnic/podnic/cmd/agent/hookdir"
	"github.com/spf13/cobra"
)

// hookPlace adds the flags that say where libvirt looks for hooks.
func hookPlace(cmd *cobra.Command) (place *hookdir.Place) {
	place = new(hookdir.Place)
	cmd.Flags().StringVar(&place.Root, "root", "/", "the `directory` that is the root of libvirt's file system")
	cmd.Flags().StringVar(&place.SysConfDir, "sysconfdir", "/etc", "libvirt's `directory` of configuration, below the root")
	return place
}

func (a *app) hookInstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Make podnic libvirt's qemu hook",
		Long: `Put a link to this program into libvirt's hooks/qemu.d, which libvirt 6.5 and
newer run after the script hooks/qemu, if there is one, and without it as well.
Nothing that is there is changed. It says whether libvirt's daemon must be
started again, or sent SIGHUP: one that found no qemu hook when it started calls
none.

Exit status: 0 it is there; 1 failed; 2 wrong usage, or a refusal.`,
		Example: `  podnic hook install
  podnic hook install --root /mnt/container --program /usr/local/bin/podnic`,
		Args: noArgs,
	}
	place := hookPlace(cmd)
	program := cmd.Flags().String("program", "", "the `path` of podnic, below the root (default: this program's)")
	cmd.RunE = func(*cobra.Command, []string) error {
		r, err := hookdir.Install(*place, *program)
		if err != nil {
			return err
		}
		if r.Changed {
			fmt.Fprintf(a.out, "%s is one of libvirt's qemu hooks now\n", r.Path)
		} else {
			fmt.Fprintf(a.out, "%s is there already\n", r.Path)
		}
		if r.Other != "" {
			fmt.Fprintf(a.out, "no restart is needed if libvirt's daemon was started after %s was there\n", r.Other)
		} else {
			fmt.Fprintln(a.out, "restart libvirt's daemon (virtqemud or libvirtd) if it runs, or send it SIGHUP: it found no hook when it started; guests live on")
		}
		return nil
	}
	return cmd
}

func (a *app) hookUninstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Undo 'podnic hook install'",
		Long: `Remove the link that 'podnic hook install' made, and the directories
hooks/qemu.d and hooks if nothing else is in them. Guests that run keep their
network, and the pod does not get its interface back when they end: stop them
first, or run 'podnic restore' afterwards. libvirt's daemon need not be started
again.

Exit status: 0 it is not there; 1 failed; 2 wrong usage, or a refusal.`,
		Example: `  podnic hook uninstall`,
		Args:    noArgs,
	}
	place := hookPlace(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		r, err := hookdir.Uninstall(*place)
		if err != nil {
			return err
		}
		if r.Changed {
			fmt.Fprintf(a.out, "%s is removed\n", r.Path)
		} else {
			fmt.Fprintf(a.out, "%s is not there\n", r.Path)
		}
		return nil
	}
	return cmd
}
