package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// goish is what Go's parsers say, and nobody who has written no Go understands.
var goish = regexp.MustCompile(`strconv|invalid syntax|parse error|invalid argument|[uU]nmarshal|encoding/|json: |JSON|yaml: |Go value|Go struct|interface \{\}|%!`)

// badValues are values that a flag cannot have, by its name, and by its type for all that have it.
var badValues = map[string][]string{
	"int": {"many", "2.5", "1e3", "0x", "", "99999999999999999999"}, "int64": {"root", "2.5", "", "99999999999999999999"}, "bool": {"maybe", "2", ""},
	"duration": {"10", "soon", "-1s", "1.2.3s", "", "9999999999h"}, "stringSlice": {`"`, `"a`, `a"b`, `a,"b"c`},

	"binding": {"nonsense", "managedTap", "Bridge"}, "ipv6": {"nonsense", "on"}, "socket": {"nonsense", "tcp"}, "subnet-mask": {"nonsense", "24", "255.255.255.0"},
	"output": {"nonsense", "xml", ""}, "log-level": {"loud", "fatal"}, "log-format": {"prose"}, "wait": {"nonsense", "bound"},
	"only": {"nonsense", "kmv"}, "ignore": {"nonsense", "kmv"}, "tap": {"a/b", "vnet3", "sixteen-letters-", "a b", "."},
	"tap-owner": {"-7", "4294967295"}, "tap-group": {"-7", "4294967295"}, "queues": {"300", "-1"}, "mtu": {"-3", "20", "70000"}, "count": {"-1"},
	"interface": {"a/b", "", "eth0,tap", "eth0,tap=a/b", "eth0,tap=vnet0", "eth0,queues=x", "eth0,queues=300", "eth0,binding=nonsense", "eth0,socket=nonsense",
		"eth0,ipv6=nonsense", "eth0,pod-ports=x", "eth0,nonsense=1", "eth0,mac=x"},
	"dns": {"ns.example", "10.0.0.0/8", "10.0.0"}, "ntp": {"time.example", "10.0.0"}, "lease-time": {"10", "-1s", "1ms", "soon", "", "1500ms", "1193047h"},
	"option":    {"250", "250=hex:zz", "250=hex:0", "250=uint8:x", "250=uint8:256", "250=ip:x", "250=bool:x", "250=nonsense:x", "x=string:x", "51=uint32:1", "250=domains:a..b"},
	"boot-file": {"tag:efi,a", "arch:x,a", "", strings.Repeat("x", 128)}, "tftp-server": {strings.Repeat("x", 64)},
	"pod-ports": {"80/sctp", "90-80", "x", "0", "70000", "-1"}, "guest-ports": {"80/sctp", "90-80", "x", "0", "70000", "-1"},
	"metrics-listen": {"nowhere", "host:80", "127.0.0.1:x", "127.0.0.1:0", "unix:relative"}, "hook.timeout": {"1ms"}, "container-name": {"a/b"},
	"config": {"/nowhere.yaml"},
}

// anyText are flags that take whatever is given: names, and paths that are looked at when they are needed.
var anyText = []string{
	"netns", "state-dir", "search", "domain-name", "hostname", "resolv-conf", "hook.domains", "domain", "connect", "qmp", "write", "hook-dir", "plugin-name",
	"root", "sysconfdir", "program", "bin-dir", "network", "conf-dir",
}

// needed is what commands need besides the flag that is tried.
func needed(t *testing.T, cmd *cobra.Command) []string {
	return map[string][]string{
		"podnic attach": {"eth0"}, "podnic detach": {"eth0"}, "podnic hook": {"vm", "prepare", "begin", "-"}, "podnic doctor bundle": {"-"},
		"podnic run": {"--domain", "/nowhere.xml"}, "podnic sidecar": {"--hook-dir", t.TempDir()},
	}[cmd.CommandPath()]
}

// nowhere is the namespace at which all stops that goes on.
const nowhere = "/nowhere/at/all"

