package dataplane

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/calc"
)

func TestAFailedDetachKeepsTheWholePolicyOfTheHost(t *testing.T) {
	h := newHost(t)
	outside := h.uplink()
	for _, port := range []int{22, 80, 81} {
		h.Echo(port)
	}
	client := h.plug("cali1", "10.65.0.1")
	c := &clock{time.Now()}
	broken := true
	w := newWorld()
	other := w.workload(client)
	id := w.protectHost("eth0", "eth0", 80)
	d := h.run(w, Options{clock: c.time, step: func(what string) error {
		if broken && strings.HasPrefix(what, "detach interface") {
			return errors.New("injected")
		}
		return nil
	}})
	defer func() { must(t, d.Uninstall()) }()
	delete(w.Endpoints, id)
	delete(w.Policies, calc.PolicyID{Kind: "GlobalNetworkPolicy", Name: "default.host"})
	if d.become(w) == nil {
		t.Error("the failed detach is not reported")
	}
	for i := range 20 { // other objects reuse the numbers of its policy
		w.protect(other, uint16(1000+i))
		_ = d.become(w)
		c.now = c.now.Add(time.Hour)
		_ = d.Apply(calc.Delta{})
		h.until("the end of the kernel's grace period", func() bool {
			answer := d.generations.newest().reuse.answer
			return answer == nil || len(answer) > 0
		})
	}
	if !outside.Reaches("tcp", hostAddress, 80) || !outside.Reaches("tcp", hostAddress, 22) || outside.ReachesAtOnce("tcp", hostAddress, 81) {
		t.Error("the interface that could not be detached has lost its policy")
	}
	broken = false
	c.now = c.now.Add(time.Hour)
	must(t, d.Apply(calc.Delta{}))
	if !outside.Reaches("tcp", hostAddress, 81) {
		t.Error("the host is still under policy")
	}
	if got := d.Status(); len(got.Problems) > 0 {
		t.Error(got.Problems)
	}
}

func TestAClosedDriverStillAnswers(t *testing.T) {
	h := newHost(t)
	client, _ := h.pair()
	w := newWorld()
	w.workload(client)
	d := h.run(w, Options{})
	must(t, d.Close())
	other := h.start(Options{})
	d.Status()
	if _, err := d.Dump(10); err != nil {
		t.Log(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := d.Follow(ctx, func(Event) {}); err == nil {
		t.Error("a closed driver delivers events")
	}
	must(t, other.Uninstall())
}
