package datastore_test

import (
	"errors"
	"testing"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

func TestTheRecordOfAnAgentIsKept(t *testing.T) {
	t.Parallel()
	store := datastore.New(kvtest.NewMemory())
	defer store.Close()
	ctx := t.Context()
	read := func() (datastore.AgentRecord, int64) {
		t.Helper()
		r, revision, err := store.ReadAgentRecord(ctx, "n1")
		if err != nil {
			t.Fatal(err)
		}
		return r, revision
	}
	none, revision := read()
	if !none.Equal(datastore.AgentRecord{}) || revision != 0 {
		t.Errorf("of a new node: %+v at %d", none, revision)
	}
	one := datastore.AgentRecord{Uplinks: map[string]string{"eth0": "the host's default route"}}
	if err := store.WriteAgentRecord(ctx, "n1", one, 0); err != nil {
		t.Fatal(err)
	}
	if r, _ := read(); !r.Equal(one) || r.Equal(none) {
		t.Errorf("%+v", r)
	}
	if err := store.WriteAgentRecord(ctx, "n1", none, 0); !errors.Is(err, datastore.ErrRecordChanged) {
		t.Errorf("written over another agent's: %v", err)
	}
}
