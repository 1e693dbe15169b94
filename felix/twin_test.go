package main

import (
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/kv/kvtest"
)

func TestTwoAgentsWithTheSameNodeNameDetectEachOther(t *testing.T) {
	t.Parallel()
	store := datastore.New(kvtest.NewMemory())
	defer store.Close()
	ctx := t.Context()
	agent := func(id, host string) *registrar {
		r := newRegistrar(quiet(), &settings{nodeName: "n1"}, nil)
		r.identity, r.record = datastore.AgentIdentity{ID: id, Host: host}, &datastore.AgentRecord{}
		return r
	}
	one, two := agent("boot1", "web-1 (192.0.2.1)"), agent("boot2", "web-2 (192.0.2.2)")
	one.keepRecord(ctx, store)
	one.keepRecord(ctx, store)
	if problem := one.twinProblem(time.Now()); problem != "" {
		t.Errorf("a single agent reports %s", problem)
	}
	again := agent("boot1", "web-1 (192.0.2.1)") // the same machine after a restart of felix
	again.keepRecord(ctx, store)
	if problem := again.twinProblem(time.Now()); problem != "" {
		t.Errorf("after a restart the agent reports %s", problem)
	}
	two.keepRecord(ctx, store)
	if problem := two.twinProblem(time.Now()); problem != "" {
		t.Errorf("the other agent may have ended, but the problem is %s", problem)
	}
	one.keepRecord(ctx, store)
	two.keepRecord(ctx, store)
	for r, other := range map[*registrar]string{one: "web-2 (192.0.2.2)", two: "web-1 (192.0.2.1)"} {
		problem := r.twinProblem(time.Now())
		if !strings.Contains(problem, "another felix also runs as node n1: on "+other) || !strings.Contains(problem, "--node-name") {
			t.Errorf("%s reports %q", r.identity.Host, problem)
		}
		if problem := r.twinProblem(time.Now().Add(twinGone + time.Minute)); problem != "" {
			t.Errorf("after the other agent has ended the problem is %s", problem)
		}
	}
}

func TestTheIdentityOfAMachineStaysTheSame(t *testing.T) {
	t.Parallel()
	one, err := identify()
	must(t, err)
	two, err := identify()
	must(t, err)
	if one != two || one.ID == "" || one.Host == "" {
		t.Errorf("%+v and %+v", one, two)
	}
}
