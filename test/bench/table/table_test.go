package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTableSaysWhatWasMeasured covers medians of several lines and passes that differ much, a goal that is met and one that is missed, a peer that was
// not there, and a figure that was not measured.
func TestTableSaysWhatWasMeasured(t *testing.T) {
	text := `goos: linux
BenchmarkThing/podnic-2   12   3000000 ns/op   2097152 all-B
BenchmarkThing/podnic-2   12   9000000 ns/op   2097152 all-B
BenchmarkThing/podnic-2   12   4000000 ns/op   2097152 all-B
BenchmarkThing/peer-2     12   2000000 ns/op
BenchmarkCount-2          12   800 ns/op   3 wakeups
PASS
`
	r, err := parse("raw", text)
	if err != nil {
		t.Fatal(err)
	}
	thing, peer, gone := took("Thing/podnic"), took("Thing/peer"), took("Gone")
	var b strings.Builder
	area{title: "Things", says: "What they are.", rows: []row{
		{what: "thing", of: thing, peer: peer, words: "the peer", ratio: 1.5},
		{what: "memory", of: figure{"Thing/podnic", "all-B"}, limit: 3 << 20},
		{what: "alone", of: thing, peer: gone, words: "dnsmasq"},
		{what: "count", of: figure{"Count", "wakeups"}, limit: 2},
		{what: "never", of: figure{"Count", "wakeups"}, never: true},
		{what: "not measured", of: gone},
	}}.write(&b, r, true)
	want := `## Things

What they are.

|        | podnic    | beside           | ratio | goal             |
|--------|-----------|------------------|-------|------------------|
| thing  | 4.00 ms ↕ | the peer 2.00 ms | 2.00  | at most 1.50 × ✗ |
| memory | 2.00 MiB  |                  |       | at most 3.00 MiB |
| alone  | 4.00 ms ↕ | no dnsmasq here  |       |                  |
| count  | 3         |                  |       | at most 2 ✗      |
| never  | 3         |                  |       | none ✗           |

![Things: podnic beside its peers](bench/things.svg)

`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestRawResultsThatCannotBeReadAreAnError(t *testing.T) {
	for _, text := range []string{"PASS\n", "BenchmarkX-2 1 many ns/op\n", "BenchmarkX-2 1 2 ns/op 3\n"} {
		if _, err := parse("raw", text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// TestPageAndChartsAreThoseOfTheirFigures holds what is committed to the file that the page names: the page, the charts, and the
// figures of README.md.
func TestPageAndChartsAreThoseOfTheirFigures(t *testing.T) {
	const committed = "../../../docs/benchmarks.md"
	data, err := dataOf(committed)
	if err != nil {
		t.Fatal(err)
	}
	files, err := render(data, committed)
	if err != nil {
		t.Fatal(err)
	}
	charts := 0
	for path, want := range files {
		if filepath.Ext(path) == ".svg" {
			charts++
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		} else if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what its figures say (run make charts):\n%.2000s", path, diff)
		}
	}
	kept, err := filepath.Glob(filepath.Join(filepath.Dir(data), "*.svg"))
	if err != nil || len(kept) != charts || len(files) != charts+2 {
		t.Errorf("there are %d charts of %d tables (run make charts): %v", len(kept), charts, err)
	}
}

// TestFiguresOfREADMEAreThePages: README.md has no figure of time or memory that docs/benchmarks.md has not.
func TestFiguresOfREADMEAreThePages(t *testing.T) {
	page, err := os.ReadFile("../../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	figures := regexp.MustCompile(`[0-9]+\.[0-9]+ (ns|µs|ms|s|MiB|GiB)\b`).FindAllString(string(readme), -1)
	if len(figures) < 10 {
		t.Errorf("README.md has the figures %q", figures)
	}
	for _, f := range figures {
		if !strings.Contains(string(page), " "+f+" ") {
			t.Errorf("README.md says %s, and docs/benchmarks.md does not", f)
		}
	}
}

// TestAlternativesAreInTheReadme where they were measured, and those that were not say so, in each column of the table.
func TestAlternativesAreInTheReadme(t *testing.T) {
	readme := []byte("# podnic\n\n" + beginning + end + "\n| | a |\n|---|---|\n| processor time a frame, both ways | 1 |\n| set-up time | 1 |\n| more | 2 |\n")
	for text, want := range map[string][]string{
		"BenchmarkFrame/both 8 4670 redirect-ns/op 6610 bridge-ns/op\n": {
			"|---|---|---|---|\n\n<!--",
			"| processor time a frame, both ways | 6.61 µs | 4.67 µs |" + strings.Repeat(" not measured |", 6) + "\n",
			"\n| set-up time |" + strings.Repeat(" not measured |", 8) + "\n| more | 2 |\n",
		},
		"BenchmarkFrame/both 8 4670 redirect-ns/op 4200 macvtap-ns/op\nBenchmarkSetUp/all 8 7e6 redirect-ns/op 5e7 macvtap-ns/op 5e6 passt-ns/op\n": {
			"| macvtap | processor time for a frame both ways, by `redirect` | 4.67 µs | **4.20 µs** |\n",
			"|  | set-up of `redirect`, its by `ip -batch` | **7.00 ms** | 50.00 ms |\n",
			"\n| set-up time | not measured | 7.00 ms | not measured | not measured | not measured | 5.00 ms | 50.00 ms | not measured |\n",
		},
	} {
		r, err := parse("raw", text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := inReadme(readme, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range want {
			if !strings.Contains(string(got), want) {
				t.Errorf("there is no %q in\n%s", want, got)
			}
		}
	}
}

// TestEarlierProgramIsNamed on the page, and where there was none, nothing is said of it.
func TestEarlierProgramIsNamed(t *testing.T) {
	for earlier, want := range map[string]string{"": "", "/bin/true": "- before: podnic "} {
		t.Setenv("PODNIC_EARLIER", earlier)
		var b strings.Builder
		configured(here().config() + "\nBenchmarkX 1 2 ns/op\n").write(&b)
		if got := strings.Contains(b.String(), "- before: "); got != (want != "") || !strings.Contains(b.String(), want) {
			t.Errorf("with PODNIC_EARLIER=%s the page says\n%s", earlier, b.String())
		}
	}
}

// TestARunIsKeptAndDrawnAnew: what a run writes, a redraw writes again, to the byte.
func TestARunIsKeptAndDrawnAnew(t *testing.T) {
	dir := t.TempDir()
	raw, doc, readme := filepath.Join(dir, "raw"), filepath.Join(dir, "docs", "benchmarks.md"), filepath.Join(dir, "README.md")
	text := "goos: linux\nnoise of a test\nBenchmarkCommand/podnic-2 4 5650000 ns/op\nBenchmarkCommand/script-2 4 20930000 ns/op\n" +
		"BenchmarkCommand/script-and-nft-2 4 23060000 ns/op\nBenchmarkGuest6/podnic-2 1 7e9 ns/op\nBenchmarkGuest6/script-2 1 6e9 ns/op\nBenchmarkSharing/both 1 2.2 shared-out-GiB/s 1.2 passt-out-GiB/s\nPASS\n"
	if err := errors.Join(os.Mkdir(filepath.Dir(doc), 0o755), os.WriteFile(raw, []byte(text), 0o600),
		os.WriteFile(readme, []byte("# podnic\n\n"+beginning+"| old |\n"+end+"\nmore\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{raw, doc}); err != nil {
		t.Fatal(err)
	}
	read := func() (all string) {
		for _, path := range []string{doc, readme, filepath.Join(dir, "docs/bench/rewire.svg")} {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all += string(b)
		}
		return all
	}
	first := read()
	for _, want := range []string{"| 5.65 ms | the script without the filter 20.93 ms | 0.27  |", "(bench/rewire.svg)", "prefers-color-scheme: dark", "podnic prepare: 5.65 ms",
		"# podnic\n\n" + beginning + `| beside | | podnic | it |
|---|---|---|---|
| a script of ` + "`ip` and `nft`" + ` | a pod is wired in | **5.65 ms** | 23.06 ms |
|  | to its lease of IPv6 | 7.00 s | **6.00 s** |
| passt | TCP out, by ` + "`shared`" + `, in GiB a second (more is better) | **2.2** | 1.2 |
` + end + "\nmore\n",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("page and chart do not have %q", want)
		}
	}
	data, err := dataOf(doc)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(data)
	if err != nil || strings.Contains(string(kept), "noise") || !strings.Contains(string(kept), "goos: linux\nBenchmarkCommand/podnic-2") {
		t.Errorf("kept is %v\n%s", err, kept)
	}
	if err := run([]string{"-redraw", doc}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, read()); diff != "" {
		t.Errorf("drawn anew, it differs:\n%s", diff)
	}
}
