package domainxml

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// encoding/xml, which etree reads with, knows the names of XML 1.0's fourth edition and one colon in each. libxml2, and so
// libvirt, takes those of the fifth and several colons, and libvirt passes references to entities on without the entities.
// All that is in the metadata that others keep in a domain. legible respells it, and restoreName gives the names back.

// marker stands around each character of a name that was respelled, as its number: À1f600À. Each marker of the document
// itself is respelled too, so no two names become one.
const marker = "À"

var respelled = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(marker + `([0-9a-f]+)` + marker) })

// restoreName is the name as the document has it.
func restoreName(name string) string {
	if !strings.Contains(name, marker) {
		return name
	}
	return respelled().ReplaceAllStringFunc(name, func(s string) string {
		n, err := strconv.ParseUint(strings.Trim(s, marker), 16, 32)
		if err != nil {
			return s
		}
		return string(rune(n))
	})
}

// predefined are the entities that every document has (XML 1.0, 4.6).
var predefined = []string{"lt", "gt", "amp", "apos", "quot"}

// legible respells a document for encoding/xml. It takes time in proportion to the document, and leaves what is not XML for
// encoding/xml to refuse. A reference to an entity of the document's own becomes the text that it is written with, and the
// first of them is returned. Line breaks in attributes become blanks, as XML 1.0 (3.3.3) reads them and encoding/xml does
// not, and follow the attribute, so that errors name the right line.
func legible(data []byte) (respelled []byte, entity string) {
	s := &speller{in: data}
	s.out.Grow(len(data))
	for len(s.in) > 0 {
		switch {
		case s.in[0] != '<':
			s.text(until(s.in, "<"))
		case bytes.HasPrefix(s.in, []byte("<!--")):
			s.copy(through(s.in, "-->"))
		case bytes.HasPrefix(s.in, []byte("<![CDATA[")):
			s.copy(through(s.in, "]]>"))
		case bytes.HasPrefix(s.in, []byte("<!")):
			s.copy(2)
		case bytes.HasPrefix(s.in, []byte("<?")):
			s.copy(2)
			s.name()
			s.copy(through(s.in, "?>"))
		default:
			s.copy(1)
			s.tag()
		}
	}
	return s.out.Bytes(), s.entity
}

type speller struct {
	in     []byte // what is left
	out    bytes.Buffer
	entity string
}

// until is the place of the first of some characters, the end where there is none.
func until(data []byte, chars string) int {
	if i := bytes.IndexAny(data, chars); i >= 0 {
		return i
	}
	return len(data)
}

// through is the place after some text.
func through(data []byte, text string) int {
	if i := bytes.Index(data, []byte(text)); i >= 0 {
		return i + len(text)
	}
	return len(data)
}

func (s *speller) copy(n int) {
	s.out.Write(s.in[:n])
	s.in = s.in[n:]
}

const xmlBlanks = " \t\r\n"

// tag respells the rest of a start or end tag.
func (s *speller) tag() {
	for len(s.in) > 0 {
		switch c := s.in[0]; {
		case c == '<':
			return // no tag after all
		case c == '>':
			s.copy(1)
			return
		case c == '\'', c == '"':
			s.copy(1)
			n := bytes.IndexByte(s.in, c)
			if n < 0 {
				s.copy(len(s.in))
				return
			}
			breaks := s.value(n)
			s.copy(1)
			s.out.WriteString(strings.Repeat("\n", breaks))
		case strings.IndexByte(xmlBlanks+"=/?", c) >= 0:
			s.copy(1)
		default:
			s.name()
		}
	}
}

// value copies the next n bytes, those of an attribute's value, and counts the line breaks.
func (s *speller) value(n int) (breaks int) {
	at := s.out.Len()
	s.text(n)
	value := s.out.Bytes()[at:]
	kept, last := value[:0], byte(0)
	for _, c := range value {
		after := last
		last = c
		switch c {
		case '\n':
			breaks++
			if after == '\r' { // one line break
				continue
			}
			c = ' '
		case '\r', '\t':
			c = ' '
		}
		kept = append(kept, c)
	}
	s.out.Truncate(at + len(kept))
	return breaks
}

// text copies the next n bytes.
func (s *speller) text(n int) {
	text := s.in[:n]
	s.in = s.in[n:]
	for {
		before, after, found := bytes.Cut(text, []byte("&"))
		s.out.Write(before)
		if !found {
			return
		}
		end := until(after, ";&"+xmlBlanks)
		name := string(after[:end])
		switch {
		case end == 0, end == len(after), after[end] != ';', name[0] == '#', slices.Contains(predefined, name):
			s.out.WriteByte('&')
		default:
			s.out.WriteString("&amp;")
			s.entity = cmp.Or(s.entity, name)
		}
		text = after
	}
}

// name respells a name.
func (s *speller) name() {
	n := until(s.in, xmlBlanks+"=/>?'\"<")
	name := s.in[:n]
	s.in = s.in[n:]
	for colons := 0; len(name) > 0; {
		r, size := utf8.DecodeRune(name)
		if r == ':' {
			colons++
		}
		switch {
		case r == utf8.RuneError && size == 1, r < utf8.RuneSelf && (r != ':' || colons < 2):
			s.out.Write(name[:size])
		default:
			fmt.Fprintf(&s.out, marker+"%x"+marker, r)
		}
		name = name[size:]
	}
}
