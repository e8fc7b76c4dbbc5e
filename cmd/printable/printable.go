// Package printable makes text fit for a terminal, whoever chose it. A guest says what its hostname is, a pod network what
// its links are called, and a terminal does what control characters say.
//
// What does not show is written as strconv.Quote writes it: control characters of both sets (ECMA-48), those that turn the
// direction of writing or show nothing (Unicode's category Cf), what is of no character, and bytes that are not UTF-8. All
// else stays as it is, the backslash too: the text is for people, and is not read back.
package printable

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Line is a text on one line.
func Line(text string) string { return escape(text, "", quote) }

// Text is a text that may have several lines, and tabs.
func Text(text string) string { return escape(text, "\n\t", quote) }

// quote is what a character is written as; or, with utf8.RuneError, a byte.
func quote(r rune, b byte) string {
	if r == utf8.RuneError {
		return fmt.Sprintf(`\x%02x`, b)
	}
	quoted := strconv.QuoteRuneToASCII(r)
	return quoted[1 : len(quoted)-1]
}

// quoteJSON is what a character of a JSON string is written as (RFC 8259, section 7), so that it means the same.
func quoteJSON(r rune, _ byte) string {
	if r == utf8.RuneError {
		return `\ufffd` // as encoding/json has it
	}
	if r > 0xffff {
		r -= 0x10000
		return fmt.Sprintf(`\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

func escape(text, keep string, quote func(rune, byte) string) string {
	first := 0
	for first < len(text) {
		r, size := utf8.DecodeRuneInString(text[first:])
		if !shows(r, size, keep) {
			break
		}
		first += size
	}
	if first == len(text) {
		return text // as nearly all of them
	}
	var b strings.Builder
	b.WriteString(text[:first])
	for i := first; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case shows(r, size, keep):
			b.WriteString(text[i : i+size])
		case r == utf8.RuneError && size == 1:
			b.WriteString(quote(utf8.RuneError, text[i]))
		default:
			b.WriteString(quote(r, 0))
		}
		i += size
	}
	return b.String()
}

func shows(r rune, size int, keep string) bool {
	if r == utf8.RuneError && size == 1 {
		return false
	}
	return strconv.IsGraphic(r) || strings.ContainsRune(keep, r)
}

// writer makes fit what is written to it. A character must not be split between two writes.
type writer struct {
	w      io.Writer
	escape func(string) string
}

func (w writer) Write(b []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.escape(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Writer is for text of several lines.
func Writer(w io.Writer) io.Writer { return writer{w, Text} }

// Entries is for text of which each write is one line, with its end.
func Entries(w io.Writer) io.Writer {
	return writer{w, func(text string) string {
		line, ended := strings.CutSuffix(text, "\n")
		if ended {
			return Line(line) + "\n"
		}
		return Line(line)
	}}
}

// JSON is for JSON, which stays JSON and means the same.
func JSON(w io.Writer) io.Writer {
	return writer{w, func(text string) string { return escape(text, "\n\t\r", quoteJSON) }}
}
