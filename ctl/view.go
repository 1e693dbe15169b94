package main

import (
	"context"
	"errors"
	"slices"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/calc"
)

const (
	// mostMatches is how many pairs of a policy and an endpoint are looked at for warnings: some tenths of a second.
	mostMatches = 4_000_000
	// mostEndpoints is how many endpoints are read for warnings, for the same reason.
	mostEndpoints = 20_000
	// mostLookups is how many objects are read one by one rather than all of their kind.
	mostLookups = 16
)

var (
	policyKinds   = []string{api.KindGlobalNetworkPolicy, api.KindNetworkPolicy}
	endpointKinds = []string{api.KindHostEndpoint, api.KindWorkloadEndpoint}
)

// view is the datastore as it is with the objects that were written, as far as anybody asked for it. Each kind is read once.
type view struct {
	st       store
	written  []api.Object
	stored   []api.Update
	kinds    map[string]extent // of which was asked
	known    *calc.Survey      // of as many stored objects as surveyed says
	surveyed int
	found    []trap
}

// extent is how much of a kind was read.
type extent struct {
	objects int
	whole   bool
}

// newView is the view after some objects were written, of which the last with a name counts.
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

// read reads kinds, and says whether they are known now.
func (v *view) read(ctx context.Context, kinds ...string) bool { return v.readAtMost(ctx, 0, kinds...) }

// readAtMost is for kinds of which more objects are of no use; 0 is no limit.
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

// readEndpoints reads the endpoints with their profiles, if they are not too many, nor their pairs with policies.
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

// policies are how many there may be, once they were read.
func (v *view) policies() int {
	n := len(v.written)
	for _, kind := range policyKinds {
		n += v.kinds[kind].objects
	}
	return n
}

// updates are what was read and written.
func (v *view) updates() []api.Update {
	all := slices.Clip(v.stored)
	for _, o := range v.written {
		all = append(all, api.Update{Key: api.KeyOf(o), Object: o})
	}
	return all
}

// survey is that of what is known by now.
func (v *view) survey() *calc.Survey {
	if v.known == nil || v.surveyed != len(v.stored) {
		v.known, v.surveyed = calc.NewSurvey(v.updates()), len(v.stored)
	}
	return v.known
}

// which are the written objects of which something is true.
func (v *view) which(is func(api.Object) bool) (some []api.Object) {
	for _, o := range v.written {
		if is(o) {
			some = append(some, o)
		}
	}
	return some
}

// existence tells which of the objects of a kind that the written ones name exist. One that cannot be asked for does.
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
