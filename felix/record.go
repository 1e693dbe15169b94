package main

import (
	"context"
	"time"

	"github.com/margay-project/margay/datastore"
)

// formerRecord reads what the agent of this node recorded before this start. It tries until it knows or ctx ends: without the
// record an uplink that carries nothing at this moment could become a workload's.
func (r *registrar) formerRecord(ctx context.Context, store *datastore.Store) datastore.AgentRecord {
	for {
		former, _, err := readRecord(ctx, store, r.settings.nodeName)
		r.noteRecord(err)
		if err == nil || ctx.Err() != nil {
			return former
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func readRecord(ctx context.Context, store *datastore.Store, node string) (datastore.AgentRecord, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, connectionPatience)
	defer cancel()
	return store.ReadAgentRecord(ctx, node)
}

// remember has the record written if it is another one. Only the newest matters.
func (r *registrar) remember(record datastore.AgentRecord) {
	select {
	case <-r.news:
	default:
	}
	r.news <- record
}

// keepRecord writes the record unless it is as it should be.
func (r *registrar) keepRecord(ctx context.Context, store *datastore.Store) {
	if r.record == nil {
		return
	}
	stored, revision, err := readRecord(ctx, store, r.settings.nodeName)
	should := stored
	should.Uplinks = r.record.Uplinks
	if err == nil && !stored.Equal(should) {
		err = store.WriteAgentRecord(ctx, r.settings.nodeName, should, revision)
	}
	if ctx.Err() == nil {
		r.noteRecord(err)
	}
}

// noteRecord logs what is in the way of the record, once.
func (r *registrar) noteRecord(err error) {
	if now := text(err); now != r.failing {
		r.failing = now
		if err != nil {
			r.log.WithError(err).Warn("what this agent must know at its next start is not recorded; trying again")
		}
	}
}
