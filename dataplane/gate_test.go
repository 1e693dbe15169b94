package dataplane

import (
	"testing"
	"time"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/gate"
)

func TestARemovedGateIsRestored(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	c := &clock{time.Now()}
	w := newWorld()
	w.workload(client)
	w.workload(server)
	d := h.run(w, Options{clock: c.time})
	defer func() { must(t, d.Uninstall()) }()
	must(t, gate.Remove()) // by this process: the Driver ignores notifications of its own process
	c.later()
	must(t, d.Apply(calc.Delta{}))
	if there, err := gate.Exists(); !there || err != nil {
		t.Errorf("the gate is not there: %v", err)
	}
	if !client.Reaches("tcp", server.Addresses[0], 80) {
		t.Error("the server does not answer")
	}
}

func TestPolicyIsInForceWithoutTheGate(t *testing.T) {
	h := newHost(t)
	client, server := h.pair()
	w := newWorld()
	w.workload(client)
	w.protect(w.workload(server), 80)
	d := h.start(Options{step: (&fault{what: "gate"}).step})
	defer func() { must(t, d.Uninstall()) }()
	d.InSync()
	if d.become(w) == nil || len(d.Status().Problems) == 0 {
		t.Error("a missing gate is not reported")
	}
	if to := server.Addresses[0]; !client.Reaches("tcp", to, 80) || client.ReachesAtOnce("tcp", to, 81) {
		t.Error("policy is not in force")
	}
}
