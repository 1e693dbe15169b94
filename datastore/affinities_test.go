package datastore

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

func TestBlocksThatNodesClaimAreReadAndNeverWritten(t *testing.T) {
	t.Parallel()
	kv := kvtest.NewMemory()
	raw(t, kv, "/calico/ipam/v2/host/n1", "{}")
	raw(t, kv, "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-26", `{"state":"confirmed","deleted":false}`)
	raw(t, kv, "/calico/ipam/v2/host/n1/ipv6/block/fd00:1::-122", `{"state":"pending","deleted":true}`)
	raw(t, kv, "/calico/ipam/v2/host/n2/ipv4/block/10.0.0.64-26", "no JSON")
	ctx, s := testContext(t), New(kv)
	objects, _, err := s.List(ctx, "blockaffinities", "")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]api.ClaimedBlockSpec{}
	for _, o := range objects {
		got[o.Meta().Name] = o.(*api.ClaimedBlock).Spec
	}
	want := map[string]api.ClaimedBlockSpec{
		"n1-10-0-0-0-26":  {State: "confirmed", Node: "n1", Type: "host", CIDR: "10.0.0.0/26", Deleted: "false"},
		"n1-fd00-1---122": {State: "pending", Node: "n1", Type: "host", CIDR: "fd00:1::/122", Deleted: "true"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	key := api.Key{Kind: "BlockAffinity", Name: "n1-10-0-0-0-26"}
	o, err := s.Get(ctx, key)
	if err != nil || api.KeyOf(o) != key {
		t.Errorf("%v %v", o, err)
	}
	var missing NotFoundError
	if _, err := s.Get(ctx, api.Key{Kind: "BlockAffinity", Name: "n3"}); !errors.As(err, &missing) {
		t.Errorf("%v", err)
	}
	var unsupported UnsupportedError
	if _, err := s.Create(ctx, o); !errors.As(err, &unsupported) {
		t.Errorf("create: %v", err)
	}
	if _, err := s.Update(ctx, o); !errors.As(err, &unsupported) {
		t.Errorf("update: %v", err)
	}
	if _, err := s.Delete(ctx, key, ""); !errors.As(err, &unsupported) {
		t.Errorf("delete: %v", err)
	}
}
