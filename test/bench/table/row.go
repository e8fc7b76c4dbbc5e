package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// area is a table of the page.
type area struct {
	title string
	// says what was measured, and how it can be compared.
	says string
	rows []row
}

// row is a figure of podnic.
type row struct {
	what string
	of   figure
	// peer is what it is measured beside, called by its words; none where there is nothing like it.
	peer  figure
	words string
	// ratio is the goal for the figure in units of the peer's, limit the goal for the figure itself; 0 is none.
	ratio, limit float64
	// never is the goal that there is none of it.
	never bool
	// pair leaves the row out where the peer was not measured.
	pair bool
}

// took is how long an operation of a benchmark took.
func took(name string) figure { return figure{name, "ns/op"} }

// cells are the columns of a row; nil when the figure was not measured in this run.
func (r row) cells(from results) []string {
	value, ok := from.median(r.of)
	if _, both := from.median(r.peer); !ok || r.pair && !both {
		return nil
	}
	cells := []string{r.what, r.of.text(value) + from.spread(r.of), "", "", ""}
	missed := r.limit > 0 && value > r.limit || r.never && value > 0
	switch {
	case r.limit > 0:
		cells[4] = "at most " + r.of.text(r.limit)
	case r.never:
		cells[4] = "none"
	}
	if r.peer.name != "" {
		if peer, ok := from.median(r.peer); ok {
			cells[2] = r.words + " " + r.peer.text(peer) + from.spread(r.peer)
			if peer > 0 {
				cells[3] = fmt.Sprintf("%.2f", value/peer)
				missed = missed || r.ratio > 0 && value/peer > r.ratio
			}
		} else {
			cells[2] = "no " + r.words + " here"
		}
	}
	if r.ratio > 0 {
		cells[4] = strings.TrimPrefix(cells[4]+fmt.Sprintf(", at most %.2f ×", r.ratio), ", ")
	}
	if missed {
		cells[4] += " ✗"
	}
	return cells
}

// text is a value of the figure in the unit that fits: of nanoseconds and bytes, those of time and memory.
func (f figure) text(v float64) string {
	switch {
	case strings.HasSuffix(f.unit, "ns/op"):
		for _, unit := range []struct {
			name string
			ns   float64
		}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
			if v >= unit.ns {
				return fmt.Sprintf("%.2f %s", v/unit.ns, unit.name)
			}
		}
		return fmt.Sprintf("%.0f ns", v)
	case strings.HasSuffix(f.unit, "-B"):
		return fmt.Sprintf("%.2f MiB", v/(1<<20))
	}
	return fmt.Sprintf("%.4g", v)
}

// write prints the table, in columns that can be read as they are, and with charts that of the table.
func (a area) write(w io.Writer, from results, charts bool) {
	table := [][]string{{"", "podnic", "beside", "ratio", "goal"}}
	for _, r := range a.rows {
		if cells := r.cells(from); cells != nil {
			table = append(table, cells)
		}
	}
	if len(table) == 1 {
		return
	}
	width := make([]int, len(table[0]))
	for _, cells := range table {
		for i, c := range cells {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	fmt.Fprintf(w, "## %s\n\n%s\n\n", a.title, a.says)
	for n, cells := range table {
		for i, c := range cells {
			fmt.Fprintf(w, "| %s%s ", c, strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)))
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for _, n := range width {
				fmt.Fprintf(w, "|%s", strings.Repeat("-", n+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
	fmt.Fprintln(w)
	if charts && len(a.bars(from)) > 0 {
		fmt.Fprintf(w, "![%s: podnic beside its peers](%s/%s)\n\n", a.title, dataDirectory, a.chartName())
	}
}
