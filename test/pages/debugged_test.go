package pages

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/internal/cache"
	"github.com/podnic/podnic/test/pod"
	"github.com/podnic/podnic/test/podtest"
)

// parted are a page's blocks up to the first one with some words, and from there on.
func parted(t *testing.T, page Page, words string) (before, after []Block) {
	t.Helper()
	blocks := page.Unmarked()
	at := slices.IndexFunc(blocks, func(b Block) bool { return strings.Contains(b.Text, words) })
	if at < 0 {
		t.Fatalf("%s has no block with %q", page.Name, words)
	}
	return blocks[:at], blocks[at:]
}

// debugged has a podnic that Delve stops while its guest asks, and that serves it afterwards. Delve is that of scripts/debug.mod.
func debugged(t *testing.T, pages ...Page) {
	dir := t.TempDir()
	program, tests, config := filepath.Join(dir, "podnic"), filepath.Join(dir, "network.test"), filepath.Join(dir, "config")
	tools, err := cache.Dir()
	if err != nil {
		t.Fatal(err)
	}
	tools = filepath.Join(tools, "tools")
	// Both would have a child that counts their use, by default.
	mode := filepath.Join(config, "go/telemetry/mode")
	if err := errors.Join(os.MkdirAll(filepath.Dir(mode), 0o755), os.WriteFile(mode, []byte("off"), 0o644)); err != nil {
		t.Fatal(err)
	}
	goenv := strings.TrimSpace(podtest.Must(t, exec.Command("go", "env", "GOENV"))) // it moves with the configuration of others
	p := &place{t: t, command: func(ctx context.Context, script string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "sh", "-ec", script)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "GOBIN="+tools, "PATH="+tools+":"+os.Getenv("PATH"), "TERM=dumb", "TMPDIR="+dir, "XDG_CONFIG_HOME="+config, "GOENV="+goenv)
		return cmd
	}}
	const terminal = "dlv --allow-non-terminal-interactive " // it wants one, to be typed at
	p.open = []string{
		"bin/podnic", program, "network.test", tests,
		"dlv ", terminal,
	}
	blocks, _ := parted(t, pages[0], "tcpdump")
	build, blocks := blocks[:2], blocks[2:]
	p.run(build...)

	s, _ := inPod(t, pod.PTP)
	other, inside := inPod(t, pod.PTP)
	s.Podnic, other.Podnic = program, program
	s.Remember()
	other.Remember()
	s.Must("prepare")
	server := s.Serve()
	guest := s.Guest()
	unplug := s.Plug(guest)
	asks := func() *podtest.Process {
		return podtest.Start(t, "udhcpc", exec.Command("ip", "netns", "exec", guest.Name, "busybox", "udhcpc", "-f", "-q", "-i", "eth0", "-s", "/bin/true"))
	}

	pid := strconv.Itoa(server.PID())
	p.open = append([]string{"POD dlv exec bin/podnic", other.Pod.Name + " " + terminal + "exec " + program, "DIR", other.StateDir, "POD", s.Pod.Name, "PID", pid}, p.open...)
	if _, said := p.output("ip netns pids " + s.Pod.Name); strings.TrimSpace(said) != pid {
		t.Errorf("in the pod are %q, and not %s alone", said, pid)
	}
	var client *podtest.Process
	p.meanwhile = map[string]func(){"dlv attach PID: continue": func() { client = asks() }}
	const headless = "ip netns exec POD dlv attach"
	p.stays = map[string]string{headless: "API server listening"}
	p.after = map[string]func(){
		"dlv attach": func() { client.Exits(0) },
		"ip netns exec POD dlv connect": func() {
			asks().Exits(0)
			p.ends(headless, syscall.SIGINT)
			asks().Exits(0)
			server.End(syscall.SIGTERM)
			unplug()
			s.Must("restore")
			s.AsBefore()
		},
		// It is another process, and another descriptor.
		"dlv exec network.test": func() {
			path := regexp.MustCompile(`/proc/\d+/fd/\d+`)
			p.open = append([]string{path.FindString(block(t, pages[0], "nsenter")), path.FindString(p.talking.dlv.Text())}, p.open...)
		},
		"nsenter": func() { p.talking.turn(turn{says: []string{"quit"}}, nil) },
	}
	talks, says := blocks[:len(blocks)-1], blocks[len(blocks)-1]
	p.run(talks...)

	other.Must("restore")
	other.AsBefore()
	const watch, serve = "podnic status --watch", "podnic serve"
	inside.stays[watch] = "eth0"
	inside.after = map[string]func(){
		"podnic prepare": func() {
			other.AsBefore()
			other.Must("prepare")
		},
		serve: func() {
			leased(other)
			inside.running[serve].Says(`"msg":"discover"`)
			inside.running[watch].Says("lease")
			inside.ends(serve, syscall.SIGTERM)
			inside.ends(watch, syscall.SIGINT)
		},
	}
	inside.run(says)

	// The page's test is built already.
	p.open = []string{"go test ./network -v", "env --chdir network " + tests + " -test.v", "-run", "-test.run"}
	p.run(pages[1].Unmarked()...)
}
