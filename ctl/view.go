package main

import (
	"context"
	"errors"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

const (
	// mostMatches is the largest number of pairs of a policy and an endpoint that warnings look at: some tenths of a second.
	mostMatches = 4_000_000
	// mostEndpoints is the largest number of endpoints that are read for warnings, for the same reason.
	mostEndpoints = 20_000
	// mostLookups is the largest number of objects that are read one by one. For more, all of the kind are read.
	mostLookups = 16
)

var (
	policyKinds   = []string{api.KindGlobalNetworkPolicy, api.KindNetworkPolicy}
	endpointKinds = []string{api.KindHostEndpoint, api.KindWorkloadEndpoint}
)

// view is the datastore with the objects that were just written, for warnings. Each kind is read once, when a check needs it.
type view struct {
	st       store
	written  []api.Object      // one for each key
	stored   []api.Update      // objects that were read, without those in written
	kinds    map[string]extent // of each kind that was read
	known    *calc.Survey      // of written and the first surveyed elements of stored; nil until it is needed
	surveyed int
	found    []trap
}

// extent says how much of a kind was read.
type extent struct {
	objects int
	whole   bool // all objects of the kind
}

// newView returns the view after some objects were written. If several have the same key, the last one counts.
func newView(st store, written []api.Object) *view {
	v := &view{st: st, kinds: map[string]extent{}}
	last := map[api.Key]int{}
	for i, o := range written {
		last[api.KeyOf(o)] = i
	}
	for i, o := range written {
		if last[api.KeyOf(o)] == i {
			v.written = append(v.written, o)
		}
	}
	return v
}

// read reads kinds, and says whether all their objects are known now.
func (v *view) read(ctx context.Context, kinds ...string) bool { return v.readAtMost(ctx, 0, kinds...) }

// readAtMost is read for kinds with at most so many objects each; 0 is no limit. It says false for a kind with more.
func (v *view) readAtMost(ctx context.Context, most int, kinds ...string) bool {
	all := true
	for _, kind := range kinds {
		e, tried := v.kinds[kind]
		if !tried {
			e = v.readKind(ctx, kind, most)
			v.kinds[kind] = e
		}
		all = all && e.whole && (most == 0 || e.objects <= most)
	}
	return all
}

// readEndpoints reads profiles and endpoints. It says false if there are too many endpoints, or too many pairs of an endpoint
// and a policy.
func (v *view) readEndpoints(ctx context.Context, most int) bool {
	return v.read(ctx, api.KindProfile) && v.readAtMost(ctx, min(most, mostMatches/v.policies()), endpointKinds...)
}

func (v *view) readKind(ctx context.Context, kind string, most int) (e extent) {
	given := map[api.Key]bool{}
	for _, o := range v.written {
		given[api.KeyOf(o)] = true
	}
	enough := errors.New("too many")
	err := v.st.EachPage(ctx, kind, "", func(objects []api.Object, _ string) error {
		for _, o := range objects {
			if key := api.KeyOf(o); !given[key] {
				v.stored = append(v.stored, api.Update{Key: key, Object: o})
			}
		}
		if e.objects += len(objects); most > 0 && e.objects > most {
			return enough
		}
		return nil
	})
	e.whole = err == nil
	return e
}

// policies returns an upper bound of the number of policies. They have to be read before.
func (v *view) policies() int {
	n := len(v.written)
	for _, kind := range policyKinds {
		n += v.kinds[kind].objects
	}
	return n
}

// updates returns all objects that were read or written.
func (v *view) updates() []api.Update {
	all := slices.Clip(v.stored)
	for _, o := range v.written {
		all = append(all, api.Update{Key: api.KeyOf(o), Object: o})
	}
	return all
}

// survey returns the survey of all objects that were read or written so far.
func (v *view) survey() *calc.Survey {
	if v.known == nil || v.surveyed != len(v.stored) {
		v.known, v.surveyed = calc.NewSurvey(v.updates()), len(v.stored)
	}
	return v.known
}

// which returns the written objects for which is says true.
func (v *view) which(is func(api.Object) bool) (some []api.Object) {
	for _, o := range v.written {
		if is(o) {
			some = append(some, o)
		}
	}
	return some
}

// existence returns a function that says whether an object of a kind exists, for the names that named finds in the written
// objects. An object that cannot be read counts as existing, so that no false warning is given.
func (v *view) existence(ctx context.Context, kind string, named func(api.Object) []string) func(name string) bool {
	missing := map[string]bool{}
	for _, o := range v.written {
		for _, name := range named(o) {
			missing[name] = true
		}
	}
	for _, o := range v.written {
		if o.Type().Kind == kind {
			delete(missing, o.Meta().Name)
		}
	}
	switch {
	case len(missing) <= mostLookups:
		for name := range missing {
			if _, err := v.st.Get(ctx, api.Key{Kind: kind, Name: name}); !isNotFound(err) {
				delete(missing, name)
			}
		}
	case v.read(ctx, kind):
		for _, u := range v.stored {
			if u.Key.Kind == kind {
				delete(missing, u.Key.Name)
			}
		}
	default:
		clear(missing)
	}
	return func(name string) bool { return !missing[name] }
}
