package dataplane

import (
	"testing"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/bpf/layout"
)

func TestARevokedConnectionIsNotShownAsApproved(t *testing.T) {
	granted := bpf.Approval{Endpoint: 1, Ifindex: 2, Epoch: 7, Stage: layout.StageNormalOut, Packets: [2]uint64{3, 2}}
	revoked := bpf.Approval{Endpoint: 2, Ifindex: 3, Stage: layout.StageNormalIn, Revoked: true, Packets: [2]uint64{1, 2}}
	for _, c := range []struct {
		name      string
		approvals [2]bpf.Approval
		state     string
		granted   int
		refused   int
	}{
		{"allowed", [2]bpf.Approval{granted}, "established", 1, 0},
		{"revoked at the replier", [2]bpf.Approval{granted, revoked}, "revoked", 1, 1},
		{"revoked at the only endpoint", [2]bpf.Approval{{}, revoked}, "revoked", 0, 1},
	} {
		got := (&Driver{}).connection(bpf.Connection{State: layout.FlowTCPEstablished, Approvals: c.approvals}, 7)
		if got.State != c.state || len(got.Approvals) != c.granted || len(got.Refusals) != c.refused {
			t.Errorf("%s: %+v, want state %s and %d approvals, %d refusals", c.name, got, c.state, c.granted, c.refused)
		}
	}
}
