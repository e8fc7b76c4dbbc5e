// Package pages reads the commands of the documents, as they stand there, for tests that run them.
//
// A block of commands is a block of code whose first line begins with a prompt, or with a program's name; what follows a
// command behind a prompt is what it prints, or what is said at the prompt of a debugger, "(dlv) ". A block
// that no test runs has a comment of HTML before it that says why:
//
//	<!-- not run: what it takes -->
//	<!-- run by TestName -->
//	<!-- run by make e2e -->
//	<!-- run by TestName and make containers -->
package pages

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Command is one of a page's, and what the page says that it prints.
type Command struct {
	Text string
	// Prints are the lines below it.
	Prints []string
	// At is the page and the line where it stands.
	At string
}

// Block is a block of code.
type Block struct {
	// Line is where it begins.
	Line int
	// Text is all of it, without the indentation.
	Text string
	// Commands is empty where it is something else, such as a file.
	Commands []Command
	// Elsewhere are those who run it instead, and WhyNot is why nobody does, as the comment before it says.
	Elsewhere []string
	WhyNot    string
}

// Page is a document.
type Page struct {
	Name   string
	Blocks []Block
}

// Unmarked are the blocks of commands that a test in this package has to run.
func (p Page) Unmarked() (blocks []Block) {
	for _, b := range p.Blocks {
		if len(b.Commands) > 0 && len(b.Elsewhere) == 0 && b.WhyNot == "" {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// RunBy are the blocks that the page leaves to somebody else.
func (p Page) RunBy(who string) (blocks []Block) {
	for _, b := range p.Blocks {
		if slices.Contains(b.Elsewhere, who) {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

var (
	item    = regexp.MustCompile(`^( *(?:[-*]|\d+\.) +)\S`)
	comment = regexp.MustCompile(`^ *<!-- (run by|not run:) (.+) -->$`)
	// program begins a command where there is no prompt: one of these, or a variable that is set for it.
	program = regexp.MustCompile(`^([A-Z_]+=\S* |(apt-get|cat|ctr|curl|dlv|docker|export|go|ip|kind|kubectl|libvirtd|make|mmdebstrap|nft|` +
		`nsenter|podman|podnic|qemu-system-x86_64|rm|rmdir|tc|tcpdump|virsh|wget)( |$))`)
)

// Read reads a page.
func Read(path string) (Page, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Page{}, err
	}
	page := Page{Name: filepath.Base(path)}
	var block *Block
	lines := strings.Split(string(text), "\n")
	margin, indent, fence := 0, 0, "" // the list item's, the block's, and what ends it
	begins := true                    // a block can: the line before was empty, or a comment
	mark, marked := []string(nil), 0
	for i, line := range lines {
		blank := strings.TrimSpace(line) == ""
		depth := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case fence != "" && strings.TrimSpace(line) == fence:
			fence, block = "", nil
			continue
		case block != nil && (fence != "" || blank || depth >= indent):
			block.Text += strings.TrimPrefix(line, strings.Repeat(" ", indent)) + "\n"
			continue
		}
		if block = nil; blank {
			begins = true
			continue
		}
		if depth < margin {
			margin = 0
		}
		start := strings.HasPrefix(strings.TrimSpace(line), "```")
		switch m := comment.FindStringSubmatch(line); {
		case m != nil:
			mark, marked = m, i
			continue
		case start || begins && depth >= margin+4:
			page.Blocks = append(page.Blocks, Block{Line: i + 1})
			block = &page.Blocks[len(page.Blocks)-1]
			if indent = margin + 4; start {
				fence, indent = "```", depth
			} else {
				block.Text = line[indent:] + "\n"
			}
			if mark != nil && (marked == i-1 || marked == i-2) {
				if mark[1] == "run by" {
					block.Elsewhere = strings.Split(mark[2], " and ")
				} else {
					block.WhyNot = mark[2]
				}
				mark = nil
			}
		default:
			if m := item.FindStringSubmatch(line); m != nil {
				margin = len(m[1])
			}
		}
		begins = false
		if mark != nil && block == nil {
			return page, fmt.Errorf("%s:%d: a comment of commands that are not there", page.Name, marked+1)
		}
	}
	for i := range page.Blocks {
		b := &page.Blocks[i]
		b.Text = strings.TrimRight(b.Text, "\n") + "\n"
		b.Commands = commands(b.Text, page.Name, b.Line)
		if len(b.Commands) > 0 {
			continue
		}
		if len(b.Elsewhere) > 0 || b.WhyNot != "" {
			return page, fmt.Errorf("%s:%d: no commands, and a comment about them", page.Name, b.Line)
		}
		for part := range strings.SplitSeq(b.Text, "\n\n") {
			if len(commands(part, page.Name, b.Line)) > 0 {
				return page, fmt.Errorf("%s:%d: commands behind something else: a comment would part them: %s", page.Name, b.Line, part)
			}
		}
	}
	return page, nil
}

// commands are those of a block, if it is one of commands.
func commands(text, page string, line int) (all []Command) {
	const prompt = "$ "
	prompts := strings.HasPrefix(text, prompt)
	if !prompts && !program.MatchString(text) {
		return nil
	}
	goesOn, end := false, "" // the line before ends in a backslash; what ends a here-document
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		rest, begins := strings.CutPrefix(l, prompt)
		switch {
		case goesOn || end != "":
			all[len(all)-1].Text += "\n" + l
			if l == end {
				end = ""
			}
		case prompts && begins, !prompts && program.MatchString(l+" "):
			all = append(all, Command{Text: rest, At: fmt.Sprintf("%s:%d", page, line)})
			if _, tag, here := strings.Cut(l, "<<"); here {
				end = strings.Trim(tag, "'\"")
			}
		case l != "":
			all[len(all)-1].Prints = append(all[len(all)-1].Prints, l)
		}
		goesOn = strings.HasSuffix(l, `\`)
		line++
	}
	return all
}
