package datastore_test

import (
	"context"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

func objectsOf(t *testing.T, text string) []api.Object {
	t.Helper()
	objects, err := api.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestDryRunSeesItsOwnWritesAndNobodyElseDoes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	store := datastore.New(kvtest.NewMemory())
	if err := store.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	dry := store.DryRun()
	for _, o := range objectsOf(t, `
{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: late}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: p}, spec: {tier: late, selector: all(), types: [Ingress]}}
`) {
		if _, err := dry.Create(ctx, o); err != nil {
			t.Fatalf("%v: %v", api.KeyOf(o), err)
		}
		if _, err := dry.Create(ctx, o); err == nil {
			t.Errorf("%v was created twice", api.KeyOf(o))
		}
	}
	tiers, _, err := dry.List(ctx, "Tier", "")
	if err != nil || len(tiers) != 4 {
		t.Errorf("the dry run lists %d tiers, want the three built in and its own: %v", len(tiers), err)
	}
	tier := api.Key{Kind: "Tier", Name: "late"}
	if _, err := dry.Delete(ctx, tier, ""); err == nil {
		t.Error("a tier with a policy in it was deleted")
	}
	if _, err := dry.Delete(ctx, api.Key{Kind: "GlobalNetworkPolicy", Name: "p"}, ""); err != nil {
		t.Error(err)
	}
	if _, err := dry.Delete(ctx, tier, ""); err != nil {
		t.Error(err)
	}
	if _, err := dry.Get(ctx, tier); err == nil {
		t.Error("the dry run still has what it deleted")
	}
	if _, err := store.Get(ctx, tier); err == nil {
		t.Error("a dry run was written")
	}
}

func TestEqualMeansThatAnUpdateChangesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	store := datastore.New(kvtest.NewMemory())
	pool := objectsOf(t, `{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}, spec: {cidr: 10.0.0.0/16}}`)[0]
	current, err := store.Create(ctx, pool)
	if err != nil {
		t.Fatal(err)
	}
	*pool.Meta() = *current.Meta()
	if !datastore.Equal(current, pool) {
		t.Error("a pool that leaves out defaults differs from what was stored of it")
	}
	pool.Meta().Labels = map[string]string{"a": "b"}
	if datastore.Equal(current, pool) {
		t.Error("another label is no difference")
	}
}
