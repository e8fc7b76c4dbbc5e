package printable

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestNothingActsOnATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"eth0: 10.244.1.5/24 ── ✗ naïve ✓ 日本 \\x1b": "eth0: 10.244.1.5/24 ── ✗ naïve ✓ 日本 \\x1b",
		"":                                 "",
		"\x1b]0;title\a":                   `\x1b]0;title\a`,
		"\x1b[2J\x1b[31mred":               `\x1b[2J\x1b[31mred`,
		"over\rwritten\b\x7f":              `over\rwritten\b\x7f`,
		"one\ntwo\tthree\vfour":            `one\ntwo\tthree\vfour`,
		"C1 \u009b31m \u0090q\u009c":       `C1 \u009b31m \u0090q\u009c`,
		"as bytes \x9b31m \xc2":            `as bytes \x9b31m \xc2`,
		"a\u202ecba":                       `a\u202ecba`,
		"\u2066isolated\u2069\u200b\ufeff": `\u2066isolated\u2069\u200b\ufeff`,
		"lines\u2028and\u2029\u0085":       `lines\u2028and\u2029\u0085`,
		"tags \U000e0041":                  `tags \U000e0041`,
		"private \ue000 none \U0010ffff":   `private \ue000 none \U0010ffff`,
		"a real \ufffd":                    "a real \ufffd",
		"nul\x00":                          `nul\x00`,
	} {
		if got := Line(text); got != want {
			t.Errorf("%+q is %s, want %s", text, got, want)
		}
	}
	if got := Text("a\n\tb\x1b\r\n"); got != "a\n\tb\\x1b\\r\n" {
		t.Errorf("%q", got)
	}
	var b bytes.Buffer
	w := Entries(&b)
	for _, entry := range []string{"one\n", "two\nthree\n"} {
		if n, err := w.Write([]byte(entry)); n != len(entry) || err != nil {
			t.Error(n, err)
		}
	}
	if b.String() != "one\ntwo\\nthree\n" {
		t.Errorf("%q", b.String())
	}
}

func FuzzPrintable(f *testing.F) {
	for _, text := range []string{"a", "\x1b[1m", "\u009b\u202e", "\xff\xc2\x9b", "\U000e0041\ufffd", "\n\t"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line := Line(text)
		if !utf8.ValidString(line) {
			t.Errorf("%+q is no UTF-8", line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsGraphic(r) }); i >= 0 {
			t.Errorf("%+q has %+q", line, line[i:])
		}
		if Line(line) != line {
			t.Errorf("%q is not left alone", line)
		}
		// JSON is read back as what it was.
		var b bytes.Buffer
		if err := json.NewEncoder(JSON(&b)).Encode(text); err != nil {
			t.Fatal(err)
		}
		var back, want string
		plain, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(plain, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || back != want {
			t.Errorf("%s is %+q, %v, want %+q", b.Bytes(), back, err, want)
		}
		if strings.IndexFunc(strings.TrimSuffix(b.String(), "\n"), func(r rune) bool { return !unicode.IsGraphic(r) }) >= 0 {
			t.Errorf("%+q acts", b.String())
		}
	})
}
