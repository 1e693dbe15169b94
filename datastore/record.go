package datastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/margay-project/margay/datastore/kv"
)

// AgentRecord is the state that the agent of a node keeps in the datastore for its next start. It has a key of its own, outside of
// Calico's objects: in the Node it would be lost when somebody applies a manifest of the Node.
type AgentRecord struct {
	// Uplinks holds, by name, the interfaces that the host needs or needed before, and the reason.
	Uplinks map[string]string `json:"uplinks,omitempty"`

	// FoundV4 and FoundV6 are the addresses that an agent found on the host and wrote into the Node, with the prefix length of
	// their networks. An agent replaces only these: others were written by an operator.
	FoundV4 string `json:"foundIPv4,omitempty"`
	FoundV6 string `json:"foundIPv6,omitempty"`

	// Agent is the agent that wrote the record last.
	Agent AgentIdentity `json:"agent"`
}

// AgentIdentity distinguishes the agents of different machines, also of two copies of one machine.
type AgentIdentity struct {
	ID   string `json:"id,omitempty"`   // identifies one boot of a machine, and a network namespace on it
	Host string `json:"host,omitempty"` // name of the machine, for messages
}

// Equal says whether two records are equal.
func (r AgentRecord) Equal(o AgentRecord) bool {
	return maps.Equal(r.Uplinks, o.Uplinks) && r.FoundV4 == o.FoundV4 && r.FoundV6 == o.FoundV6 && r.Agent == o.Agent
}

func recordKey(node string) string { return rootKey + "margay/v1/agents/" + node }

// ReadAgentRecord reads the record of a node, and its revision for WriteAgentRecord. It returns the zero record if there is none, or
// it is unreadable.
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

// ErrRecordChanged says that another program wrote the record of a node since it was read.
var ErrRecordChanged = errors.New("another agent wrote it since it was read")

// WriteAgentRecord replaces the record of a node, if it still has the revision at which it was read; 0 means that there was none. The
// error is ErrRecordChanged otherwise.
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
