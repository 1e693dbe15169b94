package datastore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// view is what the consumer of a watch has been told: it turns entries, as they are listed or change, into the updates that
// carry the consumer along. It does no I/O.
//
// Two keys of etcd may hold the same policy, because old versions named its key otherwise. The key that has the object's
// own name wins; of the others the first.
type view struct {
	records map[string]followed
	aliases map[api.Key][]string // keys of etcd that do not have their object's name, in order
	invalid map[api.Key]string   // why the newest stored value of an object is not in force
	changed bool                 // invalid changed since it was last handed out
	round   int32                // of the listing that is under way
}

// record is what is known about one key of etcd.
type record struct {
	key      api.Key
	revision int64
	round    int32      // the listing that saw it last
	valid    bool       // there is, or was, a valid version, which is in force
	broken   string     // else what is wrong
	problem  string     // what is wrong with the newest value, which is not in force then
	alias    bool       // the object's name is not the key's
	object   api.Object // of an alias: its newest valid version, or what can be read
}

// followed is a record as the view keeps it: there are as many as objects, and for nearly all of them the rest follows from
// the key.
type followed struct {
	revision int64
	round    int32
	odd      *record // nil for a valid object with its key's own name
}

// record is what is known about a key; nil if nothing is.
func (v *view) record(path string) *record {
	f, ok := v.records[path]
	if !ok {
		return nil
	}
	r := f.odd
	if r == nil {
		key, _, _ := parseKey(path)
		r = &record{key: key, valid: true}
	}
	r.revision, r.round = f.revision, f.round
	return r
}

func (v *view) keep(path string, r *record) {
	f := followed{revision: r.revision, round: r.round}
	if !r.valid || r.problem != "" || r.alias {
		f.odd = r
	}
	v.records[path] = f
}

const foreign = "kind %s is not enforced by this version"

func newView() *view {
	return &view{records: map[string]followed{}, aliases: map[api.Key][]string{}, invalid: map[api.Key]string{}}
}

// begin starts a listing: what is not listed until sweep does not exist any more. With forget the revisions that are known
// mean nothing, because the store is another one.
func (v *view) begin(forget bool) {
	v.round++
	if forget {
		for path, f := range v.records {
			f.revision = 0
			v.records[path] = f
		}
	}
}

// listed takes an entry of the listing, and says whether it differs from what is known.
func (v *view) listed(entry Entry) (updates []api.Update, changed bool) {
	if f, ok := v.records[entry.Key]; ok {
		f.round = v.round
		v.records[entry.Key] = f
		if f.revision == entry.Revision {
			return nil, false
		}
	}
	return v.put(entry), true
}

// sweep ends the listing: what it has not seen is deleted.
func (v *view) sweep() []api.Update {
	var gone []string
	for path, f := range v.records {
		if f.round != v.round {
			gone = append(gone, path)
		}
	}
	slices.Sort(gone)
	var updates []api.Update
	for _, path := range gone {
		updates = append(updates, v.remove(path)...)
	}
	return updates
}

// event takes one change.
func (v *view) event(e Event) []api.Update {
	if e.Delete {
		return v.remove(e.Key)
	}
	return v.put(e.Entry)
}

// put takes an entry that is new or has changed.
func (v *view) put(entry Entry) []api.Update {
	key, known, ok := parseKey(entry.Key)
	if !ok {
		return nil
	}
	before := v.record(entry.Key)
	if !known {
		return v.putUnknown(key, entry, before)
	}
	o, problem := read(key, entry)
	now := &record{key: key, revision: entry.Revision, round: v.round, valid: problem == "", broken: problem, problem: problem}
	if !missing(o) {
		now.key.Name = o.Meta().Name
	}
	if before != nil && problem != "" && before.valid {
		// The last valid version stays in force, under the name that it had.
		now.key, now.alias, now.object = before.key, before.alias, before.object
		now.valid, now.broken = true, ""
		v.keep(entry.Key, now)
		if v.wins(entry.Key, now) {
			v.note(now.key, problem)
		}
		return nil
	}
	now.alias = now.key != key
	if now.alias {
		now.object = o
	}
	return v.replace(entry.Key, before, now, o)
}

