package main

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Flags of all commands, by what they are about.
var (
	aboutPlace   = []string{"netns", "interface", "state-dir", "allow-host-namespace", "config"}
	aboutOthers  = slices.DeleteFunc(slices.Clone(aboutPlace), func(name string) bool { return name == "interface" }) // who names it otherwise
	aboutWiring  = []string{"binding", "tap", "tap-owner", "tap-group", "queues", "spoof-guard", "ipv6", "pod-ports", "guest-ports"}
	aboutLock    = []string{"lock-timeout"}
	aboutLogs    = []string{"log-level", "log-format"}
	aboutResults = []string{"output"}
)

// usedFlags are the common flags that each command makes something of.
var usedFlags = map[string][]string{
	"podnic run":            slices.Concat(aboutPlace, aboutWiring, aboutLock, aboutLogs),
	"podnic prepare":        slices.Concat(aboutPlace, aboutWiring, aboutLock, aboutResults),
	"podnic serve":          slices.Concat(aboutPlace, aboutWiring, aboutLock, aboutLogs), // with the wiring's flags the hook calls it
	"podnic restore":        slices.Concat(aboutPlace, aboutLock, aboutResults, []string{"tap"}),
	"podnic status":         slices.Concat(aboutPlace, aboutWiring, aboutResults),
	"podnic doctor":         slices.Concat(aboutPlace, aboutWiring, aboutResults),
	"podnic doctor bundle":  slices.Concat(aboutPlace, aboutWiring),
	"podnic trace":          slices.Concat(aboutPlace, aboutResults, []string{"tap"}),
	"podnic hook":           slices.Concat(aboutPlace, aboutWiring, aboutLock, aboutLogs),
	"podnic hook install":   nil,
	"podnic hook uninstall": nil,
	"podnic attach":         slices.Concat(aboutOthers, aboutWiring, aboutLock, aboutLogs, aboutResults),
	"podnic detach":         slices.Concat(aboutOthers, aboutLock, aboutLogs, aboutResults),
	"podnic sidecar":        slices.Concat(aboutOthers, aboutLock, aboutLogs),
	"podnic cni":            nil,
	"podnic cni install":    nil,
	"podnic version":        aboutResults,
}

// byConfiguration are common flags that a command makes something of where environment or file set them: what they would name on
// its command line, an argument does.
var byConfiguration = map[string]string{"podnic attach": "interface"}

// unused marks a common flag that the command makes nothing of.
const unused = "podnic: unused"

// hideUnused keeps the common flags that a command makes nothing of out of its help, and so of completion and the reference.
// They stay understood, for a script that passes the same to every command: with a warning.
func hideUnused(root *cobra.Command) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		used, listed := usedFlags[cmd.CommandPath()]
		if !listed && cmd.Parent().Name() != "completion" && cmd.Name() != "completion" && cmd.Name() != "help" {
			used = slices.Concat(aboutPlace, aboutWiring, aboutLock, aboutLogs, aboutResults)
		}
		root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
			if slices.Contains(used, f.Name) || cmd.Flags().Lookup(f.Name) != nil {
				return
			}
			hidden := *f // in the place of the root's, with the same value
			hidden.Hidden, hidden.Annotations = true, map[string][]string{unused: nil}
			cmd.Flags().AddFlag(&hidden)
		})
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	for _, cmd := range root.Commands() {
		visit(cmd)
	}
}

func isUnused(f *pflag.Flag) bool { _, is := f.Annotations[unused]; return is }

// unusedGiven are the flags on the command line that the command makes nothing of.
func unusedGiven(cmd *cobra.Command) (names []string) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if isUnused(f) {
			names = append(names, f.Name)
		}
	})
	return names
}
