package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// watchEvent is one change of get --watch.
type watchEvent struct {
	Type   string     `json:"type"` // ADDED, MODIFIED or DELETED; also when an object begins or ceases to match
	Object api.Object `json:"object"`
}

// watch prints what get would print and then every change of it, until it is interrupted.
func (s *session) watch(ctx context.Context, wanted []api.Object, at place, f format, chosen chooser) error {
	keys := map[api.Key]bool{}
	for _, o := range wanted {
		if err := at.settle(o); err != nil {
			return err
		}
		keys[api.KeyOf(o)] = true
	}
	matches := func(key api.Key) bool {
		anyName, anywhere := key, api.Key{Kind: key.Kind}
		anyName.Name = ""
		return keys[key] || keys[anyName] || keys[anywhere]
	}
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return err
	}
	defer closeStore()
	kind := wanted[0].Type().Kind
	printer, err := newWatchPrinter(s.stdout, f, kind, func() string { return globalASNumber(ctx, st) })
	if err != nil {
		return err
	}
	known, first := map[api.Key]api.Object{}, []watchEvent{}
	inSync, others := false, map[string]bool{}
	for batch := range st.Watch(ctx, s.log) {
		for _, u := range batch.Updates {
			if !matches(u.Key) {
				if !inSync && u.Key.Kind == kind && u.Object != nil && chosen.takes(u.Object) {
					others[u.Key.Namespace] = true
				}
				continue
			}
			event, changed := chosen.event(known, u)
			switch {
			case changed && inSync:
				if err := printer.change(event); err != nil {
					return err
				}
			case changed && event.Type != "DELETED":
				first = append(first, event)
			}
		}
		if batch.InSync && !inSync {
			inSync = true
			if err := printer.begin(onlyNewest(first, known)); err != nil {
				return err
			}
			if key := api.KeyOf(wanted[0]); len(known) == 0 && key.Name == "" && key.Namespace != "" {
				fmt.Fprint(s.stderr, elsewhere(key, others))
			}
		}
	}
	return nil // interrupted: that is how a watch ends
}

// event turns an update into a change of what was chosen.
func (c chooser) event(known map[api.Key]api.Object, u api.Update) (watchEvent, bool) {
	before, was := known[u.Key]
	if u.Object == nil || !c.takes(u.Object) {
		delete(known, u.Key)
		return watchEvent{"DELETED", before}, was
	}
	known[u.Key] = u.Object
	if was {
		return watchEvent{"MODIFIED", u.Object}, true
	}
	return watchEvent{"ADDED", u.Object}, true
}

// onlyNewest are the objects that exist when the first picture is whole, in the order in which get lists them.
func onlyNewest(events []watchEvent, known map[api.Key]api.Object) []watchEvent {
	objects := slices.SortedFunc(maps.Values(known), func(a, b api.Object) int {
		return strings.Compare(a.Meta().Namespace+"/"+a.Meta().Name, b.Meta().Namespace+"/"+b.Meta().Name)
	})
	arrange(objects)
	events = events[:0]
	for _, o := range objects {
		events = append(events, watchEvent{"ADDED", o})
	}
	return events
}

// watchPrinter prints first what exists, then changes one by one.
type watchPrinter interface {
	begin(events []watchEvent) error
	change(e watchEvent) error
}

func newWatchPrinter(w io.Writer, f format, kind string, asNumber func() string) (watchPrinter, error) {
	switch f := f.(type) {
	case tableFormat:
		headings, err := f.headingsOf(kind)
		return &watchedTable{table: newTable(w), headings: headings, asNumber: asNumber}, err
	case yamlFormat:
		return watchedDocuments{w, func(e watchEvent) ([]byte, error) {
			text, err := marshalYAML(e)
			return append([]byte("---\n"), text...), err
		}}, nil
	case jsonFormat:
		return watchedDocuments{w, func(e watchEvent) ([]byte, error) {
			text, err := json.Marshal(e)
			return append(text, '\n'), err
		}}, nil
	}
	return nil, errors.New("--watch prints ps, wide, custom-columns, yaml or json")
}

// watchedTable is a table that grows.
type watchedTable struct {
	table    *table
	headings []string
	asNumber func() string
}

func (t *watchedTable) begin(events []watchEvent) error {
	rows := [][]string{append([]string{fmt.Sprintf("%-*s", len("MODIFIED"), "EVENT")}, t.headings...)}
	for _, e := range events {
		rows = append(rows, t.row(e))
	}
	return t.table.print(rows)
}

func (t *watchedTable) change(e watchEvent) error { return t.table.print([][]string{t.row(e)}) }

func (t *watchedTable) row(e watchEvent) []string {
	return append([]string{e.Type}, rowOf(e.Object, t.headings, t.asNumber)...)
}

// watchedDocuments is one document for each change.
type watchedDocuments struct {
	out    io.Writer
	encode func(watchEvent) ([]byte, error)
}

func (d watchedDocuments) begin(events []watchEvent) error {
	for _, e := range events {
		if err := d.change(e); err != nil {
			return err
		}
	}
	return nil
}

func (d watchedDocuments) change(e watchEvent) error {
	text, err := d.encode(e)
	if err == nil {
		_, err = d.out.Write(text)
	}
	return err
}
