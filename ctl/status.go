package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/print"
)

func newStatus(s *session) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether this node enforces what the datastore asks for, and if not, why",
		Long: `Say whether this node enforces what the datastore asks for, and if not, why.

The exit code is 1 if the agent does not answer, its datastore is out of reach, an interface or a table is not as wanted, a
BGP session is down, or an object is not in force as written. Standard error then names the reasons.
-o json prints the message StatusResponse of api/agent/v1/agent.proto, with every setting in force and where it comes from.`,
		Example: `  margayctl status
  margayctl status -o json | jq '.interfaces[] | select(.state != "enforced")'`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := print.CheckOutput(output); err != nil {
				return err
			}
			return s.status(cmd.Context(), output)
		},
	}
	s.addAgentFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	return cmd
}

func (s *session) status(ctx context.Context, output string) error {
	var answer *agentv1.StatusResponse
	err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) (err error) {
		answer, err = agent.Status(ctx, &agentv1.StatusRequest{})
		return err
	})
	if err != nil {
		return err
	}
	if output != "table" {
		if err := print.Message(s.stdout, answer, output); err != nil {
			return err
		}
	} else {
		s.printStatus(answer)
	}
	if reasons := degraded(answer); len(reasons) > 0 {
		return errors.New("degraded: " + strings.Join(reasons, "\ndegraded: "))
	}
	return nil
}

// degraded lists the reasons why the node does not enforce or announce everything that the objects ask for.
func degraded(a *agentv1.StatusResponse) []string {
	var reasons []string
	say := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	switch d := a.GetDatastore(); {
	case !d.GetConnected():
		say("the datastore is out of reach: %s", because(d.GetError(), "no connection"))
	case !d.GetInSync():
		say("the datastore has not been read completely: %s", because(d.GetError(), "still reading"))
	case !d.GetReady():
		say("the datastore is locked (ClusterInformation default is missing, or has datastoreReady false): the policy in force stays; margayctl datastore migrate unlock ends the lock")
	}
	for _, i := range a.Interfaces {
		absent := i.State == "waiting" && i.Index == 0 // its VM is off
		if i.State != "enforced" && i.State != "none" && !absent {
			say("%s is %s: %s", interfaceText(i), i.State, because(i.Reason, "it is being set up"))
		}
	}
	for _, p := range a.Peers {
		// A problem of the agent names all sessions of the mesh that are down.
		isDownInMesh := p.State != "established" && p.Type == "node-to-node mesh"
		if (p.State != "established" || p.Error != "") && !isDownInMesh {
			say("BGP peer %s at %s is %s: %s", p.Name, p.Address, p.State, because(p.Error, "the session is not established yet"))
		}
	}
	for _, t := range a.Tables {
		if t.Failed > 0 {
			say("%d entries of table %s cannot be programmed: %s", t.Failed, t.Name, because(t.Error, "the kernel gave no reason"))
		}
	}
	for _, p := range a.Problems {
		say("%s: %s", p.Object, p.Text)
	}
	return reasons
}

func interfaceText(i *agentv1.Interface) string {
	if i.Endpoint == "" {
		return "interface " + i.Name
	}
	return fmt.Sprintf("interface %s of %s", i.Name, i.Endpoint)
}

func because(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (s *session) printStatus(a *agentv1.StatusResponse) {
	s.printSummary(a)
	for _, t := range []print.Section{interfaceTable(a.Interfaces), s.peerTable(a.Peers), reconciledTable(a.Tables), problemTable(a.Problems)} {
		fmt.Fprintln(s.stdout)
		t.Print(s.stdout)
	}
}

func (s *session) printSummary(a *agentv1.StatusResponse) {
	d, p := a.GetDatastore(), a.GetDataplane()
	line := func(name, format string, args ...any) {
		fmt.Fprintf(s.stdout, "%-13s%s\n", name+":", fmt.Sprintf(format, args...))
	}
	line("Node", "%s", a.Node)
	line("Agent", "felix %s (%s)%s", orUnknown(a.Version), orUnknown(a.Commit), s.since(", up ", a.StartedAt))
	line("Datastore", "%s", datastoreText(d))
	line("Convergence", "%s", s.convergenceText(d))
	line("Dataplane", "generation %d, epoch %d, rules %d of %d, connections %d of %d, unproven %d of %d",
		p.GetGeneration(), p.GetEpoch(), p.GetRules(), p.GetRulesLimit(), p.GetConnections(), p.GetConnectionsLimit(),
		p.GetUnproven(), p.GetUnprovenLimit())
	if drops := countsText(p.GetDrops()); drops != "" {
		line("Drops", "%s", drops)
	}
	if repairs := countsText(p.GetRepairs()); repairs != "" {
		line("Repairs", "%s", repairs)
	}
}

// withoutDatastore says which policy is in force while the datastore does not answer.
func withoutDatastore(d *agentv1.Datastore) string {
	if d.GetAppliedRevision() == 0 {
		return "and felix has read no policy since it started: the policy of an earlier felix stays in force; without one, workload interfaces are closed"
	}
	return "the last good policy stays in force"
}

func datastoreText(d *agentv1.Datastore) string {
	state := "in sync"
	switch {
	case !d.GetConnected():
		state = "out of reach, " + withoutDatastore(d) + ": " + because(d.GetError(), "no connection")
	case !d.GetInSync():
		state = "connected, reading"
	case !d.GetReady():
		state = "locked (datastoreReady is false, or ClusterInformation default is missing)"
	}
	if len(d.GetEndpoints()) == 0 {
		return state
	}
	return list(d.GetEndpoints()) + ", " + state
}

func (s *session) convergenceText(d *agentv1.Datastore) string {
	if d.GetRevision() == 0 {
		return "no revision has been read"
	}
	inForce := s.since(" for ", d.GetAppliedAt())
	if d.GetAppliedRevision() < d.GetRevision() {
		return fmt.Sprintf("revision %d is read, %d is in force%s", d.GetRevision(), d.GetAppliedRevision(), inForce)
	}
	return fmt.Sprintf("revision %d is in force%s", d.GetAppliedRevision(), inForce)
}

// since returns some words and the time since a moment, rounded for reading; empty if the moment is not known, which is 0.
func (s *session) since(words string, nanoseconds int64) string {
	if nanoseconds == 0 {
		return ""
	}
	since := s.now().Sub(time.Unix(0, nanoseconds))
	switch {
	case since < time.Minute:
		return words + since.Truncate(100*time.Millisecond).String()
	case since < time.Hour:
		return words + since.Truncate(time.Second).String()
	}
	return words + strings.TrimSuffix(since.Truncate(time.Minute).String(), "0s")
}
