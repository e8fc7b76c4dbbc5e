package main

import (
	"github.com/spf13/cobra"
)

const completionStatus = "\n\nExit status: 0; 1 it cannot be written; 2 wrong usage."

// addHelpAndCompletion adds cobra's own commands, with texts and exit statuses like those of the others.
func (a *app) addHelpAndCompletion(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			describeHelp(cmd)
		case "completion":
			describeCompletion(cmd)
		}
	}
}

func describeHelp(cmd *cobra.Command) {
	cmd.Use, cmd.Short = "help [COMMAND]", "Show the help of a command"
	cmd.Long = "Show what 'podnic COMMAND --help' does.\n\nExit status: 0; 2 there is no such command."
	cmd.Example = "  podnic help run\n  podnic help hook install"
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		of, rest, err := cmd.Root().Find(args)
		if err != nil {
			return usageError{err}
		}
		return noArgs(of, rest)
	}
}

func describeCompletion(cmd *cobra.Command) {
	cmd.Short = "Write what a shell needs to complete podnic's commands, flags and values"
	cmd.Long = "Write what a shell needs to complete podnic's commands, flags and values. The\nhelp of each shell's command says how to load it." + completionStatus
	cmd.Example = "  source <(podnic completion bash)"
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	// How each shell loads it: now, and in each that is started later.
	shells := map[string]struct{ now, later, needs string }{
		"bash":       {"source <(podnic completion bash)", "podnic completion bash >/etc/bash_completion.d/podnic", "\n\nIt needs the package bash-completion."},
		"zsh":        {"source <(podnic completion zsh)", `podnic completion zsh >"${fpath[1]}/_podnic"`, "\n\nIt needs zsh's own completion: autoload -U compinit; compinit"},
		"fish":       {"podnic completion fish | source", "podnic completion fish >~/.config/fish/completions/podnic.fish", ""},
		"powershell": {"podnic completion powershell | Out-String | Invoke-Expression", "podnic completion powershell >>$PROFILE", ""},
	}
	for _, of := range cmd.Commands() {
		shell := shells[of.Name()]
		of.Short = "Write completion for " + of.Name()
		of.Long = "Write what " + of.Name() + " needs to complete podnic's commands, flags and values.\nThe first example loads it into this shell, the second into those that are\nstarted later." +
			shell.needs + completionStatus
		of.Example = "  " + shell.now + "\n  " + shell.later
		of.Args = noArgs
	}
}
