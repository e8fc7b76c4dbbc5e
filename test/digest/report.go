package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	// whole bounds what is printed of one test: a dump of all goroutines is longer.
	whole = 1000
	// brief bounds the end of the report, in lines, and width each of them: a page or two.
	brief, most, fewest = 60, 15, 4
	width               = 240
)

// report prints what failed and why, or else what was skipped, and tells whether all is well.
func (l *log) report(w io.Writer, noSkip bool) bool {
	if failed := l.failures(); len(failed) > 0 {
		l.reportFailures(w, failed)
		return false
	}
	if !slices.ContainsFunc(l.units, func(u *unit) bool { return u.result == "pass" }) {
		fmt.Fprintf(w, "test: nothing ran\n%s\n", strings.Join(l.stray, "\n"))
		return false
	}
	var skipped []string
	for _, u := range l.units {
		if u.result == "skip" && u.test != "" {
			skipped = append(skipped, u.name())
		}
	}
	slices.Sort(skipped)
	switch names := strings.Join(skipped, "\n"); {
	case names == "":
		fmt.Fprintln(w, "test: ok, nothing skipped")
	case noSkip:
		fmt.Fprintf(w, "test: these were skipped, and as root nothing may be:\n%s\n", names)
		return false
	default:
		fmt.Fprintf(w, "test: ok, but these were left out (run as root for all):\n%s\n", names)
	}
	return true
}

func (l *log) reportFailures(w io.Writer, failed []*unit) {
	for _, line := range l.stray {
		fmt.Fprintln(w, line)
	}
	for _, u := range failed {
		lines := u.own()
		fmt.Fprintf(w, "\n%s\n", u.title())
		if cut := len(lines) - whole; cut > 0 {
			lines = slices.Concat(lines[:whole/2], []string{fmt.Sprintf("… %d lines …", cut)}, lines[len(lines)-whole/2:])
		}
		for _, line := range lines {
			fmt.Fprintln(w, line)
		}
	}

	fmt.Fprintf(w, "\ntest: failed, %d, with all that they said above:\n", len(failed))
	first := min(most, max(fewest, brief/len(failed)))
	for i, u := range failed {
		fmt.Fprintf(w, "%s\n", u.title())
		lines := l.essence(u)
		if i*fewest >= brief {
			continue // the name alone
		}
		for _, line := range shorten(lines, first) {
			if r := []rune(line); len(r) > width {
				line = string(r[:width]) + "…"
			}
			fmt.Fprintln(w, line)
		}
	}
}

// shorten leaves about so many lines, of each entry the first ones, so that a long one does not hide the next.
func shorten(lines []string, most int) (short []string) {
	var entries [][]string
	for _, line := range lines {
		if len(entries) == 0 || entry.MatchString(line) {
			entries = append(entries, nil)
		}
		last := len(entries) - 1
		entries[last] = append(entries[last], line)
	}
	left := most
	for i, e := range entries {
		n := min(len(e), max(1, left/(len(entries)-i)))
		if left <= 0 {
			return append(short, fmt.Sprintf("    … %d more failures", len(entries)-i))
		}
		short = append(short, e[:n]...)
		if more := len(e) - n; more > 0 {
			short = append(short, fmt.Sprintf("    … %d more lines", more))
		}
		left -= n
	}
	return short
}

func (u *unit) title() string {
	if u.result == "" {
		return fmt.Sprintf("FAIL  %s, which did not end", u.name())
	}
	return u.line()
}
