package print

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"slices"

	"github.com/margay-project/margay/api"
)

// Pages prints one list while it is read. If reading fails, End is not called: the output lacks its end, and a reader sees
// that it is not complete.
type Pages interface {
	// Page prints the next objects of the list. version is the list's resourceVersion, the same for all pages.
	Page(objects []api.Object, version string) error
	// End prints what follows the last object.
	End() error
}

// tablePages is a table, which is aligned page by page, with a blank line after it.
type tablePages struct {
	table    *table
	headings []string
	asNumber func() string
	begun    bool
}

func (p *tablePages) Page(objects []api.Object, _ string) error {
	var rows [][]string
	if !p.begun {
		p.begun = true
		rows = append(rows, slices.Clone(p.headings))
	}
	for _, o := range objects {
		rows = append(rows, rowOf(o, p.headings, p.asNumber))
	}
	return p.table.print(rows)
}

func (p *tablePages) End() error { return p.table.print([][]string{{}}) }

// documentPages prints a list in JSON or YAML: the text before the items, the items, and the text after them.
type documentPages struct {
	out    *bufio.Writer
	kind   string
	syntax listSyntax
	tail   []byte // the text after the items; nil before the first page
	count  int    // of items
}

// listSyntax describes how JSON or YAML writes a list.
type listSyntax struct {
	whole                    func(any) ([]byte, error)          // encodes a document
	items                    func([]api.Object) ([]byte, error) // encodes items, without the brackets
	empty                    string                             // an empty list
	open, separator, closing string                             // before, between and after the encoded items
}

func newJSONPages(w io.Writer, kind string) Pages {
	const separator = ",\n    "
	return newDocumentPages(w, kind, listSyntax{
		whole: marshalJSON,
		items: func(objects []api.Object) ([]byte, error) {
			var texts [][]byte
			for _, o := range objects {
				text, err := json.MarshalIndent(o, "    ", "  ")
				if err != nil {
					return nil, err
				}
				texts = append(texts, text)
			}
			return bytes.Join(texts, []byte(separator)), nil
		},
		empty: " []", open: " [\n    ", separator: separator, closing: "\n  ]",
	})
}

func newYAMLPages(w io.Writer, kind string) Pages {
	return newDocumentPages(w, kind, listSyntax{
		whole: api.MarshalYAML,
		items: func(objects []api.Object) ([]byte, error) { return api.MarshalYAML(objects) }, // long lines break as in the list
		empty: " []\n", open: "\n",
	})
}

func newDocumentPages(w io.Writer, kind string, syntax listSyntax) Pages {
	return &documentPages{out: bufio.NewWriterSize(w, 1<<15), kind: kind, syntax: syntax}
}

// itemsPerChunk is the number of items that are encoded at once: the YAML encoder is slow to start, and the first of 32 items need
// not wait long for the last.
const itemsPerChunk = 32

func (p *documentPages) Page(objects []api.Object, version string) error {
	if p.tail == nil {
		empty, err := p.syntax.whole(Result{Kind: p.kind, List: true, Revision: version}.value())
		if err != nil {
			return err
		}
		head, tail, _ := bytes.Cut(empty, []byte(p.syntax.empty))
		p.out.Write(head)
		p.tail = tail
	}
	for some := range slices.Chunk(objects, itemsPerChunk) {
		text, err := p.syntax.items(some)
		if err != nil {
			return err
		}
		if p.count == 0 {
			p.out.WriteString(p.syntax.open)
		} else {
			p.out.WriteString(p.syntax.separator)
		}
		p.count += len(some)
		p.out.Write(text)
	}
	return p.out.Flush() // returns the errors of earlier writes too
}

func (p *documentPages) End() error {
	if p.count == 0 {
		p.out.WriteString(p.syntax.empty)
	} else {
		p.out.WriteString(p.syntax.closing)
	}
	p.out.Write(p.tail)
	return p.out.Flush()
}

// collectedPages keeps a list until it is complete, for formats that may use any part of it.
type collectedPages struct {
	result Result
	print  func(Result) error
}

func (p *collectedPages) Page(objects []api.Object, version string) error {
	p.result.Objects, p.result.Revision = append(p.result.Objects, objects...), version
	return nil
}

func (p *collectedPages) End() error { return p.print(p.result) }
