package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
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
	cmd.AddCommand(newNodeStatus(s), newCheckSystem(s), newDiags(s), newDrain(s), newUndrain(s), newNodeRun())
	return cmd
}

func newNodeStatus(s *session) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print this node's BGP sessions, in the tables of calicoctl",
		Long: `Print this node's BGP sessions. The sessions are those of felix; Margay does not use BIRD.

The first five columns are those of calicoctl. Then come the BGPPeer or the node of the mesh, its AS number, and the prefixes that
the peer has sent (RECEIVED), that the kernel has with a next hop from it (USED), and that the peer has from this node
(ANNOUNCED). FLAPS counts how often the established session was lost. Below a table, a line for each session says why it is not
established, or its last error.

The exit code is 1 if a session is not established, or an object about BGP is not in force as written. margayctl status
prints the rest of the node.

-o json prints the fields node, peers and problems of the message StatusResponse of api/agent/v1/agent.proto.`,
		Example: `  margayctl node status
  margayctl node status -o json | jq '.peers[] | select(.state != "established")'`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := print.CheckOutput(output); err != nil {
				return err
			}
			return s.nodeStatus(cmd.Context(), output)
		},
	}
	s.addAgentFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	return cmd
}

func (s *session) nodeStatus(ctx context.Context, output string) error {
	var answer *agentv1.StatusResponse
	err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) (err error) {
		answer, err = agent.Status(ctx, &agentv1.StatusRequest{})
		return err
	})
	if err != nil {
		return hints.With(errors.New("felix is not running, or does not answer"), err.Error())
	}
	bgp := &agentv1.StatusResponse{Node: answer.Node, Peers: answer.Peers, Problems: bgpProblems(answer.Problems)}
	if output != "table" {
		if err := print.Message(s.stdout, bgp, output); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(s.stdout, "felix is running.")
		s.printPeers("IPv4", bgp.Peers, netip.Addr.Is4)
		s.printPeers("IPv6", bgp.Peers, netip.Addr.Is6)
		fmt.Fprintln(s.stdout)
	}
	if reasons := degraded(&agentv1.StatusResponse{Datastore: inSync(), Peers: bgp.Peers, Problems: bgp.Problems}); len(reasons) > 0 {
		return errors.New("degraded: " + strings.Join(reasons, "\ndegraded: "))
	}
	return nil
}

// inSync returns a datastore about which degraded has nothing to say: margayctl status does.
func inSync() *agentv1.Datastore {
	return &agentv1.Datastore{Connected: true, InSync: true, Ready: true}
}

// bgpProblems returns the problems about BGP: of its objects, its sessions, and the routes of its peers.
func bgpProblems(all []*agentv1.Problem) (list []*agentv1.Problem) {
	for _, p := range all {
		kind, _, _ := strings.Cut(p.Object, "(")
		switch kind {
		case "BGP", "BGPPeer", "BGPConfiguration", "BGPFilter", "Node", "routes":
			list = append(list, p)
		}
	}
	return list
}

func (s *session) printPeers(family string, peers []*agentv1.Peer, ofFamily func(netip.Addr) bool) {
	var rows [][]string
	var notes []string
	for _, p := range peers {
		addr, port := p.Address, ""
		parsed, err := netip.ParseAddr(addr)
		if with, portErr := netip.ParseAddrPort(addr); err != nil && portErr == nil {
			parsed, err, port = with.Addr(), nil, fmt.Sprintf(" port %d", with.Port())
		}
		if err == nil && ofFamily(parsed.Unmap()) {
			rows = append(rows, peerRow(p, parsed.String()+port))
			notes = append(notes, s.peerNotes(p)...)
		}
	}
	fmt.Fprintf(s.stdout, "\n%s BGP status\n", family)
	if len(rows) == 0 {
		fmt.Fprintf(s.stdout, "No %s peers found.\n", family)
		return
	}
	print.Box(s.stdout, []string{"PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO", "PEER", "AS", "RECEIVED", "USED", "ANNOUNCED", "FLAPS"}, rows)
	for _, note := range notes {
		fmt.Fprintln(s.stdout, note)
	}
}

// peerRow describes a peer. STATE has BIRD's words, up and start; INFO has the state of the session.
func peerRow(p *agentv1.Peer, addr string) []string {
	state, since := "start", ""
	if p.State == "established" {
		state = "up"
	}
	if p.Since != 0 {
		since = time.Unix(0, p.Since).UTC().Format(time.DateTime)
	}
	return []string{addr, p.Type, state, since, sentence(p.State), p.Name, number(p.As), number(p.Received), number(p.Used),
		number(p.Announced), number(p.Flaps)}
}

// peerNotes says why a session does not do all that it should, or what its last error was.
func (s *session) peerNotes(p *agentv1.Peer) (notes []string) {
	if p.Error != "" {
		notes = append(notes, fmt.Sprintf("%s (%s) is %s: %s", p.Address, p.Name, p.State, p.Error))
	}
	if p.LastError != "" && !strings.Contains(p.Error, p.LastError) {
		ago := s.since("", p.LastErrorAt)
		if ago != "" {
			ago = ", " + ago + " ago"
		}
		notes = append(notes, fmt.Sprintf("%s (%s): the last error%s: %s", p.Address, p.Name, ago, p.LastError))
	}
	return notes
}

// sentence returns a text with a capital first letter.
func sentence(word string) string {
	if word == "" || word[0] < 'a' || word[0] > 'z' {
		return word
	}
	return string(word[0]-'a'+'A') + word[1:]
}
