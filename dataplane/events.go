package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
)

// Event is a verdict as the program told it: a packet that was dropped, a new flow, or a Log rule that matched. Which of
// them are told follows bpfLogLevel.
type Event struct {
	Kind                string // drop, allow, log
	Reason              string
	Interface           string
	Endpoint            calc.EndpointID
	Stage               string
	Rule                calc.RuleID // zero: no rule decided
	Protocol            uint8
	Source, Destination netip.AddrPort
	ICMPType, ICMPCode  uint8
	Length              uint32
	Since               time.Duration // the kernel's coarse clock
}

// Follow calls with each event until the context ends. There is one follower at a time; it runs on the caller's
// goroutine. Before the first pass after InSync there is nothing to follow, and it waits.
func (d *Driver) Follow(ctx context.Context, do func(Event)) error {
	events, err := d.openEvents(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	defer stop()
	for {
		raw, err := events.Next()
		switch {
		case errors.Is(err, bpf.ErrClosed):
			return ctx.Err()
		case err != nil:
			return errors.Join(fmt.Errorf("follow events: %w", err), events.Close())
		}
		do(d.event(raw))
	}
}

func (d *Driver) openEvents(ctx context.Context) (*bpf.Events, error) {
	for {
		d.mu.Lock()
		if d.shared != nil {
			defer d.mu.Unlock()
			return d.shared.ReadEvents()
		}
		d.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (d *Driver) event(e bpf.Event) Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := map[bpf.EventKind]string{bpf.EventDrop: "drop", bpf.EventAllow: "allow", bpf.EventLog: "log"}[e.Kind]
	return Event{
		Kind: kind, Reason: e.Reason.String(), Interface: d.plan.links[int(e.Ifindex)].Name,
		Endpoint: d.plan.names[e.Endpoint], Stage: stageName(e.Stage), Rule: d.rules.of[e.Rule],
		Protocol: e.Proto, Source: e.Source, Destination: e.Dest, ICMPType: e.ICMPType, ICMPCode: e.ICMPCode,
		Length: e.Length, Since: e.Time,
	}
}
