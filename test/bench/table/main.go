// Command table makes of raw results of benchmarks the page docs/benchmarks.md: each figure of podnic beside that of a peer
// that was measured in the same run, the ratio of the two, and the goal; for each table that has a peer, a chart.
//
// Usage:
//
//	table RAW             print the page
//	table RAW PAGE        write it too, and beside it bench/DATE-COMMIT.txt, the figures, and bench/*.svg, the charts
//	table -redraw PAGE    write page and charts anew from the figures that the page names, without a run
//
// README.md in the directory above the page's gets the figures of what it claims, if it is there.
//
// RAW is what the benchmarks printed. The file that is kept says besides on what, in the words of benchstat's format, so that
// `benchstat` compares two of them. A figure is the median of those that it has. A goal that is missed is marked; it is no
// failure, since a busy machine may be the reason.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	switch {
	case len(args) == 2 && args[0] == "-redraw":
		data, err := dataOf(args[1])
		if err != nil {
			return err
		}
		return write(data, args[1])
	case len(args) == 1 || len(args) == 2:
		raw, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		run := here()
		kept := run.config() + figures(string(raw))
		r, err := parse(args[0], kept)
		if err != nil {
			return err
		}
		fmt.Print(page(run, r, ""))
		if len(args) == 1 {
			return nil
		}
		data := filepath.Join(filepath.Dir(args[1]), dataDirectory, run.file())
		if err := os.MkdirAll(filepath.Dir(data), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(data, []byte(kept), 0o644); err != nil {
			return err
		}
		return write(data, args[1])
	}
	return fmt.Errorf("usage: table RAW [PAGE], or table -redraw PAGE")
}

// dataDirectory is beside the page.
const dataDirectory = "bench"

// dataOf is the file that a page's figures are of.
func dataOf(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	named := regexp.MustCompile(`(?m)^- figures: \[[^]]*\]\((` + dataDirectory + `/[^)/]+\.txt)\)$`).FindSubmatch(b)
	if named == nil {
		return "", fmt.Errorf("%s does not name the file of its figures", path)
	}
	return filepath.Join(filepath.Dir(path), string(named[1])), nil
}

// write writes the page of a data file, and the charts of its tables. A chart of a table that is not in it any more is removed.
func write(data, path string) error {
	files, err := render(data, path)
	if err != nil {
		return err
	}
	stale, err := filepath.Glob(filepath.Join(filepath.Dir(path), dataDirectory, "*.svg"))
	if err != nil {
		return err
	}
	for _, name := range stale {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render makes the page of a data file, the charts beside it, and README.md, by their paths.
func render(data, path string) (map[string][]byte, error) {
	b, err := os.ReadFile(data)
	if err != nil {
		return nil, err
	}
	r, err := parse(data, string(b))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{path: []byte(page(configured(string(b)), r, filepath.Base(data)))}
	name := filepath.Join(filepath.Dir(path), "../README.md")
	readme, err := os.ReadFile(name)
	if err == nil {
		files[name], err = inReadme(readme, r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, area := range areas {
		chart, err := area.chart(r)
		if err != nil {
			return nil, fmt.Errorf("chart of %s: %w", area.title, err)
		}
		if chart != nil {
			files[filepath.Join(filepath.Dir(path), dataDirectory, area.chartName())] = chart
		}
	}
	return files, nil
}

// page is the text of the page; one of a file has the charts, and leads to the file.
func page(run machine, r results, file string) string {
	var b strings.Builder
	fmt.Fprint(&b, header)
	run.write(&b)
	if file != "" {
		fmt.Fprintf(&b, "- figures: [%s](%s/%s)\n", file, dataDirectory, file)
	}
	fmt.Fprintln(&b)
	for _, area := range areas {
		area.write(&b, r, file != "")
	}
	return b.String()
}

// figures are the lines that benchstat reads.
func figures(raw string) string {
	var b strings.Builder
	for line := range strings.Lines(raw) {
		if result(line) != nil || testsConfiguration.MatchString(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// testsConfiguration is what go test says of itself, package by package.
var testsConfiguration = regexp.MustCompile(`^(goos|goarch|pkg|cpu): `)

// result is the words of a line with figures.
func result(line string) []string {
	words := strings.Fields(line)
	if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
		return nil
	}
	return words
}

// results holds the figures of a raw file.
type results map[figure][]float64

// figure names what was measured: a benchmark without the prefix "Benchmark" and without the number of processors, and a
// unit as the benchmark printed it.
type figure struct{ name, unit string }

// parse reads the lines of results (https://go.dev/design/14313-benchmark-format); path is what errors name.
func parse(path, text string) (results, error) {
	r := results{}
	for line := range strings.Lines(text) {
		words := result(line)
		if words == nil {
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

// spread marks a figure whose passes differ by more than a factor of two.
const spread = "↕"

// spread is empty, or the mark of a figure.
func (r results) spread(f figure) string {
	values := r[f]
	if len(values) == 0 || slices.Max(values) <= 2*slices.Min(values) {
		return ""
	}
	return " " + spread
}
