package datastore

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

// oldPolicy is a policy as versions up to v3.29 stored it.
func oldPolicy(kind, key, tier string) string {
	return fmt.Sprintf(`{"kind":%q,"apiVersion":"projectcalico.org/v3","metadata":{"name":%q,"uid":"u","creationTimestamp":"2020-01-01T00:00:00Z"},"spec":{"tier":%q,"selector":"all()","types":["Ingress"],"more":1}}`,
		kind, key, tier)
}

// newPolicy is the same policy under its own name, as it is stored now.
func newPolicy(key api.Key) string {
	namespace := ""
	if key.Namespace != "" {
		namespace = fmt.Sprintf(`"namespace":%q,`, key.Namespace)
	}
	return fmt.Sprintf(`{"kind":%q,"apiVersion":"projectcalico.org/v3","metadata":{"name":%q,%s"uid":"u","creationTimestamp":"2020-01-01T00:00:00Z","labels":{"projectcalico.org/tier":"default"},"annotations":{"projectcalico.org/metadata":"{\"name\":\"%s\"}"}},"spec":{"tier":"default","selector":"all()","types":["Ingress"],"more":1}}`,
		key.Kind, key.Name, namespace, key.Name)
}

func globalPolicy(name string) api.Key { return api.Key{Kind: "GlobalNetworkPolicy", Name: name} }

func TestPoliciesMoveToTheirOwnNames(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, store KV) {
		s, ctx := New(store), testContext(t)
		kept := map[string]string{
			policies + "plain":              newPolicy(globalPolicy("plain")),
			policies + "platform.a":         oldPolicy("GlobalNetworkPolicy", "platform.a", "platform"),
			policies + "default.of-a-tier":  oldPolicy("GlobalNetworkPolicy", "default.of-a-tier", "platform"),
			policies + "default.unreadable": `{"kind":`,
			policies + "default.own":        strings.Replace(newPolicy(globalPolicy("own")), `\"own\"`, `\"default.own\"`, 1),
			policies + "both":               newPolicy(globalPolicy("both")),
		}
		for key, value := range kept {
			raw(t, store, key, value)
		}
		want := []Renamed{
			{api.Key{Kind: "NetworkPolicy", Namespace: "ns", Name: "a"}, "default.a", false},
			{api.Key{Kind: "GlobalNetworkPolicy", Name: "a"}, "default.a", false},
			{api.Key{Kind: "GlobalNetworkPolicy", Name: "both"}, "default.both", true},
			{api.Key{Kind: "StagedNetworkPolicy", Namespace: "ns", Name: "a"}, "default.a", false},
			{api.Key{Kind: "StagedGlobalNetworkPolicy", Name: "a"}, "default.a", false},
		}
		for _, r := range want {
			old := r.Key
			old.Name = r.OldName
			raw(t, store, ResourceKey(old), oldPolicy(r.Key.Kind, r.OldName, "default"))
			if !r.Newer {
				kept[ResourceKey(r.Key)] = newPolicy(r.Key)
			}
		}
		before := contents(t, store)
		got, err := s.MigratePolicyNames(ctx, true)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("dry run: %v\n-want +got\n%s", err, diff)
		}
		if diff := cmp.Diff(before, contents(t, store)); diff != "" {
			t.Errorf("a dry run wrote\n%s", diff)
		}
		got, err = s.MigratePolicyNames(ctx, false)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v\n-want +got\n%s", err, diff)
		}
		if diff := cmp.Diff(kept, contents(t, store)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		if again, err := s.MigratePolicyNames(ctx, false); len(again) > 0 || err != nil {
			t.Errorf("once more: %v, %v", again, err)
		}
	})
}

// racing is a store in which somebody else changes a policy just before it is moved.
type racing struct {
	*kvtest.Memory
	race func()
}

func (r *racing) Commit(ctx context.Context, conditions []Condition, writes []Write) (Outcome, error) {
	if r.race != nil {
		race := r.race
		r.race = nil
		race()
	}
	return r.Memory.Commit(ctx, conditions, writes)
}

func TestAChangeWhileAPolicyMovesIsNotLost(t *testing.T) {
	t.Parallel()
	old := oldPolicy("GlobalNetworkPolicy", "default.a", "default")
	changed := strings.Replace(old, "all()", "has(x)", 1)
	for name, c := range map[string]struct {
		race func(t *testing.T, m *kvtest.Memory)
		want map[string]string
		done int
	}{
		"it was changed": {
			func(t *testing.T, m *kvtest.Memory) { raw(t, m, policies+"default.a", changed) },
			map[string]string{policies + "a": strings.Replace(newPolicy(globalPolicy("a")), "all()", "has(x)", 1)}, 1,
		},
		"it was deleted": {
			func(t *testing.T, m *kvtest.Memory) {
				if _, err := m.Commit(testContext(t), nil, []Write{{Key: policies + "default.a", Delete: true}}); err != nil {
					t.Fatal(err)
				}
			},
			map[string]string{}, 0,
		},
		"its own name was taken": {
			func(t *testing.T, m *kvtest.Memory) { raw(t, m, policies+"a", "newer") },
			map[string]string{policies + "a": "newer"}, 1,
		},
	} {
		m := kvtest.NewMemory()
		raw(t, m, policies+"default.a", old)
		done, err := New(&racing{m, func() { c.race(t, m) }}).MigratePolicyNames(testContext(t), false)
		if err != nil || len(done) != c.done {
			t.Errorf("%s: %v, %v", name, done, err)
		}
		if diff := cmp.Diff(c.want, contents(t, m)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}
