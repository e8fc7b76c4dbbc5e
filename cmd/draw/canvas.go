// Package draw shows what inspecting a namespace found: as a drawing for a terminal, and as a graph for Graphviz. It reads
// nothing itself.
package draw

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/podnic/podnic/cmd/printable"
)

// Width is how wide a drawing is at most, in columns.
const Width = 80

// style is how a line is set off on a terminal. Nothing is said by it alone.
type style string

// SGR sequences (ECMA-48, 8.3.117).
const (
	plain  style = ""
	strong style = "\x1b[1m"
	good   style = "\x1b[32m"
	bad    style = "\x1b[1;31m"
	quiet  style = "\x1b[2m"

	endStyle = "\x1b[0m"
)

// canvas collects lines. A line has one style, which is added last, so that it does not count as columns.
type canvas struct {
	color bool
	lines []string
}

func (c *canvas) put(s style, line string) {
	line = strings.TrimRight(clip(printable.Line(line)), " ")
	if c.color && s != plain && line != "" {
		line = string(s) + line + endStyle
	}
	c.lines = append(c.lines, line)
}

func (c *canvas) line(format string, args ...any) { c.put(plain, fmt.Sprintf(format, args...)) }

// wrap writes a text over as many lines as it takes, the later ones indented as far as the first one begins.
func (c *canvas) wrap(s style, begin, text string) {
	for _, line := range Wrap(begin, text) {
		c.put(s, line)
	}
}

// Wrap breaks a text into lines of at most Width columns. The first one begins with begin, the others with as much space.
// A word that fits on no line is broken.
func Wrap(begin, text string) []string {
	room := Width - columns(begin)
	var lines []string
	line, next := "", begin
	flush := func() {
		lines = append(lines, next+line)
		line, next = "", strings.Repeat(" ", columns(begin))
	}
	for _, word := range strings.Fields(text) {
		word = printable.Line(word)
		if line != "" && columns(line)+1+columns(word) > room {
			flush()
		}
		for columns(word) > room {
			head := string([]rune(word)[:room])
			line, word = head, word[len(head):]
			flush()
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" || len(lines) == 0 {
		flush()
	}
	return lines
}

// columns is how wide a text is. What podnic prints takes one column a character.
func columns(text string) int { return utf8.RuneCountInString(text) }

// clip shortens a line that would leave the drawing.
func clip(line string) string {
	if columns(line) <= Width {
		return line
	}
	return string([]rune(line)[:Width-1]) + "…"
}
