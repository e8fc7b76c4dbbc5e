package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// entry begins what a test has logged or failed with.
var entry = regexp.MustCompile(`^ +([\w.-]+\.go):(\d+): `)

// essence is what a unit said, without what its tests merely noted: go test prints both alike, but the source tells.
func (l *log) essence(u *unit) (lines []string) {
	all := u.own()
	note := false
	for _, line := range all {
		if at := entry.FindStringSubmatch(line); at != nil {
			number, _ := strconv.Atoi(at[2])
			note = l.notes(u, at[1], number)
		}
		if !note {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return all
	}
	return lines
}

// notes tells whether a line of a source file, of the test's package or of its helpers', calls Log.
func (l *log) notes(u *unit, file string, number int) bool {
	pkg, _, _ := strings.Cut(u.name(), " ")
	for _, dir := range []string{pkg, "test/podtest"} {
		text, err := os.ReadFile(filepath.Join(l.root, dir, file))
		if lines := strings.Split(string(text), "\n"); err == nil && 0 < number && number <= len(lines) {
			return strings.Contains(lines[number-1], ".Log(") || strings.Contains(lines[number-1], ".Logf(")
		}
	}
	return false
}
