package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

const (
	gracefulShutdown = "65535:0"   // RFC 8326
	drainPatience    = time.Minute // for felix to follow the annotation: it takes milliseconds unless something is wrong
	drainLook        = 250 * time.Millisecond
)

// runsHere says whether the agent on this machine is that of a node.
func (s *session) runsHere(ctx context.Context, node string) bool {
	here := false
	err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) error {
		answer, err := agent.Status(ctx, &agentv1.StatusRequest{})
		here = err == nil && answer.Node == node
		return err
	})
	return err == nil && here
}

// announced returns what the agent on this machine announces.
func (s *session) announced(ctx context.Context) (list []*agentv1.Announcement, err error) {
	err = s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) error {
		answer, err := agent.Dump(ctx, &agentv1.DumpRequest{Tables: []string{"announcements"}})
		if err != nil {
			return err
		}
		for _, table := range answer.Unread {
			return errors.New(table.Reason)
		}
		list = answer.Announcements
		return nil
	})
	return list, err
}

// awaitAnnounced waits until what the agent announces fulfils a condition, and returns it. wanted says what the agent should do, for an error.
func (s *session) awaitAnnounced(ctx context.Context, node, wanted string, is func([]*agentv1.Announcement) bool) ([]*agentv1.Announcement, error) {
	for deadline := s.now().Add(drainPatience); ; {
		list, err := s.announced(ctx)
		if err == nil && is(list) {
			return list, nil
		}
		if s.now().After(deadline) {
			if err == nil {
				err = fmt.Errorf("it announces %d routes", len(list))
			}
			return nil, fmt.Errorf("felix does not %s: %w; margayctl status says what is wrong. Node %s stays as it is: run margayctl node drain again, or undrain",
				wanted, err, node)
		}
		if err := s.pause(ctx, drainLook); err != nil {
			return nil, interruptedDrain(node)
		}
	}
}

// isLastChoice says whether every route is announced with GRACEFUL_SHUTDOWN.
func isLastChoice(list []*agentv1.Announcement) bool {
	return !slices.ContainsFunc(list, func(a *agentv1.Announcement) bool { return !slices.Contains(a.Communities, gracefulShutdown) })
}

func isNothing(list []*agentv1.Announcement) bool { return len(list) == 0 }

func interruptedDrain(node string) error {
	return fmt.Errorf("interrupted: node %s goes on draining; run margayctl node drain or undrain", node)
}
