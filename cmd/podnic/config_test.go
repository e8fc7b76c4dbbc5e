package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/cmd/agent/offering"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestBootFilesAreAListInTheFile and are checked as those of the command line are.
func TestBootFilesAreAListInTheFile(t *testing.T) {
	for config, want := range map[string]string{
		"boot-file: [\"arch:7,snponly.efi\", \"user-class:iPXE,http://198.51.100.7/a,b.ipxe\", undionly.kpxe]\n": "[arch:7,snponly.efi user-class:iPXE,http://198.51.100.7/a,b.ipxe undionly.kpxe]",
		"boot-file: undionly.kpxe\n":   "[undionly.kpxe]",
		"boot-file: [\"tag:efi,a\"]\n": `--boot-file: boot file "tag:efi,a": unknown condition "tag", want arch:NUMBER or user-class:TEXT (or ./ before a file of that name)`,
	} {
		file := filepath.Join(t.TempDir(), "podnic.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		a := &app{started: time.Now(), out: &bytes.Buffer{}, err: &bytes.Buffer{}}
		root := a.root()
		var flags serviceFlags
		probe := &cobra.Command{Use: "probe", RunE: func(*cobra.Command, []string) error { return nil }}
		flags.add(probe.Flags())
		root.AddCommand(probe)
		root.SetArgs([]string{"probe", "--config", file})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		service, err := flags.service(&a.common)
		got := fmt.Sprint(service.Options.BootFiles)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", config, got, want)
		}
	}
}

