package pages

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// groups have pages whose commands run in the same surroundings, one page after the other.
var groups []group

type group struct {
	pages []string
	run   func(t *testing.T, pages ...Page)
}

func init() {
	groups = []group{
		{[]string{"cni.md"}, onANode},
		{[]string{"debugging.md", "CONTRIBUTING.md"}, debugged},
		{[]string{"debugging.md"}, captures},
		{[]string{"interfaces.md"}, severalInterfaces},
		{[]string{"libvirt-hook.md"}, sixCommands},
		{[]string{"metrics.md"}, scraped},
		{[]string{"running.md", "qemu.md"}, byCommand},
		{[]string{"shared.md"}, shared},
		{[]string{"status.md", "doctor.md", "interfaces.md", "running.md"}, inALauncher},
		{[]string{"trace.md"}, traced},
	}
}

// ran has where the commands stand that were run.
var ran sync.Map

// TestCommandsOfThePages runs them in the order of the page, as they stand there, and none is left out.
func TestCommandsOfThePages(t *testing.T) {
	podtest.NeedRoot(t)
	pages := make(map[string]Page)
	for _, page := range all(t) {
		pages[page.Name] = page
	}
	left := make(map[string]int) // groups of a page that -run leaves out
	for _, g := range groups {
		for _, name := range g.pages {
			left[name]++
		}
	}
	var mu sync.Mutex
	t.Run("pages", func(t *testing.T) {
		for _, g := range groups {
			var these []Page
			for _, name := range g.pages {
				these = append(these, pages[name])
			}
			t.Run(strings.Join(g.pages, ","), func(t *testing.T) {
				t.Parallel()
				g.run(t, these...)
				mu.Lock()
				defer mu.Unlock()
				for _, name := range g.pages {
					left[name]--
				}
			})
		}
	})
	for _, page := range pages {
		for _, b := range page.Unmarked() {
			for _, c := range b.Commands {
				if _, run := ran.Load(c.At); !run && left[page.Name] == 0 {
					t.Errorf("%s: nobody runs this: %s", c.At, c.Text)
				}
			}
		}
	}
}

// place is where commands run, and what a test knows that the page leaves open.
type place struct {
	t *testing.T
	// command makes a shell script a process there.
	command func(ctx context.Context, script string) *exec.Cmd
	// open has words of the page that are for a reader to fill in, each followed by what it is here.
	open []string
	// stays has commands that go on, by how they begin, each with what it says when it is so far.
	stays map[string]string
	// status has the exit status of commands that fail, by how they begin.
	status map[string]int
	// after has what happens after a command, by how it begins.
	after map[string]func()
	// signal ends a process that a command has become; nil is a signal to the process itself.
	signal func(signal syscall.Signal)
	// meanwhile has what happens while a debugger is busy with what it was told, by the command and that.
	meanwhile map[string]func()
	// running are the commands that go on, by how they begin.
	running map[string]*podtest.Process
	// talking is the last debugger.
	talking *talk
}

// run runs a page's commands.
func (p *place) run(blocks ...Block) {
	for _, b := range blocks {
		for _, c := range b.Commands {
			p.one(c)
		}
	}
}

// some runs some commands of a page.
func (p *place) some(page Page, which func(Command) bool) {
	for _, b := range page.Unmarked() {
		for _, c := range b.Commands {
			if which(c) {
				p.one(c)
			}
		}
	}
}

// one is no helper: what it notes is told from what it fails with by the line that says so, and both name the page's.
func (p *place) one(c Command) {
	ran.Store(c.At, true)
	script := strings.NewReplacer(p.open...).Replace(c.Text)
	if turns := c.turns(); len(turns) > 0 {
		p.talk(c, script, turns)
	} else if prefix, says, ok := beginning(p.stays, c.Text); ok {
		script, _, _ = strings.Cut(script, " #")
		process := podtest.Start(p.t, c.Text, p.command(context.Background(), "exec "+strings.TrimSuffix(script, " &")))
		if p.running == nil {
			p.running = make(map[string]*podtest.Process)
		}
		p.running[prefix] = process
		process.Says(says)
	} else {
		status, said := p.output(script)
		if _, want, _ := beginning(p.status, c.Text); status != want {
			p.t.Fatalf("%s: %s\nexit status %d, want %d: %s", c.At, script, status, want, said)
		}
		p.t.Logf("%s: %s\n%s", c.At, script, said)
		if missing := Unlike(c.Prints, said); missing != "" {
			p.t.Errorf("%s: %s\nprints nothing like %q, at least not there:\n%s", c.At, c.Text, missing, said)
		}
	}
	if _, then, ok := beginning(p.after, c.Text); ok {
		then()
	}
}

// output is in a file, since what a command leaves running would keep a pipe open.
func (p *place) output(script string) (status int, said string) {
	p.t.Helper()
	file, err := os.Create(filepath.Join(p.t.TempDir(), "output"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer file.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*podtest.Patience)
	defer cancel()
	cmd := p.command(ctx, script)
	cmd.Stdout, cmd.Stderr = file, file
	err = cmd.Run()
	text, _ := os.ReadFile(file.Name())
	if cmd.ProcessState == nil {
		p.t.Fatalf("%s: %v", script, err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// ends ends a command that goes on, which has to be content.
func (p *place) ends(prefix string, signal syscall.Signal) (said string) {
	p.t.Helper()
	process := p.running[prefix]
	if process == nil {
		p.t.Fatalf("%q does not run", prefix)
	}
	if p.signal != nil {
		p.signal(signal)
	} else {
		process.Signal(signal)
	}
	if status := process.Wait(); status != 0 {
		p.t.Errorf("%s: exit status %d", prefix, status)
	}
	return process.Text()
}

// beginning is the entry for a command: the longest that it begins with.
func beginning[V any](by map[string]V, command string) (prefix string, value V, found bool) {
	for p, v := range by {
		if strings.HasPrefix(command, p) && len(p) >= len(prefix) {
			prefix, value, found = p, v, true
		}
	}
	return prefix, value, found
}
