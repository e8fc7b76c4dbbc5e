package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTableSaysWhatWasMeasured covers medians of several lines, a goal that is met and one that is missed, a peer that was
// not there, and a figure that was not measured.
func TestTableSaysWhatWasMeasured(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "raw")
	text := `goos: linux
BenchmarkThing/podnic-2   12   3000000 ns/op   2097152 all-B
BenchmarkThing/podnic-2   12   9000000 ns/op   2097152 all-B
BenchmarkThing/podnic-2   12   4000000 ns/op   2097152 all-B
BenchmarkThing/peer-2     12   2000000 ns/op
BenchmarkCount-2          12   800 ns/op   3 wakeups
PASS
`
	if err := os.WriteFile(raw, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := read(raw)
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
	}}.write(&b, r)
	want := `## Things

What they are.

|        | podnic   | beside           | ratio | goal             |
|--------|----------|------------------|-------|------------------|
| thing  | 4.00 ms  | the peer 2.00 ms | 2.00  | at most 1.50 × ✗ |
| memory | 2.00 MiB |                  |       | at most 3.00 MiB |
| alone  | 4.00 ms  | no dnsmasq here  |       |                  |
| count  | 3        |                  |       | at most 2 ✗      |
| never  | 3        |                  |       | none ✗           |

`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestRawResultsThatCannotBeReadAreAnError(t *testing.T) {
	for _, text := range []string{"PASS\n", "BenchmarkX-2 1 many ns/op\n", "BenchmarkX-2 1 2 ns/op 3\n"} {
		raw := filepath.Join(t.TempDir(), "raw")
		if err := os.WriteFile(raw, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := read(raw); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
