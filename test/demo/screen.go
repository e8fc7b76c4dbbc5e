package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// width is how many columns the demo's own text takes at most.
const width = 80

// screen prints the demo: numbered headings, facts indented under them.
type screen struct {
	w     io.Writer
	steps int
	bold  func(string) string
	faint func(string) string
}

func newScreen(file *os.File) *screen {
	s := &screen{w: file, bold: plain, faint: plain}
	if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" {
		s.bold, s.faint = attribute("1"), attribute("2")
	}
	return s
}

func plain(text string) string { return text }

// attribute sets a terminal's text attribute (ECMA-48, SGR) around a text.
func attribute(code string) func(string) string {
	return func(text string) string { return "\x1b[" + code + "m" + text + "\x1b[0m" }
}

// step begins a part of the demo.
func (s *screen) step(heading string) {
	s.steps++
	fmt.Fprintf(s.w, "\n%s\n", s.bold(fmt.Sprintf("%d  %s", s.steps, heading)))
}

// fact is a name and what it is.
func (s *screen) fact(name, format string, args ...any) {
	const column = 12
	text := fmt.Sprintf(format, args...)
	for i, line := range wrap(text, width-3-column) {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(s.w, "   %s%s\n", s.faint(fmt.Sprintf("%-*s", column, name)), line)
	}
}

// event is something that happened, and how long after the beginning of its step.
func (s *screen) event(after time.Duration, what string) {
	fmt.Fprintf(s.w, "   %s  %s\n", s.faint(fmt.Sprintf("%8.1f ms", float64(after)/float64(time.Millisecond))), what)
}

// block prints a text of several lines as it is.
func (s *screen) block(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(s.w, "   %s\n", strings.TrimRight(line, " \n"))
	}
}

// wrap breaks a text at blanks; a word that is too long stays whole.
func wrap(text string, columns int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > columns:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
