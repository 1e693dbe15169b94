package datastore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/margay-project/margay/api"
)

// view is the state that the consumer of a watch knows. It turns listed and changed entries into the updates that bring the consumer
// to the new state. It does no I/O.
//
// Two keys of etcd may hold the same policy, because Calico up to v3.29 named keys otherwise. The key that has the object's own name
// wins; of the others, called aliases, the first.
type view struct {
	records map[string]followed  // by key of etcd
	aliases map[api.Key][]string // keys of etcd with another name than their object, sorted
	invalid map[api.Key]string   // reason why the newest stored value of an object is not in force
	changed bool                 // invalid has changed since deliver read it; set by note, reset by deliver
	round   int32                // number of the current listing; incremented by begin
}

// record is the state of one key of etcd.
type record struct {
	key      api.Key
	revision int64
	round    int32      // the last listing that had the key
	valid    bool       // a valid version is in force: the newest one, or an older one
	broken   string     // otherwise the reason why the value is invalid
	problem  string     // reason why the newest value is invalid and not in force; empty if it is valid
	alias    bool       // the object has another name than the key
	object   api.Object // only for an alias: the newest valid version, or the fields that can be read
}

// followed is a record in its stored form. It is small, because there is one for each object: a valid object with the name of its key
// needs only these fields.
type followed struct {
	revision int64
	round    int32
	other    *record // nil for a valid object with the name of its key
}

// record returns the state of a key; nil if the key is not known.
func (v *view) record(path string) *record {
	f, ok := v.records[path]
	if !ok {
		return nil
	}
	r := f.other
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
		f.other = r
	}
	v.records[path] = f
}

const foreign = "kind %s is not enforced by this version"

func newView() *view {
	return &view{records: map[string]followed{}, aliases: map[api.Key][]string{}, invalid: map[api.Key]string{}}
}

// begin starts a listing: a key that is not listed until sweep no longer exists. With forget, the known revisions are reset, because
// they are of another store.
func (v *view) begin(forget bool) {
	v.round++
	if forget {
		for path, f := range v.records {
			f.revision = 0
			v.records[path] = f
		}
	}
}

// listed handles an entry of the listing. changed is false if the entry is known with this revision.
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

// sweep ends the listing: keys that were not listed are deleted.
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

// event handles one change.
func (v *view) event(e Event) []api.Update {
	if e.Delete {
		return v.remove(e.Key)
	}
	return v.put(e.Entry)
}

// put handles an entry that is new or has changed.
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
	r := v.records[path].other
	return r != nil && r.problem != ""
}

// restore puts an older version of an invalid entry into force. It returns false if that version is invalid too.
func (v *view) restore(older, newest Entry) ([]api.Update, bool) {
	key, _, _ := parseKey(older.Key)
	if _, problem := read(key, older); problem != "" {
		return nil, false
	}
	updates := v.put(older)
	return append(updates, v.put(newest)...), true
}

// putUnknown handles an entry of a kind that this version does not know. The consumer gets one update for it, with Broken set.
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

// replace replaces a record by another one and returns the updates of their objects. nil means no record.
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

// inherit returns the update of an object whose winning record is gone: the object of the next alias, or a deletion.
func (v *view) inherit(key api.Key) api.Update {
	heir := &record{}
	if aliases := v.aliases[key]; len(aliases) > 0 {
		heir = v.record(aliases[0])
	}
	v.note(key, heir.broken)
	return api.Update{Key: key, Object: heir.object, Invalid: heir.broken}
}

// wins says whether this record decides the state of its object: its key has the name of the object, or it is the first alias.
func (v *view) wins(path string, r *record) bool {
	if !r.alias {
		return true
	}
	if exact := v.record(ResourceKey(r.key)); exact != nil && !exact.alias {
		return false
	}
	return v.aliases[r.key][0] == path
}

// index adds or removes the key of an alias. It ignores other records.
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

// note stores the reason why the newest value of an object is not in force. An empty text means that it is in force.
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

// read decodes and validates a stored value. With a problem, the object holds the fields that could be read, or is nil.
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
