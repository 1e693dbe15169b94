package ipam_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/margay-project/margay/datastore/kv"
)

// checkedKV checks every commit: the rules between one state of the datastore and the next must hold for every writer.
type checkedKV struct {
	kv.KV
	t        *testing.T
	cooldown time.Duration
	now      *ground
	released map[netip.Addr][]holder // since a test emptied it
}

func (c *checkedKV) Commit(ctx context.Context, conditions []kv.Condition, writes []kv.Write) (kv.Outcome, error) {
	outcome, err := c.KV.Commit(ctx, conditions, writes)
	if err != nil || !outcome.Done {
		return outcome, err
	}
	before := c.now
	if c.now, err = readGround(ctx, c.KV); err != nil {
		c.t.Fatalf("%v, after a commit of %s", err, describe(writes))
	}
	if before == nil {
		return outcome, nil
	}
	if err := c.follows(before); err != nil {
		c.t.Fatalf("%v, after a commit of %s", err, describe(writes))
	}
	return outcome, nil
}

func describe(writes []kv.Write) string {
	text := ""
	for _, w := range writes {
		text += fmt.Sprintf("\n%s %s", w.Key, w.Value)
	}
	return text
}

// follows returns the fault of the change from one state to this one; empty if there is none.
func (c *checkedKV) follows(before *ground) error {
	for cidr, block := range c.now.blocks {
		was := before.blocks[cidr]
		if was == nil || was.SequenceNumber == block.SequenceNumber {
			continue
		}
		if block.SequenceNumber != was.SequenceNumber+1 {
			return fmt.Errorf("%s: the number went from %d to %d", cidr, was.SequenceNumber, block.SequenceNumber)
		}
		if err := queueFollows(was.Unallocated, block.Unallocated); err != nil {
			return fmt.Errorf("%s: %w", cidr, err)
		}
	}
	for a, was := range before.holders {
		is, taken := c.now.holders[a]
		if c.released != nil && was.handle != "" && is.handle == "" {
			c.released[a] = append(c.released[a], was)
		}
		switch {
		case was.handle != "" && is.handle != "" && was != is:
			return fmt.Errorf("%v went from %v to %v without being released", a, was, is)
		case was.handle == "" && !taken && time.Since(was.released) < c.cooldown:
			return fmt.Errorf("%v was free %v after it was released", a, time.Since(was.released))
		case was.handle != "" && !taken && c.cooldown > time.Second:
			return fmt.Errorf("%v was free at once", a)
		}
	}
	for a, is := range c.now.holders {
		if counted := c.now.handles[is.handle][blockOf(a).String()]; is.handle != "" && counted < c.now.held(is.handle, blockOf(a).String()) {
			return fmt.Errorf("%s counts %d in %v, and holds %d", is.handle, counted, blockOf(a), c.now.held(is.handle, blockOf(a).String()))
		}
	}
	return nil
}

// queueFollows checks the order of free addresses: an allocation leaves the others in order, and a freed address is appended.
func queueFollows(was, is []int) error {
	var stayed []int
	for _, at := range was {
		if slices.Contains(is, at) {
			stayed = append(stayed, at)
		}
	}
	if len(is) < len(stayed) || !slices.Equal(is[:len(stayed)], stayed) {
		return fmt.Errorf("the queue went from %v to %v", was, is)
	}
	return nil
}
