package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/podnic/podnic/cmd/agent/hook"
	"github.com/podnic/podnic/domain/domainxml"
	"github.com/podnic/podnic/domain/qemuhook"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// hookConfig is where the hook looks for a configuration file: libvirt gives a hook neither flags nor an environment.
const hookConfig = "/etc/podnic/podnic.yaml"

const defaultHookTimeout = 10 * time.Second

// hookArgs finds out whether libvirt calls: the program is started as one of its hooks, or as `podnic hook` with the four
// arguments of one and nothing else.
func hookArgs(argv []string) ([]string, bool) {
	program, args := argv[0], argv[1:]
	dir := filepath.Dir(program)
	named := filepath.Base(program) == "qemu" || filepath.Base(dir) == "qemu.d" && filepath.Base(filepath.Dir(dir)) == "hooks"
	switch {
	case named && len(args) == 4 && args[0] == "hook" && strings.HasSuffix(args[1], "install"): // or uninstall
	case named && len(args) == 4:
		return args, !strings.HasPrefix(args[1], "-")
	case len(args) == 5 && args[0] == "hook":
		return args[1:], !strings.HasPrefix(args[2], "-")
	}
	return nil, false
}

// callHook does what libvirt calls for. What does not concern podnic ends here, before the program is set up: libvirt
// calls the hook for each guest, several times.
func callHook(args []string, started time.Time, in io.Reader, out, stderr io.Writer) int {
	call, err := qemuhook.NewCall(args)
	if err == nil && !call.Known() {
		return 0
	}
	patterns, timeout, err := hookSettings()
	named, bad := hook.Named(call.Guest, patterns)
	if !named {
		var ours bool
		in, ours = await(in, err == nil && bad == nil, time.Until(started.Add(timeout)))
		switch {
		case in == nil:
			fmt.Fprintf(stderr, "podnic: hook.timeout (%v) has passed, and nothing that was read says that the domain is podnic's\n", timeout)
			return 0
		case !ours:
			return 0
		}
	}
	status := executeFrom(in, append([]string{"hook", "--"}, args...), started, out, stderr)
	if call.Tolerant() {
		return 0
	}
	return status
}

// await reports whether a domain that is not podnic's by its name may be so by its XML, of which it returns a reader that
// begins at the beginning; nil where the time passes before that is known. What it is not podnic's for is never parsed, but
// where podnic's domain names are not known: then it may be podnic's if it has a tap that libvirt is not to make.
func await(in io.Reader, known bool, patience time.Duration) (io.Reader, bool) {
	type answer struct {
		xml  io.Reader
		ours bool
	}
	found := make(chan answer, 1)
	go func() {
		xml, ours := domainxml.Marked(in)
		if !ours && !known {
			text, _ := domainxml.ReadXML(xml) // from memory
			document, err := domainxml.Parse(text)
			xml, ours = bytes.NewReader(text), err == nil && document.MayBePods()
		}
		found <- answer{xml, ours}
	}()
	select {
	case a := <-found:
		return a.xml, a.ours
	case <-time.After(patience):
		return nil, false
	}
}

// hookSettings reads what it takes to tell whose a domain is, as configure would.
func hookSettings() (patterns []string, timeout time.Duration, err error) {
	path, values := os.Getenv("PODNIC_CONFIG"), map[string][]string{}
	if path == "" {
		path = existingHookConfig()
	}
	if path != "" {
		values, err = readConfig(path)
	}
	setting := func(name, variable string) []string {
		if text, ok := os.LookupEnv(variable); ok {
			return []string{text}
		}
		return values[name]
	}
	for _, text := range setting("hook.domains", "PODNIC_HOOK_DOMAINS") {
		patterns = append(patterns, strings.Split(text, ",")...)
	}
	timeout = defaultHookTimeout
	for _, text := range setting("hook.timeout", "PODNIC_HOOK_TIMEOUT") {
		if t, err := time.ParseDuration(text); err == nil {
			timeout = t
		}
	}
	return patterns, timeout, err
}

// existingHookConfig is the hook's configuration file, empty when there is none.
func existingHookConfig() string {
	if _, err := os.Stat(hookConfig); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return hookConfig
}

