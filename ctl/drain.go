package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
)

func newDrain(s *session) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Take a node's routes out of BGP before maintenance",
		Long: `Take a node's routes out of BGP before maintenance. The node first announces its routes with the community GRACEFUL_SHUTDOWN
(RFC 8326) and, to peers of its own AS, the local preference 0, so that peers move to other paths if they have any. After the
time of --wait it announces no routes. Its sessions stay up.

On the node itself the command looks at what felix does: the time of --wait begins when felix announces its routes with the community, and
the command ends when it announces none. On another machine it cannot see that, and only waits.

The state is kept in the annotation margay.io/drain of the Node, so a restart does not end it, and margayctl status shows it.
margayctl node undrain ends it. If the command is interrupted while it waits, the node goes on draining: run it again, or undrain.`,
		Example:           "  margayctl node drain node-a --wait 2m",
		Args:              arguments.Exactly(1, "NODE"),
		ValidArgsFunction: completeNode(s),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.drain(cmd.Context(), args[0], wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long peers have to move to other paths")
	s.addAgentFlag(cmd)
	return cmd
}

func newUndrain(s *session) *cobra.Command {
	return &cobra.Command{
		Use:               "undrain NODE",
		Short:             "Let a drained node announce its routes again",
		Example:           "  margayctl node undrain node-a",
		Args:              arguments.Exactly(1, "NODE"),
		ValidArgsFunction: completeNode(s),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := s.setDrain(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			if before == "" {
				fmt.Fprintf(s.stdout, "Node %s was not drained\n", args[0])
				return nil
			}
			fmt.Fprintf(s.stdout, "Node %s announces its routes again\n", args[0])
			return nil
		},
	}
}

func completeNode(s *session) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(given) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return s.namesOf(cmd.Context(), "node", nil), cobra.ShellCompDirectiveNoFileComp
	}
}

func (s *session) drain(ctx context.Context, node string, wait time.Duration) error {
	switch before, err := s.setDrain(ctx, node, api.Draining); {
	case err != nil:
		return err
	case before == api.Drained:
		fmt.Fprintf(s.stdout, "Node %s is drained already: it announces no routes\n", node)
		return nil
	}
	here := s.runsHere(ctx, node)
	if here {
		routes, err := s.awaitAnnounced(ctx, node, "announce its routes with GRACEFUL_SHUTDOWN", isLastChoice)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.stdout, "Node %s drains: felix announces %d routes with GRACEFUL_SHUTDOWN, and peers have %v to move to other paths\n", node, len(routes), wait)
	} else {
		fmt.Fprintf(s.stdout, "Node %s drains: peers have %v to move to other paths. Its felix is not on this machine, so what it announces cannot be seen\n", node, wait)
	}
	if err := s.pause(ctx, wait); err != nil {
		return interruptedDrain(node)
	}
	if _, err := s.setDrain(ctx, node, api.Drained); err != nil {
		return err
	}
	if !here {
		fmt.Fprintf(s.stdout, "Node %s is drained: its felix withdraws its routes\n", node)
		return nil
	}
	if _, err := s.awaitAnnounced(ctx, node, "withdraw its routes", isNothing); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "Node %s is drained: it announces no routes\n", node)
	return nil
}

// setDrain writes the annotation, and returns the one before. An empty state removes it. A drained node does not begin to drain again: it
// would announce its routes. A node that somebody has undrained meanwhile does not become drained.
func (s *session) setDrain(ctx context.Context, node, state string) (before string, err error) {
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return "", err
	}
	defer closeStore()
	err = s.retry(ctx, false, func() error {
		n, err := st.Get(ctx, api.Key{Kind: api.KindNode, Name: node})
		if err != nil {
			return err
		}
		meta := n.Meta()
		var there bool
		before, there = meta.Annotations[api.DrainAnnotation]
		switch {
		case state == "" && !there, state != "" && before == state, state == api.Draining && before == api.Drained:
			return nil
		case state == api.Drained && before != api.Draining:
			return fmt.Errorf("node %s was undrained meanwhile, so it goes on announcing its routes", node)
		case state == "":
			delete(meta.Annotations, api.DrainAnnotation)
		default:
			if meta.Annotations == nil {
				meta.Annotations = map[string]string{}
			}
			meta.Annotations[api.DrainAnnotation] = state
		}
		_, err = st.Update(ctx, n)
		return err
	})
	return before, err
}
