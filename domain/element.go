package domain

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// element is where an XML element lies in its document. All places are byte offsets from the document's beginning:
//
//	<target dev='tap0'>   </target>
//	^start             ^open
//	                      ^close   ^end
//
// In an element that closes itself, open, close and end are the same place.
type element struct {
	name       xml.Name
	start      int
	open       int
	close      int
	end        int
	attributes []attribute
	parent     *element
	children   []*element
	text       []byte // its own text, entities and CDATA resolved
}

// attribute is where an attribute lies. Its value is what the quotes hold, entities resolved.
type attribute struct {
	name       xml.Name
	value      string
	start      int // of the name
	valueStart int // after the opening quote
	valueEnd   int // of the closing quote
}

func (a attribute) end() int { return a.valueEnd + 1 }

// selfClosing reports whether the element is written as <name/>.
func (e *element) selfClosing() bool { return e.open == e.end }

// child is the first child of that name. libvirt selects children by their bare name, so what has a namespace is not it.
func (e *element) child(name string) *element {
	for c := range e.named(name) {
		return c
	}
	return nil
}

// named yields the children of that name.
func (e *element) named(name string) func(yield func(*element) bool) {
	return func(yield func(*element) bool) {
		if e == nil {
			return
		}
		for _, c := range e.children {
			if c.name.Space == "" && c.name.Local == name && !yield(c) {
				return
			}
		}
	}
}

// attribute is the attribute of that name, nil when there is none. A nil element has none.
func (e *element) attribute(name string) *attribute {
	if e == nil {
		return nil
	}
	for i := range e.attributes {
		if a := &e.attributes[i]; a.name.Space == "" && a.name.Local == name {
			return a
		}
	}
	return nil
}

// value is an attribute's value, empty when the element or the attribute is not there.
func (e *element) value(name string) string {
	if a := e.attribute(name); a != nil {
		return a.value
	}
	return ""
}

// parseElements finds every element of a document and returns the one at the top. What encoding/xml lets pass and libxml2,
// which reads the document next, does not (text or a second element at the top, an attribute that is there twice), is an
// error here.
func parseElements(data []byte) (*element, error) {
	decoder := xml.NewDecoder(bytes.NewReader(data))
	decoder.CharsetReader = charset
	at := func(format string, args ...any) error {
		line, _ := decoder.InputPos()
		return fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...))
	}

	var top, current *element
	for {
		start := int(decoder.InputOffset())
		token, err := decoder.Token()
		switch {
		case errors.Is(err, io.EOF) && top == nil:
			return nil, errors.New("there is no element in it")
		case errors.Is(err, io.EOF):
			return top, nil
		case err != nil:
			return nil, located(err, at)
		}
		end := int(decoder.InputOffset())

		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name, start: start, open: end, parent: current}
			e.attributes = findAttributes(data[:end], start, token.Attr)
			if name, twice := duplicate(e.attributes); twice {
				return nil, at("<%s> has the attribute %s twice", token.Name.Local, name)
			}
			switch {
			case current != nil:
				current.children = append(current.children, e)
			case top != nil:
				return nil, at("a second element, <%s>, follows the first, <%s>", token.Name.Local, top.name.Local)
			default:
				top = e
			}
			current = e
		case xml.EndElement:
			current.close, current.end = start, end
			current = current.parent
		case xml.CharData:
			if current != nil {
				current.text = append(current.text, token...)
			} else if len(bytes.TrimSpace(token)) > 0 {
				return nil, at("text outside of any element")
			}
		}
	}
}

// charset accepts the names of what UTF-8 contains. The bytes must not be converted: places would no longer be places.
func charset(name string, input io.Reader) (io.Reader, error) {
	if strings.EqualFold(name, "us-ascii") || strings.EqualFold(name, "ascii") {
		return input, nil
	}
	return nil, encodingError(name)
}

type encodingError string

func (e encodingError) Error() string {
	return fmt.Sprintf("encoding %s is not supported: convert the document to UTF-8", string(e))
}

// located gives an error of encoding/xml the form of this package's: where, then what.
func located(err error, at func(string, ...any) error) error {
	if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
		return fmt.Errorf("line %d: %s", syntax.Line, syntax.Msg)
	}
	if encoding, ok := errors.AsType[encodingError](err); ok {
		return encoding
	}
	return at("%w", err)
}

// findAttributes finds the places of a start tag's attributes. The decoder has accepted the tag, so its form is known:
// names, equals signs and quoted values, with blanks between.
func findAttributes(data []byte, start int, decoded []xml.Attr) []attribute {
	if len(decoded) == 0 {
		return nil
	}
	const blanks = " \t\r\n"
	skip := func(at int) int { return len(data) - len(bytes.TrimLeft(data[at:], blanks)) }
	until := func(at int, chars string) int { return at + bytes.IndexAny(data[at:], chars) }

	attributes := make([]attribute, len(decoded))
	at := until(start, blanks)
	for i, attr := range decoded {
		at = skip(at)
		a := attribute{name: attr.Name, value: attr.Value, start: at}
		at = skip(until(at, "=") + 1)
		a.valueStart = at + 1
		a.valueEnd = a.valueStart + bytes.IndexByte(data[a.valueStart:], data[at])
		attributes[i] = a
		at = a.end()
	}
	return attributes
}

func duplicate(attributes []attribute) (name string, twice bool) {
	for i, a := range attributes {
		for _, b := range attributes[:i] {
			if a.name == b.name {
				return a.name.Local, true
			}
		}
	}
	return "", false
}
