package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/margay-project/margay/datastore"
)

// formerRecord reads the record of this node's former agent. It tries until it has read it or ctx ends: without the record, an
// uplink that carries nothing at this moment could become a workload's interface.
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

// remember has run write the record. A newer one replaces one that is not written yet.
func (r *registrar) remember(record datastore.AgentRecord) {
	select {
	case <-r.news:
	default:
	}
	r.news <- record
}

// keepRecord writes the record if the stored one differs.
func (r *registrar) keepRecord(ctx context.Context, store *datastore.Store) {
	if r.record == nil {
		return
	}
	stored, revision, err := readRecord(ctx, store, r.settings.nodeName)
	should := stored
	should.Uplinks, should.Agent = r.record.Uplinks, r.identity
	r.lookForTwin(stored.Agent)
	if err == nil && !stored.Equal(should) {
		err = store.WriteAgentRecord(ctx, r.settings.nodeName, should, revision)
	}
	if err == nil {
		r.written = true
	}
	if ctx.Err() == nil {
		r.noteRecord(err)
	}
}

// lookForTwin notices another agent with the same node name: one that wrote the record after this agent did. The writer before this
// agent's first write may have ended.
func (r *registrar) lookForTwin(writer datastore.AgentIdentity) {
	if !r.written || writer.ID == "" || writer.ID == r.identity.ID {
		return
	}
	now := twin{writer.Host, time.Now()}
	if old := r.twin.Swap(&now); old == nil || old.host != now.host || time.Since(old.seen) > twinGone {
		r.log.WithField("other", now.host).Warn("another felix runs under this node's name: " + r.twinAdvice())
	}
}

// twin is another agent with the same node name.
type twin struct {
	host string
	seen time.Time
}

// Agents write the record every recordInterval if it is not theirs. A twin that has not written for twinGone has ended.
const (
	recordInterval = 15 * time.Second
	twinGone       = 4 * recordInterval
)

// twinProblem describes the other agent. It is empty if there is none.
func (r *registrar) twinProblem(now time.Time) string {
	other := r.twin.Load()
	if other == nil || now.Sub(other.seen) > twinGone {
		return ""
	}
	return fmt.Sprintf("another felix also runs as node %s: on %s; this one is on %s. %s", r.settings.nodeName, other.host, r.identity.Host, r.twinAdvice())
}

func (r *registrar) twinAdvice() string {
	return "Both enforce the endpoints and announce the addresses of the same node: give one of them another --node-name"
}

// identify returns an identity of this machine and network namespace.
func identify() (datastore.AgentIdentity, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return datastore.AgentIdentity{}, err
	}
	namespace, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return datastore.AgentIdentity{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "a machine without a name"
	}
	if m, err := readMachine(nil); err == nil {
		for _, a := range m.addresses {
			if a.prefix.Addr().IsGlobalUnicast() && !a.temporary && !inner.MatchString(a.iface) {
				host += " (" + a.prefix.Addr().String() + ")"
				break
			}
		}
	}
	return datastore.AgentIdentity{ID: strings.TrimSpace(string(boot)) + " " + namespace, Host: host}, nil
}

// noteRecord logs an error of the record once.
func (r *registrar) noteRecord(err error) {
	if now := text(err); now != r.failing {
		r.failing = now
		if err != nil {
			r.log.WithError(err).Warn("the record for the next start of felix cannot be written; felix tries again")
		}
	}
}
