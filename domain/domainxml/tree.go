package domainxml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/beevik/etree"
)

// maxDepth is how deep elements may be nested in each other: xmlParserMaxDepth of libxml2 2.14, 256 in earlier ones.
const maxDepth = 2048

// readTree reads the one element of a document, and the first entity that it refers to without the entity being known. What
// encoding/xml lets pass and libxml2, which reads the document next, does not (text or a second element at the top, an
// attribute that is there twice), is an error here.
func readTree(data []byte) (tree *etree.Document, entity string, err error) {
	data, entity = legible(data)
	tree = etree.NewDocument()
	tree.ReadSettings = etree.ReadSettings{CharsetReader: charset, PreserveCData: true, PreserveDuplicateAttrs: true, MaxDepth: maxDepth}
	// Line breaks and tabs in attributes, and carriage returns in texts, are written as what they are in memory.
	tree.WriteSettings = etree.WriteSettings{CanonicalAttrVal: true, CanonicalText: true}
	if err := tree.ReadFromBytes(data); err != nil {
		return nil, "", explain(err, data)
	}
	var top *etree.Element
	for _, token := range tree.Child {
		switch token := token.(type) {
		case *etree.Element:
			if top != nil {
				return nil, "", fmt.Errorf("a second element, <%s>, follows the first, <%s>", restoreName(token.FullTag()), restoreName(top.FullTag()))
			}
			top = token
		case *etree.CharData:
			if strings.Trim(token.Data, xmlBlanks) != "" {
				return nil, "", errors.New("text outside of any element")
			}
		}
	}
	if top == nil {
		return nil, "", errors.New("there is no element in it")
	}
	return tree, entity, checkAttributes(top)
}

// explain gives an error of etree the form of this package's: where, then what. etree itself says of tags that do not match
// no more than that.
func explain(err error, data []byte) error {
	switch {
	case errors.Is(err, etree.ErrMaxDepth):
		return fmt.Errorf("its elements are nested more than %d deep, which libvirt does not accept", maxDepth)
	case errors.Is(err, etree.ErrXML):
		decoder := xml.NewDecoder(bytes.NewReader(data))
		decoder.CharsetReader = charset
		for err = nil; err == nil; {
			_, err = decoder.Token()
		}
		if errors.Is(err, io.EOF) {
			return etree.ErrXML
		}
	}
	if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
		return fmt.Errorf("line %d: %s", syntax.Line, restoreName(syntax.Msg))
	}
	if encoding, ok := errors.AsType[encodingError](err); ok {
		return encoding
	}
	return err
}

// charset accepts the names of what UTF-8 contains.
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

// checkAttributes refuses an attribute that is there twice.
func checkAttributes(e *etree.Element) error {
	if len(e.Attr) > 1 {
		seen := make(map[string]bool, len(e.Attr))
		for _, a := range e.Attr {
			name := a.FullKey()
			if seen[name] {
				return fmt.Errorf("<%s> has the attribute %s twice", restoreName(e.FullTag()), restoreName(name))
			}
			seen[name] = true
		}
	}
	for c := range e.ChildElementsSeq() {
		if err := checkAttributes(c); err != nil {
			return err
		}
	}
	return nil
}

// restoreNames gives the names of an element, and of what is in it, back.
func restoreNames(e *etree.Element) {
	e.Space, e.Tag = restoreName(e.Space), restoreName(e.Tag)
	for i := range e.Attr {
		a := &e.Attr[i]
		a.Space, a.Key = restoreName(a.Space), restoreName(a.Key)
	}
	for _, token := range e.Child {
		switch token := token.(type) {
		case *etree.Element:
			restoreNames(token)
		case *etree.ProcInst:
			token.Target = restoreName(token.Target)
		}
	}
}

// write writes a document, with the names that it had.
func write(tree *etree.Document) []byte {
	restoreNames(&tree.Element)
	var b bytes.Buffer
	_, _ = tree.WriteTo(&b) // memory takes everything
	if !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// bare reports whether an element has a name and no namespace, as all of libvirt's own have.
func bare(e *etree.Element, name string) bool {
	return e.Space == "" && e.Tag == name && e.NamespaceURI() == ""
}

// named yields the children of that name. libvirt selects children by their bare name, so what has a namespace is not it.
func named(e *etree.Element, name string) func(yield func(*etree.Element) bool) {
	return func(yield func(*etree.Element) bool) {
		if e == nil {
			return
		}
		for c := range e.ChildElementsSeq() {
			if bare(c, name) && !yield(c) {
				return
			}
		}
	}
}

// child is the first child of that name, nil when there is none. A nil element has none.
func child(e *etree.Element, name string) *etree.Element {
	for c := range named(e, name) {
		return c
	}
	return nil
}

// attribute is the attribute of that name, nil when there is none. A nil element has none.
func attribute(e *etree.Element, name string) *etree.Attr {
	if e == nil {
		return nil
	}
	for i := range e.Attr {
		if a := &e.Attr[i]; a.Space == "" && a.Key == name {
			return a
		}
	}
	return nil
}

// value is an attribute's value, empty when the element or the attribute is not there.
func value(e *etree.Element, name string) string {
	if a := attribute(e, name); a != nil {
		return a.Value
	}
	return ""
}

// text is an element's own text.
func text(e *etree.Element) string {
	var text strings.Builder
	if e != nil {
		for _, token := range e.Child {
			if data, ok := token.(*etree.CharData); ok {
				text.WriteString(data.Data)
			}
		}
	}
	return text.String()
}

// remove removes an element, and the blanks before it.
func remove(e *etree.Element) {
	parent, at := e.Parent(), e.Index()
	parent.RemoveChildAt(at)
	if at > 0 {
		if data, ok := parent.Child[at-1].(*etree.CharData); ok && data.IsWhitespace() {
			parent.RemoveChildAt(at - 1)
		}
	}
}
