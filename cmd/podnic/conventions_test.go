package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/podnic/podnic/cmd/reference"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/reference")

// TestEachCommonFlagIsUsed: one that no command is said to use is hidden from all of them, and environment and file do not set it.
func TestEachCommonFlagIsUsed(t *testing.T) {
	new(app).root().PersistentFlags().VisitAll(func(f *pflag.Flag) {
		for _, used := range usedFlags {
			if slices.Contains(used, f.Name) {
				return
			}
		}
		t.Errorf("--%s is in none of usedFlags (globals.go)", f.Name)
	})
}

// everyCommand calls f for all commands, cobra's own too, but for hidden ones.
func everyCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	if cmd.Hidden {
		return
	}
	f(cmd)
	for _, sub := range cmd.Commands() {
		everyCommand(sub, f)
	}
}

// TestCommandsKeepTheConventions that a reader of one command's help expects of the next: see docs/reference.
func TestCommandsKeepTheConventions(t *testing.T) {
	root := new(app).root()
	flagName := regexp.MustCompile(`^[a-z][a-z0-9]*([-.][a-z0-9]+)*$`)
	given := regexp.MustCompile(`(?:^|\s)--([a-z][a-z0-9.-]*)`)
	seen := make(map[string]bool)
	everyCommand(root, func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		wrong := func(format string, args ...any) {
			t.Helper()
			t.Errorf(path+": "+format, args...)
		}
		seen[path] = true
		if first := []rune(cmd.Short + " ")[0]; !unicode.IsUpper(first) || strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 80 {
			wrong("Short is a line that begins with a capital and ends without a full stop, not %q", cmd.Short)
		}
		for line := range strings.Lines(cmd.Long) {
			if len([]rune(line)) > 81 {
				wrong("a line of Long is longer than 80 columns: %s", line)
			}
		}
		if !strings.Contains(cmd.Long, "Exit status: ") {
			wrong("Long does not say what the exit status means")
		}
		if _, listed := usedFlags[path]; !listed && cmd != root {
			wrong("usedFlags (globals.go) does not say which of the common flags it uses")
		}
		if cmd.Runnable() && cmd.Example == "" && cmd != root {
			wrong("there is no example")
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  ") {
				wrong("an example is set off by two spaces: %s", line)
			}
			own, _, _ := strings.Cut(line, " -- ")
			if !strings.Contains(own, path) {
				continue // a line that goes on
			}
			for _, name := range given.FindAllStringSubmatch(own, -1) {
				if f := cmd.Flags().Lookup(name[1]); f == nil && cmd.InheritedFlags().Lookup(name[1]) == nil {
					wrong("the example has --%s, and the command has not", name[1])
				}
			}
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			placeholder, usage := pflag.UnquoteUsage(f)
			if len(placeholder) != len([]rune(placeholder)) {
				wrong("--%s: %s is not ASCII, and pflag counts bytes where it sets the columns", f.Name, placeholder)
			}
			if !flagName.MatchString(f.Name) || usage == "" || strings.HasSuffix(usage, ".") || f.Hidden && !isUnused(f) && f.Name != "starter-fd" && !strings.HasPrefix(f.Usage, "for podnic's own use") {
				wrong("--%s: its name is of words with hyphens, and its description has no full stop: %q", f.Name, usage)
			}
		})
	})
	for path := range usedFlags {
		if !seen[path] {
			t.Errorf("usedFlags has %s, which is no command", path)
		}
	}
	for name := range strings.SplitSeq("0 done; 1 failed; 2 wrong usage; 3 failed; 4 status --wait; 5 the guest crashed; 6 somebody; 7 it was", "; ") {
		if !strings.Contains(strings.Join(strings.Fields(root.Long), " "), name) {
			t.Errorf("podnic's Long does not list the exit status %q", name)
		}
	}
}

// TestResultsAreTextOrJSON refuses another format wherever there is one to choose, before anything is looked at, and a flag that
// a command ignores is a warning.
func TestResultsAreTextOrJSON(t *testing.T) {
	everyCommand(new(app).root(), func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		if len(path) == 0 {
			return
		}
		var out, stderr bytes.Buffer
		uses := slices.Contains(usedFlags[cmd.CommandPath()], "output")
		if uses {
			status := execute(append(slices.Clone(path), "-o", "xml"), time.Now(), &out, &stderr)
			if line := stderr.String(); status != 2 || !strings.Contains(line, "takes text, json") || !strings.Contains(line, `"xml"`) {
				t.Errorf("%v: status %d, stderr %q", path, status, line)
			}
		}
		if strings.Contains(help(t, path), "--output") != uses {
			t.Errorf("%v: the help is wrong about --output", path)
		}
	})
	var out, stderr bytes.Buffer
	if status := execute([]string{"version", "--netns", "/nowhere"}, time.Now(), &out, &stderr); status != 0 ||
		stderr.String() != "podnic: warning: 'podnic version' ignores --netns\n" {
		t.Errorf("status %d, stderr %q", status, stderr.String())
	}
}

