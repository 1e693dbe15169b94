package datastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/margay-project/margay/datastore/kv"
)

// AgentRecord is what the agent of a node keeps in the datastore for its next start. It lies beside Calico's objects, not
// in the Node: whoever applies a manifest of the Node would delete it there.
type AgentRecord struct {
	// Uplinks are the interfaces that the host needs or needed before, by name, and what they carried.
	Uplinks map[string]string `json:"uplinks,omitempty"`

	// FoundV4 and FoundV6 are the addresses that agents of the node found on its host and wrote into its Node, with the
	// length of their networks. An agent replaces no others.
	FoundV4 string `json:"foundIPv4,omitempty"`
	FoundV6 string `json:"foundIPv6,omitempty"`

	// Agent is who wrote the record last.
	Agent AgentIdentity `json:"agent"`
}

// AgentIdentity tells the agents of different machines apart, also those of copies of one machine.
type AgentIdentity struct {
	ID   string `json:"id,omitempty"`   // of a boot of a machine, and of a network namespace of it
	Host string `json:"host,omitempty"` // the machine, in words for people
}

// Equal compares two records.
func (r AgentRecord) Equal(o AgentRecord) bool {
	return maps.Equal(r.Uplinks, o.Uplinks) && r.FoundV4 == o.FoundV4 && r.FoundV6 == o.FoundV6 && r.Agent == o.Agent
}

func recordKey(node string) string { return rootKey + "margay/v1/agents/" + node }

// ReadAgentRecord reads the record of a node; the zero value when there is none, or none that can be read.
func (s *Store) ReadAgentRecord(ctx context.Context, node string) (r AgentRecord, revision int64, err error) {
	entry, err := kv.Get(ctx, s.kv, recordKey(node), 0)
	if err != nil {
		return r, 0, fmt.Errorf("read the record of node %s: %w", node, err)
	}
	if entry != nil && json.Unmarshal(entry.Value, &r) != nil {
		r = AgentRecord{}
	}
	return r, kv.RevisionOf(entry), nil
}

// ErrRecordChanged says that the record of a node was written by somebody else since it was read.
var ErrRecordChanged = errors.New("somebody else wrote it since it was read")

// WriteAgentRecord replaces the record of a node if it is still that of a revision; 0 is the revision of none.
func (s *Store) WriteAgentRecord(ctx context.Context, node string, r AgentRecord, revision int64) error {
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	key := recordKey(node)
	outcome, err := s.kv.Commit(ctx, []Condition{{Key: key, Revision: revision}}, []Write{{Key: key, Value: value}})
	if err == nil && !outcome.Done && !outcome.Echo {
		err = ErrRecordChanged
	}
	if err != nil {
		return fmt.Errorf("write the record of node %s: %w", node, err)
	}
	return nil
}
