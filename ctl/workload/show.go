package workload

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/print"
	"github.com/margay-project/margay/datastore/ipam"
)

func newShow(s Session) *cobra.Command {
	var at place
	var output string
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Print the endpoints of a workload, and the records of its addresses",
		Long: `Print the endpoints of a workload, and under which handle IPAM records each address. margayctl status on the node says whether
their policy is in force, and margayctl dump endpoints which policies that are.`,
		Example: `  margayctl workload show web
  margayctl workload show web -n shop -o yaml`,
		Args: arguments.Exactly(1, "NAME"),
		ValidArgsFunction: func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			return s.completeWorkload(cmd.Context(), at, given, false), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := print.CheckOutput(output); err != nil {
				return err
			}
			return s.show(cmd.Context(), args[0], at, output)
		},
	}
	at.addFlags(s, cmd)
	addTableOutput(cmd, &output)
	return cmd
}

func (s Session) show(ctx context.Context, name string, at place, output string) error {
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	found, err := at.endpoints(ctx, st, func(ep *api.WorkloadEndpoint) bool { return nameOf(ep) == name })
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return hints.With(fmt.Errorf("namespace %s has no workload %s", at.namespace, name), "margayctl workload list -A lists all workloads")
	}
	if output != "table" {
		return s.printObjects(objectsOf(found), output)
	}
	for i, ep := range found {
		if i > 0 {
			fmt.Fprintln(s.Stdout)
		}
		if err := s.describe(ctx, st, ep); err != nil {
			return err
		}
	}
	return nil
}

// describe prints an endpoint line by line.
func (s Session) describe(ctx context.Context, st Store, ep *api.WorkloadEndpoint) error {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(s.Stdout, "%-12s%s\n", name+":", value)
		}
	}
	line("Endpoint", api.KeyOf(ep).String())
	line("Node", ep.Spec.Node)
	line("Interface", ep.Spec.InterfaceName)
	line("MAC", ep.Spec.MAC)
	line("Labels", labelsText(ep.Labels))
	line("Profiles", strings.Join(ep.Spec.Profiles, ", "))
	line("Made by", ep.Annotations[api.MadeByAnnotation])
	line("Missing", ep.Annotations[api.MissingSinceAnnotation])
	for _, text := range ep.Spec.IPNetworks {
		record, err := recordOf(ctx, st, text)
		if err != nil {
			return err
		}
		line("Address", record)
	}
	if len(ep.Spec.IPNetworks) == 0 {
		line("Address", "none, so the endpoint is closed")
	}
	return nil
}

// recordOf describes an address with its record in IPAM.
func recordOf(ctx context.Context, st Store, text string) (string, error) {
	addr, err := ParseAddress(text)
	if err != nil {
		return text, nil
	}
	holder, held, err := ipam.Lookup(ctx, st.WhileUnlocked().KV(), addr)
	switch {
	case err != nil:
		return "", err
	case !held:
		return fmt.Sprintf("%v (not recorded in IPAM)", addr), nil
	}
	return fmt.Sprintf("%v (block %v, handle %s)", addr, holder.Block, holder.Handle), nil
}