// TestCommandLineComesBeforeEnvironmentBeforeFile sets one flag in each way.
func TestCommandLineComesBeforeEnvironmentBeforeFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "podnic.yaml")
	config := "tap: from-file\nqueues: 4\nlock-timeout: 3s\nallow-host-namespace: true\ntap-owner: 107\nsearch: [a.example, b.example]\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PODNIC_TAP", "from-env")
	t.Setenv("PODNIC_QUEUES", "3")
	t.Setenv("PODNIC_TAP_GROUP", "42")
	t.Setenv("PODNIC_CONFIG", file)
	a := &app{started: time.Now(), out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	root := a.root()
	var flags serviceFlags
	probe := &cobra.Command{Use: "probe", RunE: func(*cobra.Command, []string) error { return nil }}
	flags.add(probe.Flags())
	root.AddCommand(probe)
	root.SetArgs([]string{"probe", "--tap", "from-line"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	req, err := a.common.request("packet")
	if err != nil {
		t.Fatal(err)
	}
	o := req.Options
	if o.Tap != "from-line" || o.Queues != 3 || req.LockTimeout != 3*time.Second || !req.AllowHostNamespace ||
		o.TapOwner == nil || *o.TapOwner != 107 || o.TapGroup == nil || *o.TapGroup != 42 {
		t.Errorf("%+v", req)
	}
	if got := strings.Join(flags.search, " "); got != "a.example b.example" {
		t.Errorf("search is %q", got)
	}

	// Again, with a file that says something else, and nothing of some of it.
	for range 2 {
		if err := os.WriteFile(file, []byte("tap: again-from-file\nmtu: 1400\nsearch: [c.example]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.configureAgain(probe); err != nil {
			t.Fatal(err)
		}
		c := a.common
		if c.tap != "from-line" || c.queues != 3 || c.lockTimeout != 10*time.Second || c.allowHost || c.tapOwner != -1 || c.tapGroup != 42 {
			t.Errorf("%+v", c)
		}
		if got := strings.Join(flags.search, " "); got != "c.example" || flags.mtu != 1400 {
			t.Errorf("search is %q, mtu %d", got, flags.mtu)
		}
	}
	if err := os.WriteFile(file, []byte("mtu: many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.configureAgain(probe); err == nil {
		t.Error("no error")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.configureAgain(probe); err != nil || flags.mtu != 0 || len(flags.search) != 0 {
		t.Errorf("%v, mtu %d, search %q", err, flags.mtu, flags.search)
	}
}

// TestFileSaysWhatFlagsSay sets everything that the guest can be told, once by flags and once in the file.
func TestFileSaysWhatFlagsSay(t *testing.T) {
	settings := map[string][]string{
		"lease-time": {"1h"}, "dns": {"10.96.0.10", "10.96.0.11"}, "search": {"a.example", "b.example"}, "domain-name": {"c.example"},
		"ntp": {"10.96.0.12"}, "hostname": {"vm-1"}, "mtu": {"1400"}, "subnet-mask": {"pod"}, "tftp-server": {"10.96.0.69"},
		"boot-file": {"pxe.0"}, "option": {"224=string:hello", "225=ip:10.96.0.13"}, "resolv-conf": {"/etc/resolv.conf.pod"},
		"metrics-listen": {"unix:/run/podnic/metrics.sock"},
	}
	service := func(args ...string) offering.Service {
		t.Helper()
		a := &app{started: time.Now(), out: &bytes.Buffer{}, err: &bytes.Buffer{}}
		root := a.root()
		var flags serviceFlags
		probe := &cobra.Command{Use: "probe", RunE: func(*cobra.Command, []string) error { return nil }}
		flags.add(probe.Flags())
		probe.Flags().VisitAll(func(f *pflag.Flag) {
			if settings[f.Name] == nil {
				t.Errorf("--%s is not in this test", f.Name)
			}
		})
		root.AddCommand(probe)
		root.SetArgs(append([]string{"probe"}, args...))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		s, err := flags.service(&a.common)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var args []string
	var text strings.Builder
	for name, values := range settings {
		for _, value := range values {
			args = append(args, "--"+name, value)
		}
		if len(values) == 1 {
			fmt.Fprintf(&text, "%s: %s\n", name, values[0])
		} else {
			fmt.Fprintf(&text, "%s: ['%s']\n", name, strings.Join(values, "', '"))
		}
	}
	file := filepath.Join(t.TempDir(), "podnic.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	byFlags, byFile := service(args...), service("--config", file)
	if !reflect.DeepEqual(byFlags, byFile) {
		t.Errorf("by flags %+v, by file %+v", byFlags, byFile)
	}
	if reflect.DeepEqual(byFlags, service()) || len(byFlags.Options.Extra) != 2 {
		t.Errorf("the flags say nothing: %+v", byFlags)
	}
}

// TestWrongUsageExitsWithTwoAndOneLine needs no namespace: nothing gets that far.
func TestWrongUsageExitsWithTwoAndOneLine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"nonsense"}, `"nonsense"`},
		{[]string{"prepare", "nonsense"}, `"nonsense"`},
		{[]string{"prepare", "--nonsense"}, "--nonsense"},
		{[]string{"prepare", "-o", "xml"}, `"xml"`},
		{[]string{"serve", "--log-level", "loud"}, `"loud"`},
		{[]string{"serve", "--log-format", "prose"}, `"prose"`},
		{[]string{"prepare", "--tap-owner", "-7"}, "--tap-owner"},
		{[]string{"prepare", "--queues", "many"}, `--queues takes a whole number, not "many"`},
		{[]string{"run", "--grace", "10"}, "write 10s"},
		{[]string{"run", "--grace", "soon"}, "a duration such as"},
		{[]string{"run", "--tap-fd=maybe"}, "true or false"},
		{[]string{"run", "--domain"}, "--domain needs a value"},
		{[]string{"run", "--grace", "-1s"}, "must not be negative"},
		{[]string{"prepare", "--config", write("negative.yaml", "lock-timeout: -1s\n")}, "must not be negative"},
		{[]string{"prepare", "-vx"}, "there is no flag -v; 'podnic prepare --help' lists the flags"},
		{[]string{"stauts"}, "did you mean status?"},
		{[]string{"doctor", "bundel"}, "did you mean bundle?"},
		{[]string{"doctor", "probe-kvm"}, "takes one device"},
		{[]string{"help", "nosuch"}, `"nosuch" is not a command or flag of 'podnic'`},
		{[]string{"help", "stauts"}, "did you mean status?"},
		{[]string{"help", "doctor", "bundel"}, "did you mean bundle?"},
		{[]string{"completion", "foo"}, `"foo" is not a command or flag of 'podnic completion'`},
		{[]string{"completion", "bahs"}, "did you mean bash?"},
		{[]string{"completion", "bash", "x"}, `"x" is not a command or flag of 'podnic completion bash'`},
		{[]string{"hook", "instal"}, "did you mean install?"},
		{[]string{"hook", "instal", "--root", "/mnt"}, "did you mean install?"},
		{[]string{"hook", "vm", "start"}, "four arguments"},
		{[]string{"hook", "vm", "--colour"}, "there is no flag --colour"},
		{[]string{"hook", "install", "--rot", "/"}, "did you mean --root?"},
		{[]string{"run", "qemu-system-x86_64"}, "'podnic run -- qemu-system-x86_64'"},
		{[]string{"run", "qemu-system-x86_64", "-m", "1G"}, "'podnic run -- qemu-system-x86_64'"},
		{[]string{"run", "--grcae", "5s"}, "did you mean --grace?"},
		{[]string{"doctor", "--ignore", "kmv"}, "did you mean kvm?"},
		{[]string{"prepare", "--bindin", "bridge"}, "did you mean --binding?"},
		{[]string{"prepare", "--config", write("alike.yaml", "tap-onwer: 107\n")}, "did you mean tap-owner?"},
		{[]string{"prepare", "--netns", "/nowhere"}, "/nowhere"},
		{[]string{"prepare", "--netns", dir}, "not a network namespace"},
		{[]string{"prepare", "--config", write("unknown.yaml", "tap-colour: red\n")}, "tap-colour"},
		{[]string{"prepare", "--config", write("list.yaml", "- tap\n")}, "YAML map"},
		{[]string{"prepare", "--config", write("value.yaml", "queues: many\n")}, "queues"},
		{[]string{"prepare", "--config", write("fraction.yaml", "queues: 2.5\n")}, "2.5"},
		{[]string{"prepare", "--config", write("null.yaml", "queues: null\n")}, "queues"},
		{[]string{"status", "--wait", "done"}, `"done"`},
		{[]string{"status", "--watch", "--wait", "ready"}, "--watch"},
		{[]string{"prepare", "-o", "dot"}, `"dot"`},
		{[]string{"status", "-o", "xml"}, "text, json, dot"},
		{[]string{"doctor", "--socket", "tcp"}, `"tcp"`},
		{[]string{"doctor", "--only", "nonsense"}, `"nonsense"`},
		{[]string{"doctor", "nonsense"}, `"nonsense"`},
		{[]string{"doctor", "bundle"}, "one file"},
		{[]string{"doctor", "bundle", "/nowhere/file"}, "/nowhere/file"},
		{[]string{"run"}, "--domain"},
		{[]string{"run", "--domain", "/nowhere"}, "/nowhere"},
		{[]string{"serve", "--lease-time", "1ms"}, "--lease-time"},
		{[]string{"serve", "--dns", "ns.example"}, "--dns"},
		{[]string{"serve", "--option", "250"}, "--option"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			var out, stderr bytes.Buffer
			status := execute(test.args, time.Now(), &out, &stderr)
			if line := stderr.String(); status != 2 || strings.Count(line, "\n") != 1 || !strings.Contains(line, test.want) || out.Len() > 0 {
				t.Errorf("status %d, stderr %q, stdout %q", status, line, out.String())
			}
		})
	}
}

func TestVersionAndCompletionNeedNothing(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}, {"version", "-o", "json"}, {"completion", "bash"}, {"--help"}, {"run", "--help"}, {"help"}, {"help", "run"}, {"help", "hook", "install"}, {"completion"}} {
		var out, stderr bytes.Buffer
		if status := execute(args, time.Now(), &out, &stderr); status != 0 || out.Len() == 0 || stderr.Len() > 0 {
			t.Errorf("%v: status %d, stderr %q", args, status, stderr.String())
		}
	}
}

