package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/interfaces"
)

// Event is a verdict as the program told it: a packet that was dropped, a new connection, or a Log rule that matched. bpfLogLevel
// decides which of them are told.
type Event struct {
	Kind                string // drop, allow, log
	Reason              string
	ByPolicy            bool // a rule decided, or no rule allows the packet; otherwise the program did, see Reason
	Interface           string
	Endpoint            calc.EndpointID
	Stage               string
	Direction           string      // of the policy: packets from a workload are its egress
	Rule                calc.RuleID // zero: no rule decided
	Protocol            uint8
	Source, Destination netip.AddrPort
	ICMPType, ICMPCode  uint8
	Length              uint32
	Since               time.Duration // since the host started, by the kernel's coarse clock
}

// Follow calls do with each event, on the caller's goroutine, until the context ends. There is one follower at a time. Events
// begin with the first pass after InSync; Follow waits for it.
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
		Kind: kind, Reason: e.Reason.String(), ByPolicy: e.Reason == bpf.DropPolicy || e.Reason == bpf.DropEndOfPolicy || e.Reason == bpf.PassPolicy,
		Interface: d.plan.links[int(e.Ifindex)].Name,
		Endpoint:  d.plan.names[e.Endpoint], Stage: stageName(e.Stage), Direction: d.directionOf(e), Rule: d.rules.of[e.Rule],
		Protocol: e.Proto, Source: e.Source, Destination: e.Dest, ICMPType: e.ICMPType, ICMPCode: e.ICMPCode,
		Length: e.Length, Since: e.Time,
	}
}

// directionOf returns the direction of the stage that judged the packet. If no stage did, the hook and the interface tell.
func (d *Driver) directionOf(e bpf.Event) string {
	if _, direction, judged := strings.Cut(stageName(e.Stage), " "); e.Rule != 0 && judged {
		return direction
	}
	fromWorkload := d.plan.assigned[int(e.Ifindex)].Role == interfaces.Workload
	if (e.Hook == bpf.Egress) != fromWorkload {
		return calc.Egress.String()
	}
	return calc.Ingress.String()
}