// TestUnusedFlagsSayNothing whatever they say: queues that no tap can have, a format that there is not.
func TestUnusedFlagsSayNothing(t *testing.T) {
	const warning = "podnic: warning: '%s' ignores --%s\n"
	for _, test := range []struct{ command, name, value string }{
		{"podnic status", "queues", "300"}, {"podnic status", "tap-owner", "-7"}, {"podnic doctor", "tap-group", "-7"},
		{"podnic serve", "binding", "nonsense"}, {"podnic serve", "pod-ports", "x"}, {"podnic serve", "output", "xml"}, {"podnic trace", "ipv6", "nonsense"},
		{"podnic doctor bundle -", "spoof-guard", "true"}, {"podnic detach eth0", "interface", "a/b"}, {"podnic attach eth0", "interface", "eth0,queues=x"},
	} {
		args := append(strings.Fields(test.command)[1:], "--netns", "/nowhere", "--"+test.name+"="+test.value)
		path, _, _ := strings.Cut(strings.TrimSuffix(test.command, " -"), " eth0")
		var out, stderr bytes.Buffer
		status := execute(args, time.Now(), &out, &stderr)
		want := fmt.Sprintf(warning, path, test.name) + "podnic: no network namespace at /nowhere: name one that exists with --netns\n"
		if diff := cmp.Diff(want, stderr.String()); status != 2 || diff != "" {
			t.Errorf("%q: status %d\n%s", args, status, diff)
		}
	}
}

func help(t *testing.T, args []string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	if status := execute(append(slices.Clone(args), "--help"), time.Now(), &out, &stderr); status != 0 {
		t.Fatalf("%v: status %d, %s", args, status, stderr.String())
	}
	return out.String()
}

// TestValuesAreCompleted as a shell asks for them.
func TestValuesAreCompleted(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"prepare --binding ", "auto bridge redirect shared"},
		{"serve --socket ", "packet udp"},
		{"prepare --ipv6 ", "auto serve pass off"},
		{"status -o ", "text json dot"},
		{"prepare -o ", "text json"},
		{"status --wait ", "wired ready"},
		{"run --log-level ", "debug info warn error"},
		{"doctor bundle --socket ", "packet udp"},
		{"prepare --interface eth0,", "eth0,binding= eth0,tap= eth0,socket= eth0,queues= eth0,ipv6= eth0,pod-ports= eth0,guest-ports="},
		{"prepare --interface eth0,binding=shared,pod-ports=80,81,", "eth0,binding=shared,pod-ports=80,81,tap= eth0,binding=shared,pod-ports=80,81,socket= " +
			"eth0,binding=shared,pod-ports=80,81,queues= eth0,binding=shared,pod-ports=80,81,ipv6= eth0,binding=shared,pod-ports=80,81,guest-ports="},
		{"prepare --interface eth0,socket=", "eth0,socket=packet eth0,socket=udp"},
		{"attach net1,binding=shared,ipv6=p", "net1,binding=shared,ipv6=auto net1,binding=shared,ipv6=serve net1,binding=shared,ipv6=pass net1,binding=shared,ipv6=off"},
		{"restore --netns /nowhere --interface ", ""},
		{"prepare --netns /nowhere --interface ", "all"},
		{"help hook ", "install uninstall"},
		{"prepare --tap ", ""},
		{"run --domain ", "xml"},
		{"attach --domain ", strings.Join(definedDomains(), " ")},
	} {
		var out, stderr bytes.Buffer
		args := append([]string{cobra.ShellCompNoDescRequestCmd}, strings.Split(test.line, " ")...)
		if status := execute(args, time.Now(), &out, &stderr); status != 0 {
			t.Errorf("%s: status %d, %s", test.line, status, stderr.String())
		}
		got, _, _ := strings.Cut(out.String(), ":") // what shells do with it
		if got = strings.Join(strings.Fields(got), " "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.line, got, test.want)
		}
	}
	// Each flag with a choice of values in its description has them completed.
	a := new(app)
	everyCommand(a.root(), func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if strings.Contains(f.Usage, " or ") && f.Value.Type() == "string" && strings.Contains(f.Usage, ": ") && !f.Hidden &&
				!slices.Contains([]string{"tftp-server", "metrics-listen", "resolv-conf", "lease-time"}, f.Name) &&
				!strings.Contains(f.Usage, "(default: ") && a.values(cmd, f.Name) == nil {
				t.Errorf("%s --%s: %q, and nothing is completed", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
	})
}

// TestReferenceIsCurrent compares docs/reference with what the commands say of themselves now.
func TestReferenceIsCurrent(t *testing.T) {
	const kept = "../../docs/reference"
	made := t.TempDir()
	if *update {
		if err := os.RemoveAll(kept); err != nil {
			t.Fatal(err)
		}
		made = kept
	}
	if err := reference.Directory(made); err != nil {
		t.Fatal(err)
	}
	if err := reference.Markdown(new(app).root(), made); err != nil {
		t.Fatal(err)
	}
	read := func(dir string) map[string]string {
		files, pages := make(map[string]string), filepath.Join(dir, "*.md")
		names, err := filepath.Glob(pages)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pages, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(name)] = string(b)
		}
		return files
	}
	if diff := cmp.Diff(read(kept), read(made)); diff != "" {
		t.Errorf("docs/reference is not what the commands say: run `make reference`\n%s", diff)
	}
	man := t.TempDir()
	if err := reference.Man(new(app).root(), man, "1.0", time.Unix(0, 0).UTC()); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(man, "podnic-hook.1"))
	if err != nil || !strings.Contains(string(page), "<podnic:pod") || !strings.Contains(string(page), "Jan 1970") {
		t.Errorf("%v: %s", err, page)
	}
}