// TestStrangersInTheEnvironmentAreNamed and what Kubernetes and run put there is not.
func TestStrangersInTheEnvironmentAreNamed(t *testing.T) {
	t.Setenv("PODNIC_TAP_OWNR", "107")
	t.Setenv("PODNIC_COLOUR", "red")
	for _, name := range []string{
		"PODNIC_METRICS_SERVICE_HOST", "PODNIC_SERVICE_PORT_HTTP", "PODNIC_PORT", "PODNIC_PORT_67_UDP_ADDR", // of a Service
		"PODNIC_INTERFACES", "PODNIC_MAC", "PODNIC_TAP_FD_1", // of run
		"PODNIC_LEASE_TIME", "PODNIC_HOOK_DOMAINS", // of other commands
	} {
		t.Setenv(name, "1")
	}
	var out, stderr bytes.Buffer
	status := execute([]string{"version"}, time.Now(), &out, &stderr)
	lines := slices.Sorted(strings.Lines(stderr.String()))
	want := []string{
		"podnic: warning: PODNIC_COLOUR in the environment is no setting of podnic's\n",
		"podnic: warning: PODNIC_TAP_OWNR in the environment is no setting of podnic's (did you mean PODNIC_TAP_OWNER?)\n",
	}
	if diff := cmp.Diff(want, lines); status != 0 || diff != "" {
		t.Errorf("status %d: %s", status, diff)
	}
}