// faulty says whether the newest value of a key is invalid.
func (v *view) faulty(path string) bool {
	odd := v.records[path].odd
	return odd != nil && odd.problem != ""
}

// restore takes an older version of an invalid entry, which is then in force; false if that one is not valid either.
func (v *view) restore(older, newest Entry) ([]api.Update, bool) {
	key, _, _ := parseKey(older.Key)
	if _, problem := read(key, older); problem != "" {
		return nil, false
	}
	updates := v.put(older)
	return append(updates, v.put(newest)...), true
}

// putUnknown takes an entry of a kind that this version does not have. Whoever needs to know is told once.
func (v *view) putUnknown(key api.Key, entry Entry, before *record) []api.Update {
	v.keep(entry.Key, &record{key: key, revision: entry.Revision, round: v.round, broken: foreign})
	if before != nil {
		return nil
	}
	return []api.Update{{Key: key, Invalid: fmt.Sprintf(foreign, key.Kind)}}
}

func (v *view) remove(path string) []api.Update {
	before := v.record(path)
	if before == nil {
		return nil
	}
	return v.replace(path, before, nil, nil)
}

// replace puts one record in the place of another, nil standing for none, and says what that means for their objects.
func (v *view) replace(path string, before, now *record, o api.Object) []api.Update {
	var updates []api.Update
	if before != nil && (now == nil || now.key != before.key) {
		won := v.wins(path, before)
		v.index(before, path, false)
		delete(v.records, path)
		if won {
			updates = []api.Update{v.inherit(before.key)}
		}
	}
	if now == nil {
		return updates
	}
	v.keep(path, now)
	v.index(now, path, true)
	if !v.wins(path, now) {
		return updates
	}
	v.note(now.key, now.broken)
	return append(updates, api.Update{Key: now.key, Object: o, Invalid: now.broken})
}

// inherit says what an object is after the record that spoke for it went: that of another key, or nothing.
func (v *view) inherit(key api.Key) api.Update {
	heir := &record{}
	if aliases := v.aliases[key]; len(aliases) > 0 {
		heir = v.record(aliases[0])
	}
	v.note(key, heir.broken)
	return api.Update{Key: key, Object: heir.object, Invalid: heir.broken}
}

// wins says whether it is this record that speaks for its object.
func (v *view) wins(path string, r *record) bool {
	if !r.alias {
		return true
	}
	if exact := v.record(ResourceKey(r.key)); exact != nil && !exact.alias {
		return false
	}
	return v.aliases[r.key][0] == path
}

// index remembers or forgets the record of a key whose object has another name.
func (v *view) index(r *record, path string, add bool) {
	if !r.alias {
		return
	}
	at, found := slices.BinarySearch(v.aliases[r.key], path)
	switch {
	case add && !found:
		v.aliases[r.key] = slices.Insert(v.aliases[r.key], at, path)
	case !add && found:
		v.aliases[r.key] = slices.Delete(v.aliases[r.key], at, at+1)
		if len(v.aliases[r.key]) == 0 {
			delete(v.aliases, r.key)
		}
	}
}

// note remembers why the newest value of an object is not in force; an empty text says that it is.
func (v *view) note(key api.Key, problem string) {
	if v.invalid[key] == problem {
		return
	}
	v.changed = true
	if problem == "" {
		delete(v.invalid, key)
		return
	}
	v.invalid[key] = problem
}

// read decodes and checks a stored value. With a problem the object is what could be read, or nil.
func read(key api.Key, entry Entry) (api.Object, string) {
	o, err := decode(key, entry)
	if err == nil {
		completed := deep(o)
		api.Default(completed)
		err = api.Validate(completed)
	}
	if err != nil {
		return o, strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return o, ""
}
