package domain

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// splice collects changes to a document's bytes by place, and makes them all at once. Places are those of the unchanged
// document, so the order in which changes are asked for matters only between insertions at the same place.
type splice struct {
	data  []byte
	edits []edit
}

// edit replaces data[from:to] by text.
type edit struct {
	from, to int
	text     string
}

func (s *splice) replace(from, to int, text string) {
	s.edits = append(s.edits, edit{from, to, text})
}

// bytes is the changed document, in memory of its own.
func (s *splice) bytes() []byte {
	slices.SortStableFunc(s.edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	var out bytes.Buffer
	at := 0
	for _, e := range s.edits {
		out.Write(s.data[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.Write(s.data[at:])
	return out.Bytes()
}

// set gives an attribute a value. An attribute that has the value, however it is spelt, keeps its spelling.
func (s *splice) set(e *element, name, value string) {
	if a := e.attribute(name); a != nil {
		if a.value != value {
			s.replace(a.valueStart, a.valueEnd, escape(value))
		}
		return
	}
	at, quote := s.nameEnd(e), "'" // libvirt's own quote
	if n := len(e.attributes); n > 0 {
		last := e.attributes[n-1]
		at, quote = last.end(), string(s.data[last.valueEnd])
	}
	s.replace(at, at, " "+name+"="+quote+escape(value)+quote)
}

// unset removes an attribute, with the blanks before it.
func (s *splice) unset(e *element, name string) {
	if a := e.attribute(name); a != nil {
		s.replace(s.blanksBefore(a.start), a.end(), "")
	}
}

// remove removes an element, and its line when it is alone there.
func (s *splice) remove(e *element) {
	from := e.start
	if line, alone := s.lineBefore(e.start); alone && s.lineEndsAt(e.end) {
		from = line
	}
	s.replace(from, e.end, "")
}

// add puts new elements at the end of an element, in the document's own indentation, or in the same line when that is how
// the element is written.
func (s *splice) add(parent *element, elements []markup) {
	if len(elements) == 0 {
		return
	}
	lines := !s.inline(parent)
	indent := s.childIndent(parent)
	var text strings.Builder
	for _, e := range elements {
		e.write(&text, s, lines, indent)
	}
	if !parent.selfClosing() {
		// Before the blanks that put the end tag into its place.
		at := s.blanksBefore(parent.close)
		if lines && !bytes.ContainsRune(s.data[at:parent.close], '\n') {
			text.WriteString(s.lineBreak() + s.indent(parent))
		}
		s.replace(at, at, text.String())
		return
	}
	if lines {
		text.WriteString(s.lineBreak() + s.indent(parent))
	}
	slash := bytes.LastIndexByte(s.data[:parent.end], '/')
	s.replace(s.blanksBefore(slash), parent.end, ">"+text.String()+"</"+s.tagName(parent)+">")
}

// markup is an element to be written.
type markup struct {
	tag      string // name and attributes, without the angle brackets
	children []markup
}

func (m markup) write(out *strings.Builder, s *splice, lines bool, indent string) {
	newline := ""
	if lines {
		newline = s.lineBreak() + indent
	}
	out.WriteString(newline + "<" + m.tag)
	if len(m.children) == 0 {
		out.WriteString("/>")
		return
	}
	out.WriteString(">")
	for _, c := range m.children {
		c.write(out, s, lines, indent+s.indentUnit())
	}
	name, _, _ := strings.Cut(m.tag, " ")
	out.WriteString(newline + "</" + name + ">")
}

// inline reports whether an element's children share its line, rather than having lines of their own.
func (s *splice) inline(e *element) bool {
	content := s.data[e.open:e.close]
	if len(bytes.TrimSpace(content)) > 0 {
		return !bytes.ContainsRune(content, '\n')
	}
	_, alone := s.lineBefore(e.start)
	return !alone
}

// childIndent is what stands before a child of an element on its line.
func (s *splice) childIndent(e *element) string {
	for _, c := range e.children {
		if _, alone := s.lineBefore(c.start); alone {
			return s.indent(c)
		}
	}
	return s.indent(e) + s.indentUnit()
}

// indent is what stands before an element on its line, empty when that is not only blanks.
func (s *splice) indent(e *element) string {
	if _, alone := s.lineBefore(e.start); !alone {
		return ""
	}
	return string(s.data[bytes.LastIndexByte(s.data[:e.start], '\n')+1 : e.start])
}

// indentUnit is what one level of the document is indented by: what stands before its first indented line, two blanks when
// there is none.
func (s *splice) indentUnit() string {
	for line := range bytes.Lines(s.data) {
		rest := bytes.TrimLeft(line, " \t")
		if indent := line[:len(line)-len(rest)]; len(indent) > 0 && bytes.HasPrefix(rest, []byte("<")) {
			return string(indent)
		}
	}
	return "  "
}

func (s *splice) lineBreak() string {
	if first := bytes.IndexByte(s.data, '\n'); first > 0 && s.data[first-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// lineBefore is the place of the line break before a place, when only blanks are between the two.
func (s *splice) lineBefore(at int) (int, bool) {
	before := bytes.TrimRight(s.data[:at], " \t")
	before, found := bytes.CutSuffix(before, []byte("\n"))
	return len(bytes.TrimSuffix(before, []byte("\r"))), found
}

// lineEndsAt reports whether only blanks follow a place on its line.
func (s *splice) lineEndsAt(at int) bool {
	rest := bytes.TrimLeft(s.data[at:], " \t")
	return bytes.HasPrefix(rest, []byte("\n")) || bytes.HasPrefix(rest, []byte("\r\n"))
}

// blanksBefore is where the blanks and line breaks before a place begin.
func (s *splice) blanksBefore(at int) int {
	return len(bytes.TrimRight(s.data[:at], " \t\r\n"))
}

// empty reports whether an element holds nothing but blanks.
func (s *splice) empty(e *element) bool {
	return len(bytes.TrimSpace(s.data[e.open:e.close])) == 0
}

// nameEnd is where the name in an element's start tag ends.
func (s *splice) nameEnd(e *element) int {
	return e.start + bytes.IndexAny(s.data[e.start:e.open], " \t\r\n/>")
}

// tagName is an element's name as it is written, prefix included.
func (s *splice) tagName(e *element) string { return string(s.data[e.start+1 : s.nameEnd(e)]) }

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")

func escape(value string) string { return escaper.Replace(value) }
