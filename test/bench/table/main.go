// Command table makes of raw results of benchmarks the tables of docs/benchmarks.md: each figure of podnic beside that of
// a peer that was measured in the same run, the ratio of the two, and the goal.
//
// Usage: table RAW [DOCUMENT]
//
// RAW is what the benchmarks printed, as benchstat reads it. The table is printed, and written into DOCUMENT if that is
// given. A figure is the median of those that RAW has of it. A goal that is missed is marked; it is no failure, since a
// busy machine may be the reason.
package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("usage: table RAW [DOCUMENT]")
	}
	r, err := read(args[0])
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprint(&b, header)
	machine(&b)
	for _, area := range areas {
		area.write(&b, r)
	}
	fmt.Print(b.String())
	if len(args) == 1 {
		return nil
	}
	return os.WriteFile(args[1], []byte(b.String()), 0o644)
}

// results holds the figures of a raw file.
type results map[figure][]float64

// figure names what was measured: a benchmark without the prefix "Benchmark" and without the number of processors, and a
// unit as the benchmark printed it.
type figure struct{ name, unit string }

// read reads the lines of results (https://go.dev/design/14313-benchmark-format).
func read(path string) (results, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := results{}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := processors.ReplaceAllString(strings.TrimPrefix(words[0], "Benchmark"), "")
		for pair := range slices.Chunk(words[2:], 2) {
			if len(pair) < 2 {
				return nil, fmt.Errorf("%s: a value without a unit: %q", path, line)
			}
			value, err := strconv.ParseFloat(pair[0], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w in %q", path, err, line)
			}
			key := figure{name, pair[1]}
			r[key] = append(r[key], value)
		}
	}
	if len(r) == 0 {
		return nil, fmt.Errorf("%s has no results of benchmarks", path)
	}
	return r, nil
}

var processors = regexp.MustCompile(`-[0-9]+$`)

// median is that of a figure; false if it was not measured.
func (r results) median(f figure) (float64, bool) {
	values := slices.Sorted(slices.Values(r[f]))
	if len(values) == 0 {
		return 0, false
	}
	return values[len(values)/2], true
}
