package main

import (
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/podnic/podnic/cmd/agent/status"
	"github.com/podnic/podnic/cmd/doctor"
	"github.com/podnic/podnic/dhcp"
	"github.com/podnic/podnic/network"
	"github.com/podnic/podnic/network/plan"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// values are what a shell completes after a flag, by the flag's name. It asks podnic for them, and no other command makes them.
func (a *app) values(cmd *cobra.Command, flag string) []string {
	switch flag {
	case "binding":
		return plan.BindingNames()
	case "socket":
		return []string{plan.SocketPacket, plan.SocketUDP}
	case "ipv6":
		return []string{plan.IPv6Auto, plan.IPv6Serve, plan.IPv6Pass, plan.IPv6Off}
	case "subnet-mask":
		return []string{dhcp.MaskGuest, dhcp.MaskPod}
	case "output":
		if cmd.Name() == "status" {
			return []string{"text", "json", "dot"}
		}
		return []string{"text", "json"}
	case "log-level":
		return []string{"debug", "info", "warn", "error"}
	case "log-format":
		return []string{"console", "json"}
	case "wait":
		return []string{status.PhaseWired, status.PhaseReady}
	case "only", "ignore":
		return doctor.Names()
	case "lease-time":
		return []string{"infinite", "1h", "24h"}
	case "interface":
		return a.interfaceNames(cmd)
	case "hook.domains", "domain":
		return definedDomains()
	}
	return nil
}

// ofWired are commands that do something with interfaces that are wired, and with no others.
var ofWired = []string{"serve", "restore", "trace"}

// interfaceNames are those of the namespace, and of what is wired, whose links have other names.
func (a *app) interfaceNames(cmd *cobra.Command) []string {
	var names []string
	if req, err := a.common.request(""); err == nil {
		if wired, err := network.Wired(req); err == nil {
			names = append(names, wired...)
		}
	}
	if slices.Contains(ofWired, cmd.Name()) {
		return names
	}
	names = append([]string{allInterfaces}, names...)
	if links, err := net.Interfaces(); err == nil && a.common.netns == "" {
		for _, link := range links {
			if link.Flags&net.FlagLoopback == 0 && !slices.Contains(names, link.Name) {
				names = append(names, link.Name)
			}
		}
	}
	return names
}

// interfaceKey completes what stands behind the last comma of NAME,KEY=VALUE...: a key, or the value of one.
func (a *app) interfaceKey(cmd *cobra.Command, toComplete string) ([]string, cobra.ShellCompDirective) {
	comma := strings.LastIndex(toComplete, ",")
	before, last := toComplete[:comma+1], toComplete[comma+1:]
	var all []string
	if key, _, isPair := strings.Cut(last, "="); isPair {
		for _, value := range a.values(cmd, key) {
			all = append(all, before+key+"="+value)
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
	for key := range strings.SplitSeq(interfaceKeys, ", ") {
		if !strings.Contains(before, ","+key+"=") {
			all = append(all, before+key+"=")
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// definedDomains are those that libvirt keeps in files: completing a word must not wait for a daemon.
func definedDomains() []string {
	files, _ := filepath.Glob("/etc/libvirt/qemu/*.xml")
	for i, file := range files {
		files[i] = strings.TrimSuffix(filepath.Base(file), ".xml")
	}
	return files
}

// completeValues tells cobra what there is to complete.
func (a *app) completeValues(root *cobra.Command) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		add := func(f *pflag.Flag) {
			switch f.Name {
			case "config":
				_ = cmd.MarkFlagFilename(f.Name, "yaml", "yml")
				return
			case "domain":
				if cmd.Name() == "run" { // of attach and detach it is a name
					_ = cmd.MarkFlagFilename(f.Name, "xml")
					return
				}
			case "state-dir", "root", "sysconfdir", "bin-dir", "conf-dir", "hook-dir":
				_ = cmd.MarkFlagDirname(f.Name)
				return
			case "netns", "resolv-conf", "qmp", "write", "program", "network":
				return // any file
			}
			_ = cmd.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
				if f.Name == "interface" && strings.Contains(toComplete, ",") {
					return a.interfaceKey(cmd, toComplete)
				}
				return a.values(cmd, f.Name), cobra.ShellCompDirectiveNoFileComp
			})
		}
		cmd.LocalFlags().VisitAll(add)
		if cmd.Args != nil && cmd.ValidArgsFunction == nil && cmd.Name() != "run" && cmd.Name() != "bundle" {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}
