package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/print"
)

// tableNames are the tables of an agent, in the order in which they are printed.
var tableNames = [...]string{"endpoints", "policies", "sets", "rules", "connections", "routes", "announcements", "received", "bgp"}

const dumpHelp = `Print what this node enforces and announces: its tables, read back from the kernel and the BGP speaker, in the terms of
policy. The tables are endpoints, policies, sets, rules, connections, routes, announcements, received and bgp. Without names, all
but bgp are printed.

routes has the routes of felix in the kernel. received has every route that a peer has sent, with its attributes, and why the kernel
does not have it. announcements has what this node announces; bgp has the same, peer by peer, with what filters reject for a peer
and why.

A table that felix cannot read does not hide the others: standard error names it, and the exit code is 1.

A policy that applies to no endpoint of this node is not in force here. Such policies are counted below the table of policies;
--all lists them, with 0 endpoints.

-o json prints the agent's answer, the message DumpResponse of api/agent/v1/agent.proto: one list for each table, field names
in lowerCamelCase, 64-bit numbers as strings, empty fields left out. Fields are added, never renamed.`

func newDump(s *session) *cobra.Command {
	var output string
	var connections, received uint32
	var all bool
	cmd := &cobra.Command{
		Use:   "dump [TABLE...]",
		Short: "Print what this node enforces and announces",
		Long:  dumpHelp,
		Example: `  margayctl dump
  margayctl dump rules
  margayctl dump policies --all
  margayctl dump bgp received
  margayctl dump connections -o json | jq '.connections[] | select(.state != "established")'`,
		ValidArgs: tableNames[:],
		RunE: func(cmd *cobra.Command, args []string) error {
			tables, err := wantedTables(args)
			if err != nil {
				return err
			}
			if err := print.CheckOutput(output); err != nil {
				return err
			}
			return s.dump(cmd.Context(), &agentv1.DumpRequest{
				Tables: agentTables(tables), MaxConnections: connections, MaxReceived: received, IdlePolicies: all,
			}, tables, output)
		},
	}
	s.addAgentFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	cmd.Flags().Uint32Var(&connections, "max-connections", 0, "print at most this many connections (default 10000)")
	cmd.Flags().Uint32Var(&received, "max-received", 0, "print at most this many received routes (default 10000)")
	cmd.Flags().BoolVar(&all, "all", false, "also the policies of the datastore that apply to no endpoint of this node")
	return cmd
}

// newFelix is dump under another name, which published texts use: margayctl felix ebpf dump state.
func newFelix(s *session) *cobra.Command {
	state := newDump(s)
	state.Use = "state [TABLE...]"
	state.Long = "The same as margayctl dump.\n\n" + dumpHelp
	state.Example = "  margayctl felix ebpf dump state rules"
	felix := group("felix", "The agent of this node", group("ebpf", "The tables of its programs", group("dump", "Print their tables", state)))
	felix.Hidden = true
	return felix
}

// group is a command that only holds others.
func group(name, short string, child *cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Args: arguments.NoSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(child)
	return cmd
}

func wantedTables(args []string) ([]string, error) {
	var tables []string
	for _, arg := range args {
		name := strings.ToLower(arg)
		if !slices.Contains(tableNames[:], name) {
			return nil, hints.With(fmt.Errorf("there is no table %q", arg), hints.DidYouMean(arg, tableNames[:]),
				"tables: "+strings.Join(tableNames[:], ", "))
		}
		tables = append(tables, name)
	}
	return tables, nil
}

// agentTables returns the agent's names of tables: bgp is another view of its announcements.
func agentTables(tables []string) (names []string) {
	for _, name := range tables {
		if name == "bgp" {
			name = "announcements"
		}
		names = append(names, name)
	}
	return names
}

func (s *session) dump(ctx context.Context, request *agentv1.DumpRequest, tables []string, output string) error {
	var answer *agentv1.DumpResponse
	err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) (err error) {
		answer, err = agent.Dump(ctx, request)
		return err
	})
	if err != nil {
		return err
	}
	if output != "table" {
		if err := print.Message(s.stdout, answer, output); err != nil {
			return err
		}
		return unreadTables(answer)
	}
	for i, t := range dumpTables(answer, tables) {
		if i > 0 {
			fmt.Fprintln(s.stdout)
		}
		if table := agentTables([]string{strings.ToLower(t.Title)})[0]; isUnread(answer, table) && t.Empty() {
			fmt.Fprintf(s.stdout, "%s: could not be read\n", t.Title)
			continue
		}
		t.Print(s.stdout)
		if t.Title == policiesTitle {
			if note := idleNote(answer, request.IdlePolicies); note != "" {
				fmt.Fprintln(s.stdout, note)
			}
		}
	}
	for _, name := range answer.Truncated {
		fmt.Fprintf(s.stderr, "the table %s is not complete: raise --max-%[1]s to see more\n", name)
	}
	return unreadTables(answer)
}

func isUnread(answer *agentv1.DumpResponse, table string) bool {
	return slices.ContainsFunc(answer.Unread, func(t *agentv1.UnreadTable) bool { return t.Table == table })
}

// unreadTables returns an error with a line for each table that the agent could not read.
func unreadTables(answer *agentv1.DumpResponse) error {
	var errs []error
	for _, t := range answer.Unread {
		errs = append(errs, fmt.Errorf("the table %s could not be read: %s", t.Table, t.Reason))
	}
	return errors.Join(errs...)
}