// TestBadValuesAreRefusedInWords of the flag, for each flag of each command, given on the command line and in the file.
func TestBadValuesAreRefusedInWords(t *testing.T) {
	tried, taken := 0, 0
	// goesOn is where the record says how the interface is wired, and the file is that of another version, or was edited since.
	goesOn := func(args []string) {
		t.Helper()
		taken++
		var out, stderr bytes.Buffer
		status := execute(args, time.Now(), &out, &stderr)
		said := stderr.String()
		if status != exitRefused || !strings.Contains(said, nowhere) || !strings.HasPrefix(said, "podnic: warning: ") {
			t.Errorf("%q: status %d, stderr %q, stdout %q", args, status, said, out.String())
		}
	}
	refused := func(name, value string, args []string) {
		t.Helper()
		tried++
		var out, stderr bytes.Buffer
		status := execute(args, time.Now(), &out, &stderr)
		line := stderr.String()
		if status != exitRefused || strings.Count(line, "\n") != 1 || out.Len() > 0 || !strings.Contains(line, name) || strings.Contains(line, nowhere) {
			t.Errorf("%q: status %d, stderr %q, stdout %q", args, status, line, out.String())
		}
		if word := goish.FindString(strings.ReplaceAll(line, value, "")); word != "" {
			t.Errorf("%q: %q is Go's word: %s", args, word, line)
		}
	}
	file := filepath.Join(t.TempDir(), "settings")
	everyCommand(new(app).root(), func(cmd *cobra.Command) {
		if !cmd.HasParent() {
			return
		}
		used, path, args := usedFlags[cmd.CommandPath()], strings.Fields(cmd.CommandPath())[1:], needed(t, cmd)
		line := func(f *pflag.Flag, more ...string) []string {
			all := slices.Concat(path, args, more)
			if slices.Contains(used, "netns") {
				all = append(all, "--netns", nowhere)
			}
			return all
		}
		cmd.InheritedFlags() // merges them into Flags
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" {
				return
			}
			bad := slices.Concat(badValues[f.Value.Type()], badValues[f.Name])
			if len(bad) == 0 && !slices.Contains(anyText, f.Name) {
				t.Errorf("%s --%s: which values it refuses is not in this test", cmd.CommandPath(), f.Name)
			}
			for _, value := range bad {
				refused(f.Name, value, line(f, "--"+f.Name+"="+value))
				if f.Name == "config" || !slices.Contains(used, "config") {
					continue
				}
				content, err := json.Marshal(map[string]string{settingOf(f): value})
				if err == nil {
					err = os.WriteFile(file, content, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				if slices.Contains(byTheRecord, cmd.CommandPath()) && ofAWiring(f.Name, value) {
					goesOn(line(f, "--config", file))
					continue
				}
				refused(f.Name, value, line(f, "--config", file))
			}
		})
	})
	if tried < 1000 || taken < 80 {
		t.Errorf("only %d values were tried, and %d in files that do not count", tried, taken)
	}
}

// byTheRecord are commands that work with what is wired: what a file says of a wiring does not stop them.
var byTheRecord = []string{"podnic restore", "podnic serve", "podnic status", "podnic trace"}

// ofAWiring reports whether a bad value is one of those that say how an interface is to be wired, or an interface's with such.
func ofAWiring(name, value string) bool {
	if name == "interface" {
		return strings.HasPrefix(value, "eth0,")
	}
	return slices.Contains([]string{"binding", "tap", "ipv6", "pod-ports", "guest-ports", "socket"}, name) && slices.Contains(badValues[name], value)
}

// TestBadFilesAreRefusedInWords of YAML, and each says which file.
func TestBadFilesAreRefusedInWords(t *testing.T) {
	for content, want := range map[string]string{
		"- tap\n":                                " is not a YAML map of settings",
		"just text":                              " is not a YAML map of settings",
		"7":                                      " is not a YAML map of settings",
		"a: [\n":                                 "line 1: did not find expected node content",
		"tap: a\n\tqueues: 2\n":                  "line 2: ",
		"tap: a\ntap: b\n":                       `line 2: key "tap" already set in map`,
		"tap: a\ntap: b\nqueues: 1\nqueues: 1\n": `line 2: key "tap" already set in map; line 4: key "queues"`,
		"tap: *x\n":                              "unknown anchor 'x' referenced",
		"? [a]\n: b\n":                           "a list or a map stands where the name of a setting should",
		"tap: \x00\n":                            "control characters are not allowed",
		"tap: .nan\n":                            "NaN",
		"1: 2\n":                                 `there is no setting "1"`,
		"interfaces: [{name: eth0, queues: x}]\n":      `interface: eth0: queues takes a number, not "x"`,
		"interfaces: [{name: eth0, socket: nonsense}]": `interface: eth0: no socket is called "nonsense"`,
		"interfaces: [{name: eth0, tap: [[a]]}]":       "interfaces: tap takes a text, a number or a list of them",
		"interfaces: 7\n":                              "interfaces takes a list, or all",
		"tap: {x: y}\n":                                `there is no setting "tap.x"`,
		"tap: [[a]]\n":                                 "tap takes a text, a number or a list of them",
		"queues: [1, two]\n":                           `queues: --queues takes a whole number, not "two"`,
		"dns: ['\"']\n":                                `dns: --dns takes values with commas between them, not "\""`,
	} {
		file := filepath.Join(t.TempDir(), "settings")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, stderr bytes.Buffer
		status := execute([]string{"run", "--domain", "/nowhere.xml", "--netns", nowhere, "--config", file}, time.Now(), &out, &stderr)
		line := stderr.String()
		if status != exitRefused || strings.Count(line, "\n") != 1 || !strings.Contains(line, file) || !strings.Contains(line, want) {
			t.Errorf("%q: status %d, %s, want %s", content, status, line, want)
		}
		if word := goish.FindString(line); word != "" {
			t.Errorf("%q: %q is Go's word: %s", content, word, line)
		}
	}
}
