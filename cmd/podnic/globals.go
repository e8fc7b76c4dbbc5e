package main

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Flags of all commands, by what they are about.
var (
	aboutPlace   = []string{"netns", "interface", "state-dir", "allow-host-namespace", "config"}
	aboutOthers  = slices.DeleteFunc(slices.Clone(aboutPlace), func(name string) bool { return name == "interface" }) // for commands that name the interface in another way
	aboutLooks   = []string{"binding", "tap", "ipv6", "pod-ports", "guest-ports"}                                     // of the wiring's, what is seen of one that could be
	aboutWiring  = []string{"binding", "tap", "tap-owner", "tap-group", "queues", "spoof-guard", "ipv6", "pod-ports", "guest-ports"}
	aboutLock    = []string{"lock-timeout"}
	aboutLogs    = []string{"log-level", "log-format"}
	aboutResults = []string{"output"}
)

// usedFlags are the common flags that each command uses.
var usedFlags = map[string][]string{
	"podnic run":            slices.Concat(aboutPlace, aboutWiring, aboutLock, aboutLogs),
	"podnic prepare":        slices.Concat(aboutPlace, aboutWiring, aboutLock, aboutResults),
	"podnic serve":          slices.Concat(aboutPlace, aboutLogs, []string{"tap"}),
	"podnic restore":        slices.Concat(aboutPlace, aboutLock, aboutResults, []string{"tap"}),
	"podnic status":         slices.Concat(aboutPlace, aboutLooks, aboutResults),
	"podnic doctor":         slices.Concat(aboutPlace, aboutLooks, aboutResults),
	"podnic doctor bundle":  slices.Concat(aboutPlace, aboutLooks),
	"podnic trace":          slices.Concat(aboutPlace, aboutResults, []string{"tap"}),
	"podnic hook":           slices.Concat(aboutPlace, aboutWiring, aboutLock, aboutLogs),
	"podnic hook install":   nil,
	"podnic hook uninstall": nil,
	"podnic attach":         slices.Concat(aboutOthers, aboutWiring, aboutLock, aboutLogs, aboutResults),
	"podnic detach":         slices.Concat(aboutOthers, aboutLock, aboutLogs, aboutResults),
	"podnic sidecar":        slices.Concat(aboutOthers, aboutLogs),
	"podnic cni":            nil,
	"podnic cni install":    nil,
	"podnic version":        aboutResults,
	"podnic help":           nil,
	"podnic completion":     nil, "podnic completion bash": nil, "podnic completion zsh": nil, "podnic completion fish": nil, "podnic completion powershell": nil,
}

// byConfiguration are common flags that a command makes something of where environment or file set them: what they would name on
// its command line, an argument does.
var byConfiguration = map[string]string{"podnic attach": "interface"}

// ownUsage is what a common flag means to one command, and its default there as the help has it, where both are not what they are
// to the others. None of these flags is one that [commonFlags.request] asks whether it was given.
var ownUsage = map[string]struct{ usage, value string }{
	"podnic status --output": {"`format` of the result: text, json or dot", "text"},
	"podnic sidecar --state-dir": {"the `directory` of the server's state (default: podnic in --hook-dir, or /dev/shm/podnic-NAME where neither " +
		"--container-name nor $CONTAINER_NAME is given)", ""},
}

// unused marks a common flag that the command ignores.
const unused = "podnic: unused"

// hideUnused keeps the common flags that a command ignores out of its help, and so of completion and the reference.
// They stay understood, for a script that passes the same to every command: with a warning.
func hideUnused(root *cobra.Command) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		used, listed := usedFlags[cmd.CommandPath()]
		if !listed {
			used = slices.Concat(aboutPlace, aboutWiring, aboutLock, aboutLogs, aboutResults)
		}
		root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
			if cmd.Flags().Lookup(f.Name) != nil {
				return
			}
			if slices.Contains(used, f.Name) {
				if own, there := ownUsage[cmd.CommandPath()+" --"+f.Name]; there {
					said := *f // in the place of the root's, with the same value
					said.Usage, said.DefValue = own.usage, own.value
					cmd.Flags().AddFlag(&said)
				}
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

// unusedGiven are the flags on the command line that the command ignores, whatever their values: they are taken back.
func unusedGiven(cmd *cobra.Command) (names []string, err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if isUnused(f) {
			names = append(names, f.Name)
			err = errors.Join(err, takeBack(f))
		}
	})
	return names, err
}
