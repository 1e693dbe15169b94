package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/print"
)

func newNode(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "node",
		Short:   "Show this node's BGP sessions, check it, and collect diagnostics",
		Example: "  margayctl node status\n  margayctl node checksystem",
		Args:    arguments.NoSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNodeStatus(s), newCheckSystem(s), newDiags(s), newNodeRun())
	return cmd
}

func newNodeStatus(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print this node's BGP sessions, in the tables of calicoctl",
		Long: `Print this node's BGP sessions, in the tables of calicoctl. The sessions are those of felix; Margay does not use BIRD.

margayctl status prints more, and its exit code says whether the node is degraded.`,
		Example: `  margayctl node status`,
		Args:    arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.nodeStatus(cmd.Context())
		},
	}
	s.addAgentFlag(cmd)
	return cmd
}

func (s *session) nodeStatus(ctx context.Context) error {
	var answer *agentv1.StatusResponse
	err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) (err error) {
		answer, err = agent.Status(ctx, &agentv1.StatusRequest{})
		return err
	})
	if err != nil {
		return hints.With(errors.New("felix is not running, or does not answer"), err.Error())
	}
	fmt.Fprintln(s.stdout, "felix is running.")
	s.printPeers("IPv4", answer.Peers, netip.Addr.Is4)
	s.printPeers("IPv6", answer.Peers, netip.Addr.Is6)
	fmt.Fprintln(s.stdout)
	return nil
}

func (s *session) printPeers(family string, peers []*agentv1.Peer, ofFamily func(netip.Addr) bool) {
	var rows [][]string
	for _, p := range peers {
		addr, port := p.Address, ""
		parsed, err := netip.ParseAddr(addr)
		if with, portErr := netip.ParseAddrPort(addr); err != nil && portErr == nil {
			parsed, err, port = with.Addr(), nil, fmt.Sprintf(" port %d", with.Port())
		}
		if err == nil && ofFamily(parsed.Unmap()) {
			rows = append(rows, peerRow(p, parsed.String()+port))
		}
	}
	fmt.Fprintf(s.stdout, "\n%s BGP status\n", family)
	if len(rows) == 0 {
		fmt.Fprintf(s.stdout, "No %s peers found.\n", family)
		return
	}
	print.Box(s.stdout, []string{"PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"}, rows)
}

// peerRow describes a peer in BIRD's words: up, or start with the reason why the session is not established.
func peerRow(p *agentv1.Peer, addr string) []string {
	state, info := "start", sentence(p.State)
	if p.State == "established" {
		state = "up"
	}
	if p.Error != "" {
		info += ": " + p.Error
	}
	since := ""
	if p.Since != 0 {
		since = time.Unix(0, p.Since).UTC().Format(time.DateTime)
	}
	return []string{addr, "BGPPeer " + p.Name, state, since, info}
}

// sentence returns a text with a capital first letter.
func sentence(word string) string {
	if word == "" || word[0] < 'a' || word[0] > 'z' {
		return word
	}
	return string(word[0]-'a'+'A') + word[1:]
}
