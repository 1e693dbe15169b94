package datastore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

func tier(name string) *api.Tier {
	return &api.Tier{TypeMeta: api.TypeMeta{Kind: "Tier"}, Metadata: api.Metadata{Name: name}}
}

// initialized returns a store with the objects that every datastore has.
func initialized(t *testing.T, ctx context.Context, kv KV) *Store {
	t.Helper()
	s := New(kv)
	if err := s.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTransactionIsMadeInOneRevisionOrNotAtAll(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kv KV) {
		ctx := testContext(t)
		s := initialized(t, ctx, kv)
		web := policy("web", "all()")
		web.Spec.Tier = "late"
		if _, err := s.Create(ctx, policy("old", "all()")); err != nil {
			t.Fatal(err)
		}
		tx := s.Begin()
		for _, o := range []api.Object{tier("late"), web} {
			if _, err := tx.Create(ctx, o); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tx.Delete(ctx, api.Key{Kind: "GlobalNetworkPolicy", Name: "old"}, ""); err != nil {
			t.Fatal(err)
		}
		// An object that is created and deleted in the transaction is never sent to the server.
		if _, err := tx.Create(ctx, policy("short", "all()")); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Delete(ctx, api.Key{Kind: "GlobalNetworkPolicy", Name: "short"}, ""); err != nil {
			t.Fatal(err)
		}
		before := names(t, ctx, s)
		if err := tx.Check(ctx); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, names(t, ctx, s)); diff != "" {
			t.Errorf("a check changed the store:\n%s", diff)
		}
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"Tier default", "Tier kube-admin", "Tier kube-baseline", "Tier late", "GlobalNetworkPolicy web"}, names(t, ctx, s)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		late, _ := s.Get(ctx, api.Key{Kind: "Tier", Name: "late"})
		stored, err := s.Get(ctx, api.Key{Kind: "GlobalNetworkPolicy", Name: "web"})
		if err != nil || stored.Meta().ResourceVersion != late.Meta().ResourceVersion {
			t.Errorf("the policy is of revision %s, its tier of %s: %v", stored.Meta().ResourceVersion, late.Meta().ResourceVersion, err)
		}
	})
}

func names(t *testing.T, ctx context.Context, s *Store) (out []string) {
	t.Helper()
	for _, kind := range []string{"Tier", "GlobalNetworkPolicy"} {
		objects, _, err := s.List(ctx, kind, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			out = append(out, kind+" "+o.Meta().Name)
		}
	}
	return out
}

func TestATransactionFailsIfAKeyThatItReadHasChanged(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, kv KV) {
		ctx := testContext(t)
		s := initialized(t, ctx, kv)
		for _, o := range []api.Object{tier("late"), policy("seen", "all()")} {
			if _, err := s.Create(ctx, o); err != nil {
				t.Fatal(err)
			}
		}
		seen := api.Key{Kind: "GlobalNetworkPolicy", Name: "seen"}
		for name, c := range map[string]struct {
			meanwhile func() error
			want      string
		}{
			"an object that it creates": {func() error { _, err := s.Create(ctx, policy("new", "all()")); return err },
				"update conflict: GlobalNetworkPolicy(new)"},
			"a tier that it needs": {func() error {
				late, err := s.Get(ctx, api.Key{Kind: "Tier", Name: "late"})
				if err == nil {
					_, err = s.Update(ctx, late)
				}
				return err
			}, "update conflict: Tier(late)"},
			"the old name of a policy that it creates": {func() error {
				_, err := kv.Commit(ctx, nil, []Write{{Key: policies + "default.new", Value: []byte("{}")}})
				return err
			}, "update conflict: GlobalNetworkPolicy(default.new)"},
			"an object that it only looked at": {func() error {
				o, err := s.Get(ctx, seen)
				if err == nil {
					_, err = s.Update(ctx, o)
				}
				return err
			}, "update conflict: GlobalNetworkPolicy(seen)"},
			"the pools that it checked": {func() error { _, err := s.Create(ctx, pool("other", "10.8.0.0/16")); return err },
				"update conflict: IPPool(other)"},
		} {
			tx := s.Begin()
			inTier := policy("new", "all()")
			inTier.Spec.Tier = "late"
			for _, o := range []api.Object{inTier, policy("a", "all()"), policy("z", "all()"), pool("vms", "10.7.0.0/16")} {
				if _, err := tx.Create(ctx, o); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := tx.Get(ctx, seen); err != nil {
				t.Fatal(err)
			}
			if err := c.meanwhile(); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(ctx); err == nil || err.Error() != c.want {
				t.Errorf("%s: %v, want %s", name, err, c.want)
			}
			if _, err := s.Get(ctx, api.Key{Kind: "IPPool", Name: "vms"}); err == nil {
				t.Errorf("%s: a part was written", name)
			}
			_, _ = s.Delete(ctx, api.Key{Kind: "GlobalNetworkPolicy", Name: "new"}, "")
			for _, key := range []string{resourceRoot + "ippools/other", policies + "default.new"} {
				_, _ = kv.Commit(ctx, nil, []Write{{Key: key, Delete: true}})
			}
		}
	})
}

func TestTransactionThatIsTooLargeIsRefusedWithItsSize(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := initialized(t, ctx, dial(t, etcdlab.StartServer(t, lab.ShortDir(t)).Endpoint()))
	for _, c := range []struct {
		objects, bytes int
		refused        string
	}{
		{objects: 126}, // with the tier that they are in, and that none of them has an old name
		{objects: 128, refused: "one transaction of 128 writes, 130 conditions and "},
		{objects: 60, bytes: 200 << 10, refused: "one transaction of 60 writes, 62 conditions and 123"},
	} {
		tx := s.Begin()
		for i := range c.objects {
			p := policy(fmt.Sprintf("p%d-%d", c.objects, i), "all()")
			p.Annotations = map[string]string{"filler": strings.Repeat("x", c.bytes)}
			if _, err := tx.Create(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
		for what, err := range map[string]error{"check": tx.Check(ctx), "commit": tx.Commit(ctx)} {
			if c.refused == "" && err != nil || c.refused != "" && (!errors.As(err, new(TooLargeError)) || !strings.HasPrefix(err.Error(), c.refused)) {
				t.Errorf("%s of %d objects of %d bytes: %v, want %q", what, c.objects, c.bytes, err, c.refused)
			}
		}
	}
}
