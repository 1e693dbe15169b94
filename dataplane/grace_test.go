package dataplane

import (
	"testing"
	"time"
)

func TestGracePeriodsEndEvenUnderConstantChange(t *testing.T) {
	var g grace
	start := time.Unix(0, 0)
	wake := make(chan struct{}, 8)
	g.after(1, start)
	g.after(2, start.Add(500*time.Millisecond))
	if _, passed := g.passed(start.Add(900*time.Millisecond), nil); passed {
		t.Error("the grace period ended too early")
	}
	for _, want := range []uint64{1, 2} {
		at := start.Add(time.Duration(want) * 2 * time.Second)
		g.passed(at, func() { wake <- struct{}{} }) // starts the wait for the kernel
		<-wake
		if got, passed := g.passed(at, nil); !passed || got != want {
			t.Errorf("got %d %v, want %d", got, passed, want)
		}
	}
	if _, waits := g.due(); waits {
		t.Error("a grace period is still pending")
	}
}
