package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const committed = "../../docs/demo.cast"

// TestPictureIsThatOfTheRecording holds the committed picture to the committed recording.
func TestPictureIsThatOfTheRecording(t *testing.T) {
	t.Parallel()
	recording, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	want, err := draw(recording)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(strings.TrimSuffix(committed, ".cast") + ".svg")
	if err != nil || !bytes.Equal(want, got) {
		t.Errorf("docs/demo.svg is not what docs/demo.cast says (run: go run ./test/recording -redraw docs/demo.cast): %v", err)
	}
}

// TestREADMEQuotesTheRecording: each line that README.md shows of the demo is one of the recording.
func TestREADMEQuotesTheRecording(t *testing.T) {
	t.Parallel()
	recording, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	c, err := decode(recording)
	if err != nil {
		t.Fatal(err)
	}
	said := words(t, c)
	_, shown, _ := strings.Cut(string(readme), "Shortened:\n\n")
	shown, _, _ = strings.Cut(shown, "\n\n")
	lines := strings.Split(strings.TrimSpace(shown), "\n")
	if len(lines) < 5 {
		t.Fatalf("README.md shows %d lines of the demo", len(lines))
	}
	for _, line := range lines {
		if !strings.Contains(said, "\n"+strings.Join(strings.Fields(line), " ")+"\n") {
			t.Errorf("README.md quotes what docs/demo.cast does not have: %s", line)
		}
	}
}

// words are the lines of a recording, with single blanks.
func words(t *testing.T, c *cast) string {
	t.Helper()
	lines, _, err := c.lines()
	if err != nil {
		t.Fatal(err)
	}
	said := "\n"
	for _, l := range lines {
		var text string
		for _, s := range l.spans {
			text += s.text
		}
		said += strings.Join(strings.Fields(text), " ") + "\n"
	}
	return said
}

// TestProgramIsRecordedAndDrawn runs a program at a terminal, to a picture that is XML, has each line at its time, and shows the
// end to whoever shows no animation.
func TestProgramIsRecordedAndDrawn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.cast")
	script := `test -t 1 && printf '\033[1m1  A <pod>\033[0m\n' && printf '   eth0 → \033[2mfaint\033[0m\n' && for i in $(seq 40); do echo "line $i"; done`
	if err := run([]string{path, "sh", "-c", script}); err != nil {
		t.Fatal(err)
	}
	recording, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := decode(recording)
	if err != nil {
		t.Fatal(err)
	}
	if said := words(t, c); !strings.HasPrefix(said, "\n1 A <pod>\neth0 → faint\nline 1\n") || !strings.HasSuffix(said, "\nline 40\n") {
		t.Errorf("recorded was %q", said)
	}
	b, err := os.ReadFile(strings.TrimSuffix(path, ".cast") + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		`<tspan x="0.0" class="b">1  A &lt;pod&gt;</tspan>`, `class="f">faint</tspan>`, ">line 40</tspan>",
		`transform="translate(0 -180)"`, // 42 lines, 32 rows
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the picture does not have %s", want)
		}
	}
	if n := len(regexp.MustCompile(`@keyframes l\d+`).FindAll(b, -1)); n != 42 {
		t.Errorf("%d lines appear, not 42", n)
	}
	if err := run([]string{path, "false"}); err == nil {
		t.Error("a program that failed was recorded")
	}
}

// TestPausesAreShortened, and what a picture cannot show is an error, as is a character that came in two parts none.
func TestPausesAreShortened(t *testing.T) {
	t.Parallel()
	c, err := decode([]byte(`{"version":2,"width":80,"height":32}
[1,"o","a\r\n"]
[9,"o","b\r\n\u001b[1m1\u001b[0m\r\nc\r\n\u001b[1m2\u001b[0m\r\nd\r\n"]
`))
	if err != nil {
		t.Fatal(err)
	}
	lines, length, err := c.lines()
	if err != nil {
		t.Fatal(err)
	}
	var at []float64
	for _, l := range lines {
		at = append(at, l.at.Seconds())
	}
	// Each line, and the end: a, b after a pause of two seconds and not of eight, a heading, c, the next heading, d.
	if diff := cmp.Diff([]float64{1, 3, 3, 3, 6, 6, 6}, append(at, length.Seconds())); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{`{"version":1}`, "{\"version\":2,\"width\":80,\"height\":32}\n[1,\"o\",\"\\u001b[2J\"]\n", "{\"version\":2,\"width\":80,\"height\":32}\n[1,\"o\",\"50%\\r60%\"]\n"} {
		if _, err := draw([]byte(bad)); err == nil {
			t.Errorf("%s was drawn", bad)
		}
	}
	whole, partial := cutPartial("a→"[:2])
	if diff := cmp.Diff([]string{"a", "→"[:1]}, []string{whole, partial}); diff != "" {
		t.Error(diff)
	}
}
