package datastore

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

func TestWritesOfAgentsAreRefusedWhileLocked(t *testing.T) {
	t.Parallel()
	memory := kvtest.NewMemory()
	operator := New(memory)
	agent := operator.WhileUnlocked()
	must[*api.IPPool](t)(agent.Create(t.Context(), pool("before", "10.1.0.0/16")))
	lock(t, operator, true)
	before := contents(t, memory)
	if _, err := agent.Create(t.Context(), pool("during", "10.2.0.0/16")); !errors.Is(err, ErrLocked) {
		t.Errorf("create: %v", err)
	}
	if _, err := agent.Delete(t.Context(), api.KeyOf(pool("before", "10.1.0.0/16")), ""); !errors.Is(err, ErrLocked) {
		t.Errorf("delete: %v", err)
	}
	if diff := cmp.Diff(before, contents(t, memory)); diff != "" {
		t.Error(diff)
	}
	lock(t, operator, false)
	must[*api.IPPool](t)(agent.Create(t.Context(), pool("after", "10.3.0.0/16")))
}

// A lock also refuses a write that was checked before the lock was set.
func TestALockThatIsSetJustBeforeAWriteRefusesIt(t *testing.T) {
	t.Parallel()
	memory := kvtest.NewMemory()
	operator := New(memory)
	late := &outage{KV: memory, commits: 10, before: func() { lock(t, operator, true) }}
	if _, err := New(late).WhileUnlocked().Create(t.Context(), pool("late", "10.1.0.0/16")); !errors.Is(err, ErrLocked) {
		t.Errorf("create: %v", err)
	}
	if _, err := operator.Get(t.Context(), api.KeyOf(pool("late", "10.1.0.0/16"))); !isNotFound(err) {
		t.Errorf("it is written: %v", err)
	}
}

func TestAgentsDoNotWriteWhileTheLockIsUnreadable(t *testing.T) {
	t.Parallel()
	memory := kvtest.NewMemory()
	if _, err := memory.Commit(t.Context(), nil, []Write{{Key: informationKey, Value: []byte("{")}}); err != nil {
		t.Fatal(err)
	}
	_, err := New(memory).WhileUnlocked().Create(t.Context(), pool("late", "10.1.0.0/16"))
	if !errors.As(err, new(UnreadableError)) {
		t.Errorf("%v", err)
	}
}
