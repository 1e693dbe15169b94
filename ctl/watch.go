package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/print"
)

// watch prints the objects that get would print, then every change of them, until it is interrupted.
func (s *session) watch(ctx context.Context, wanted []api.Object, at scope, f print.Format, chosen chooser) error {
	keys := map[api.Key]bool{}
	for _, o := range wanted {
		if err := at.resolve(o); err != nil {
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
	printer, err := print.NewWatch(s.stdout, f, kind, func() string { return globalASNumber(ctx, st) })
	if err != nil {
		return err
	}
	known, first := map[api.Key]api.Object{}, []print.Event{}
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
				if err := printer.Change(event); err != nil {
					return err
				}
			case changed && event.Type != "DELETED":
				first = append(first, event)
			}
		}
		if batch.InSync && !inSync {
			inSync = true
			if err := printer.Begin(onlyNewest(first, known)); err != nil {
				return err
			}
			if key := api.KeyOf(wanted[0]); len(known) == 0 && key.Name == "" && key.Namespace != "" {
				fmt.Fprint(s.stderr, elsewhere(key, others))
			}
		}
	}
	return nil // interrupted: that is how a watch ends
}

// event turns an update into a change of the chosen objects, which known holds. It says false if nothing chosen changed.
func (c chooser) event(known map[api.Key]api.Object, u api.Update) (print.Event, bool) {
	before, was := known[u.Key]
	if u.Object == nil || !c.takes(u.Object) {
		delete(known, u.Key)
		return print.Event{Type: "DELETED", Object: before}, was
	}
	known[u.Key] = u.Object
	if was {
		return print.Event{Type: "MODIFIED", Object: u.Object}, true
	}
	return print.Event{Type: "ADDED", Object: u.Object}, true
}

// onlyNewest returns the events for the objects that exist when the first list is complete, in the order of get. It reuses
// the array of events.
func onlyNewest(events []print.Event, known map[api.Key]api.Object) []print.Event {
	objects := slices.SortedFunc(maps.Values(known), func(a, b api.Object) int {
		return strings.Compare(a.Meta().Namespace+"/"+a.Meta().Name, b.Meta().Namespace+"/"+b.Meta().Name)
	})
	arrange(objects)
	events = events[:0]
	for _, o := range objects {
		events = append(events, print.Event{Type: "ADDED", Object: o})
	}
	return events
}