func (a *app) hookCommand() *cobra.Command {
	var flags serviceFlags
	cmd := &cobra.Command{
		Use:   "hook GUEST OPERATION SUB-OPERATION EXTRA",
		Short: "Be libvirt's qemu hook: the network starts with the guest",
		Long: `Do what libvirt calls its qemu hook for, the domain's XML on standard input:
give the pod's interface to a guest that is about to start and start a server
that outlives the hook, look after both while the guest runs, and take them back
when it has ended. 'podnic hook install' puts it where libvirt looks for it; the
program also takes itself for the hook when it is called qemu, or lies in
libvirt's hooks/qemu.d.

It is for domains that say so in their metadata:

  <podnic:pod xmlns:podnic="urn:podnic:domain:1" interface="eth0"/>

and for those whose names match --hook.domains. Other domains it leaves alone.
Of several, with an element for each:

  <podnic:pod xmlns:podnic="urn:podnic:domain:1">
    <podnic:interface name="eth0"/> <podnic:interface name="net1" tap="tap1"/>
  </podnic:pod>

Tap, MTU and queues are those of the domain's own interface, of type ethernet
with <target dev='tap0' managed='no'/>; its MAC must be the pod's. Which is for
which, the tap says, else <alias name='ua-net1'/>, else the MAC, else the order.

Flags that libvirt cannot give are read from ` + hookConfig + `,
if that is there. Each call is bounded by --hook.timeout, and leaves a line that
'podnic status --log' shows.

Exit status: 0 done, or none of podnic's business; 1 and 3 failed, 2 a refusal,
at which libvirt gives up a start.`,
		Example: `  podnic hook vm prepare begin - <vm.xml`,
		Args:    hookCallArgs,
	}
	flags.add(cmd.Flags())
	socket := socketFlag(cmd, asWired)
	domains := cmd.Flags().StringSlice("hook.domains", nil, "also domains whose names match one of these `patterns`, such as vm-*")
	timeout := cmd.Flags().Duration("hook.timeout", defaultHookTimeout, "how long a call may take")
	cmd.PersistentPreRunE = func(called *cobra.Command, args []string) error {
		if call, err := qemuhook.NewCall(args); called == cmd && err == nil {
			a.common.unchecked = call.Ends()
		}
		if called == cmd && a.common.config == "" {
			a.common.config = existingHookConfig()
		}
		return a.setUp(called)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		call, err := qemuhook.NewCall(args)
		if err != nil {
			return usageError{err}
		}
		if !call.Known() {
			return nil
		}
		if *timeout < minHookTimeout && call.Ends() {
			a.common.warn(errShortTimeout)
			*timeout = defaultHookTimeout
		}
		if *timeout < minHookTimeout {
			return usageError{errShortTimeout}
		}
		req, err := a.common.request(socket())
		if err != nil {
			return err
		}
		if _, err := flags.service(&a.common); err != nil && !call.Ends() {
			return err // of the server, which would not start
		}
		return hook.Run(hook.Task{
			Request: req, Call: call, XML: cmd.InOrStdin(), Domains: *domains, Timeout: *timeout, Started: a.started,
			ServeArgs: serveArgs(cmd.Flags()),
		}, a.log)
	}
	cmd.SetFlagErrorFunc(func(called *cobra.Command, err error) error {
		if called == cmd {
			if misspelt := misspeltCommand(cmd, cmd.Flags().Args()); misspelt != nil {
				return misspelt // the flag is that command's, most likely
			}
		}
		return flagError(called, err)
	})
	cmd.AddCommand(a.hookInstallCommand(), a.hookUninstallCommand())
	return cmd
}

// minHookTimeout is less than a rewire can take.
const minHookTimeout = 100 * time.Millisecond

var errShortTimeout = errors.New("--hook.timeout takes a duration of at least 100ms")

func hookCallArgs(cmd *cobra.Command, args []string) error {
	_, err := qemuhook.NewCall(args)
	if err == nil {
		return nil
	}
	if misspelt := misspeltCommand(cmd, args); misspelt != nil {
		return misspelt
	}
	return usageError{err}
}

// misspeltCommand refuses arguments that begin with what is most like a command below cmd; nil where they do not.
func misspeltCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 || meantCommand(cmd, args[0]) == "" {
		return nil
	}
	return noArgs(cmd, args)
}

// hookAlone reports whether a common flag is the hook's and not the server's: those of the wiring.
func hookAlone(name string) bool {
	return slices.Contains(usedFlags["podnic hook"], name) && !slices.Contains(usedFlags["podnic serve"], name)
}

// serveArgs are the flags that were set, by whatever means, as arguments of `podnic serve`.
func serveArgs(flags *pflag.FlagSet) []string {
	var args []string
	flags.Visit(func(f *pflag.Flag) {
		switch list, isList := f.Value.(pflag.SliceValue); {
		case strings.HasPrefix(f.Name, "hook."), f.Name == "config", isUnused(f):
		case hookAlone(f.Name):
		case isList:
			for _, text := range list.GetSlice() {
				args = append(args, "--"+f.Name+"="+text)
			}
		default:
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	return args
}
