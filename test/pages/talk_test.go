package pages

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// delve is the prompt of Delve. Behind it stands what a reader types, and below that what Delve answers.
const delve = "(dlv) "

// question is one that Delve asks, and what a reader answers.
var question = regexp.MustCompile(`^(.* \[\w/\w\]) (\w+)$`)

// turn is what is typed, if anything is, and what comes back.
type turn struct{ says, prints []string }

// turns are the lines below a command that starts a debugger. The first is its greeting.
func (c Command) turns() []turn {
	if !slices.ContainsFunc(c.Prints, func(l string) bool { return strings.HasPrefix(l, delve) }) {
		return nil
	}
	turns := []turn{{}}
	for _, line := range c.Prints {
		if says, ok := strings.CutPrefix(line, delve); ok {
			says, _, _ = strings.Cut(says, "  #") // a remark of the page's
			turns = append(turns, turn{says: []string{strings.TrimSpace(says)}})
			continue
		}
		last := &turns[len(turns)-1]
		if m := question.FindStringSubmatch(line); m != nil {
			last.says, line = append(last.says, m[2]), m[1]
		}
		last.prints = append(last.prints, line)
	}
	return turns
}

// leaves tells whether a debugger ends with a turn.
func (u turn) leaves() bool {
	return len(u.says) > 0 && (u.says[0] == "quit" || strings.HasPrefix(u.says[0], "exit"))
}

// talk is a debugger that goes on.
type talk struct {
	t     *testing.T
	dlv   *podtest.Process
	stdin io.WriteCloser
	read  int // lines
	turns int
}

// talk has a page's conversation with a debugger.
func (p *place) talk(c Command, script string, turns []turn) {
	cmd := p.command(context.Background(), "exec "+script)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	k := &talk{t: p.t, stdin: stdin}
	k.dlv = podtest.Start(p.t, c.Text, cmd)
	p.talking = k
	for _, u := range turns {
		said := k.turn(u, p.meanwhile[c.Text+": "+strings.Join(u.says, " ")])
		if strings.Contains(said, "Command failed") {
			p.t.Errorf("%s: %s: %s%s\n%s", c.At, c.Text, delve, strings.Join(u.says, " "), said)
		}
		if missing := Unlike(u.prints, said); missing != "" {
			p.t.Errorf("%s: %s: %s%s\nprints nothing like %q, at least not there:\n%s", c.At, c.Text, delve, strings.Join(u.says, " "), missing, said)
		}
	}
}

// turn types something and returns what comes back.
func (k *talk) turn(u turn, meanwhile func()) (said string) {
	k.t.Helper()
	k.turns++
	k.types(u.says...)
	if meanwhile != nil {
		meanwhile()
	}
	var lines []string
	if u.leaves() {
		if status := k.dlv.Wait(); status != 0 {
			k.t.Errorf("Delve: exit status %d", status)
		}
		_ = k.dlv.Output()
		lines = k.dlv.Lines()[k.read:]
	} else {
		// A command that needs no process fails with its number once the one before it is done.
		number := 1_000_000 + k.turns
		k.types(fmt.Sprintf("display -d %d", number))
		done := fmt.Sprintf("%d is out of range", number)
		k.dlv.Says(done)
		lines = k.dlv.Lines()[k.read:]
		end := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, done) })
		lines = lines[:end]
		k.read += end + 1
	}
	said = strings.ReplaceAll(strings.Join(lines, "\n"), delve, "")
	k.t.Logf("%s%s\n%s", delve, strings.Join(u.says, "\n"), said)
	return said
}

// types types lines.
func (k *talk) types(lines ...string) {
	k.t.Helper()
	for _, line := range lines {
		if _, err := io.WriteString(k.stdin, line+"\n"); err != nil {
			k.t.Fatalf("%s: %v", line, err)
		}
	}
}

// TestTurns reads a conversation.
func TestTurns(t *testing.T) {
	t.Parallel()
	page := "Type 'help'.\n(dlv) print h.client    # a remark\nMAC [10,88]\n(dlv) next\n(dlv) quit\nKill it? [Y/n] n"
	want := []turn{
		{nil, []string{"Type 'help'."}}, {[]string{"print h.client"}, []string{"MAC [10,88]"}},
		{[]string{"next"}, nil}, {[]string{"quit", "n"}, []string{"Kill it? [Y/n]"}},
	}
	if got := (Command{Prints: strings.Split(page, "\n")}).turns(); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (Command{Prints: []string{"a drawing"}}).turns(); got != nil {
		t.Errorf("of a command that is none of a debugger's: %q", got)
	}
}
