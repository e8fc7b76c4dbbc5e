package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// event is a line of go test -json (go doc test2json). Those of a build have no package but what is built.
type event struct {
	Action, Package, ImportPath, Test, Output, FailedBuild string
	Elapsed                                                float64
}

// unit is a test, or what belongs to none of a package's tests, or a build.
type unit struct {
	pkg, test string
	result    string // of a test that has not ended, none
	elapsed   float64
	unbuilt   bool // what it failed with is its build's to tell
	said      []string
}

// log is what was read, in the order in which units began.
type log struct {
	root  string            // of the module; empty: the working directory
	tell  func(line string) // nil, or for each result as it comes
	units []*unit
	known map[[2]string]*unit
	stray []string // what go test says outside of its events
}

func (l *log) unit(pkg, test string) *unit {
	if l.known == nil {
		l.known = map[[2]string]*unit{}
	}
	key := [2]string{pkg, test}
	u := l.known[key]
	if u == nil {
		u = &unit{pkg: pkg, test: test}
		l.known[key] = u
		l.units = append(l.units, u)
	}
	return u
}

func (l *log) read(from io.Reader) error {
	in := bufio.NewScanner(from)
	const longest = 64 << 20
	for in.Buffer(nil, longest); in.Scan(); {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil || e.Action == "" {
			l.stray = append(l.stray, in.Text())
			continue
		}
		l.take(e)
	}
	return in.Err()
}

func (l *log) take(e event) {
	name := e.Package
	if name == "" {
		name = e.ImportPath
	}
	u := l.unit(name, e.Test)
	switch e.Action {
	case "output", "build-output":
		u.say(e.Output)
	case "fail", "pass", "skip", "build-fail":
		u.result, u.elapsed, u.unbuilt = strings.TrimPrefix(e.Action, "build-"), e.Elapsed, e.FailedBuild != ""
		if l.tell != nil && (u.failed() && !l.inPart(u) || u.test == "" && l.hasTests(u.pkg)) {
			l.tell(u.line())
		}
	}
}

// say adds output, which comes in lines, or parts of one.
func (u *unit) say(text string) {
	for part := range strings.Lines(text) {
		if n := len(u.said); n > 0 && !strings.HasSuffix(u.said[n-1], "\n") {
			u.said[n-1] += part
		} else {
			u.said = append(u.said, part)
		}
	}
}

func (u *unit) failed() bool { return u.result == "fail" }

func (l *log) hasTests(pkg string) bool {
	for key := range l.known {
		if key[0] == pkg && key[1] != "" {
			return true
		}
	}
	return false
}

// name is that of a test after its package, which is without the module.
func (u *unit) name() string {
	_, pkg, ok := strings.Cut(u.pkg, "/podnic/podnic/")
	if !ok {
		pkg = u.pkg
	}
	return strings.TrimSuffix(pkg+" "+u.test, " ")
}

// line is a result as go test prints it.
func (u *unit) line() string {
	what := map[string]string{"pass": "ok  ", "fail": "FAIL", "skip": "SKIP"}[u.result]
	return fmt.Sprintf("%s  %s  %.1fs", what, u.name(), u.elapsed)
}

// own is what a unit said, without the lines with which go test frames it.
func (u *unit) own() (lines []string) {
	for _, line := range u.said {
		line = strings.TrimRight(line, "\n")
		frame := strings.TrimLeft(line, " ")
		if strings.HasPrefix(frame, "=== ") || strings.HasPrefix(frame, "--- ") {
			continue
		}
		if u.test == "" && (line == "PASS" || line == "FAIL" || strings.HasPrefix(line, "FAIL\t") || strings.HasPrefix(line, "coverage: ")) {
			continue
		}
		lines = append(lines, line)
	}
	return lines
}

// failures are the units that failed and have something to say, or of whose parts none has: a test whose subtest failed, and
// a package one of whose tests did, are not told twice. A test that never ended is the failure of a package that did.
func (l *log) failures() (failed []*unit) {
	told := map[string]bool{} // packages
	for _, u := range l.units {
		unended := u.result == "" && u.test != "" && l.unit(u.pkg, "").failed()
		if u.test == "" || !u.failed() && !unended {
			continue
		}
		if l.inPart(u) {
			continue
		}
		failed, told[u.pkg] = append(failed, u), true
	}
	for _, u := range l.units {
		if u.test == "" && u.failed() && !u.unbuilt && (len(u.own()) > 0 || !told[u.pkg]) {
			failed = append(failed, u)
		}
	}
	return failed
}

// inPart tells whether all that a test failed with is that of a subtest, which failed or did not end.
func (l *log) inPart(u *unit) bool {
	if u.test == "" || len(u.own()) > 0 {
		return false
	}
	for _, part := range l.units {
		if part.pkg == u.pkg && strings.HasPrefix(part.test, u.test+"/") && (part.failed() || part.result == "") {
			return true
		}
	}
	return false
}
