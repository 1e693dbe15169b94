package print

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/margay-project/margay/api"
)

// Event is one change of get --watch.
type Event struct {
	Type   string     `json:"type"` // ADDED, MODIFIED or DELETED; also when an object begins or ceases to match
	Object api.Object `json:"object"`
}

// Watch prints the existing objects first, then changes one by one.
type Watch interface {
	Begin(events []Event) error // called once, first
	Change(e Event) error
}

// NewWatch prints the changes of a kind. Formats that need the whole list are refused.
func NewWatch(w io.Writer, f Format, kind string, asNumber func() string) (Watch, error) {
	switch f := f.(type) {
	case tableFormat:
		headings, err := f.headingsOf(kind)
		return &watchedTable{table: newTable(w), headings: headings, asNumber: asNumber}, err
	case yamlFormat:
		return watchedDocuments{w, func(e Event) ([]byte, error) {
			text, err := api.MarshalYAML(e)
			return append([]byte("---\n"), text...), err
		}}, nil
	case jsonFormat:
		return watchedDocuments{w, func(e Event) ([]byte, error) {
			text, err := json.Marshal(e)
			return append(text, '\n'), err
		}}, nil
	}
	return nil, errors.New("--watch works only with -o ps, wide, custom-columns, yaml or json")
}

// watchedTable is a table that grows.
type watchedTable struct {
	table    *table
	headings []string
	asNumber func() string
}

func (t *watchedTable) Begin(events []Event) error {
	rows := [][]string{append([]string{fmt.Sprintf("%-*s", len("MODIFIED"), "EVENT")}, t.headings...)}
	for _, e := range events {
		rows = append(rows, t.row(e))
	}
	return t.table.print(rows)
}

func (t *watchedTable) Change(e Event) error { return t.table.print([][]string{t.row(e)}) }

func (t *watchedTable) row(e Event) []string {
	return append([]string{e.Type}, rowOf(e.Object, t.headings, t.asNumber)...)
}

// watchedDocuments is one document for each change.
type watchedDocuments struct {
	out    io.Writer
	encode func(Event) ([]byte, error)
}

func (d watchedDocuments) Begin(events []Event) error {
	for _, e := range events {
		if err := d.Change(e); err != nil {
			return err
		}
	}
	return nil
}

func (d watchedDocuments) Change(e Event) error {
	text, err := d.encode(e)
	if err == nil {
		_, err = d.out.Write(text)
	}
	return err
}