// TestCommandAloneIsWhatItIsAmongAll has the help of each command, and of its own, made both ways.
func TestCommandAloneIsWhatItIsAmongAll(t *testing.T) {
	help := func(root *cobra.Command, args ...string) string {
		var out bytes.Buffer
		root.SetArgs(append(args, "--help"))
		root.SetOut(&out)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	for name := range new(app).commands() {
		args := [][]string{{name}}
		for _, sub := range new(app).commands()[name]().Commands() {
			args = append(args, []string{name, sub.Name()})
		}
		for _, line := range args {
			if diff := cmp.Diff(help(new(app).root(), line...), help(new(app).rootFor(line), line...)); diff != "" {
				t.Errorf("%v: %s", line, diff)
			}
		}
	}
	for _, args := range [][]string{nil, {"help", "run"}, {"--tap", "tap0", "run"}, {"none"}} {
		if got := len(new(app).rootFor(args).Commands()); got != len(new(app).commands())+2 { // help and completion
			t.Errorf("%v: %d commands", args, got)
		}
	}
}

// TestSettingsOfOneNameMeanOneThing: the file is for all commands, so flags of one name that mean different things are different
// settings there.
func TestSettingsOfOneNameMeanOneThing(t *testing.T) {
	meanings := make(map[string]string)
	all := new(app).commands()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		all[name]().LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			setting := settingOf(f)
			meaning, _, _ := strings.Cut(f.Usage, " (default")
			if before, there := meanings[setting]; there && before != meaning && !f.Hidden && setting != "socket" { // doctor's is the one that is wanted
				t.Errorf("%s: of %s it is %q, and of another %q", setting, name, meaning, before)
			}
			meanings[setting] = meaning
		})
	}
	for setting, line := range map[string]string{"PODNIC_DOMAIN": "/etc/vm.xml", "PODNIC_TIMEOUT": "1h", "PODNIC_DETACH_TIMEOUT": "7s"} {
		t.Setenv(setting, line)
	}
	file := filepath.Join(t.TempDir(), "podnic.yaml")
	if err := os.WriteFile(file, []byte("domain: vm.xml\ntimeout: 2h\nattach: {domain: vm-0, timeout: 9s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{"attach": "vm-0 9s", "detach": " 7s"} {
		stderr := new(bytes.Buffer)
		a := &app{started: time.Now(), out: new(bytes.Buffer), err: stderr, common: commonFlags{}}
		root := a.root()
		cmd, _, err := root.Find([]string{command})
		if err == nil {
			err = cmd.ParseFlags([]string{"--config", file})
		}
		if err == nil {
			err = a.setUp(cmd)
		}
		if err != nil {
			t.Fatal(err)
		}
		value := func(name string) string { return cmd.Flags().Lookup(name).Value.String() }
		if got := value("domain") + " " + value("timeout"); got != want || stderr.Len() > 0 {
			t.Errorf("%s: %q, want %q; it says %s", command, got, want, stderr)
		}
	}
}
