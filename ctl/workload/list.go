package workload

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/print"
)

func newList(s Session) *cobra.Command {
	var at place
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List workloads with their interfaces and addresses",
		Long: `List the WorkloadEndpoints with their interfaces and addresses. MADE BY is empty for those that were applied as manifests: margayctl
workload remove and gc leave them alone.`,
		Example: `  margayctl workload list
  margayctl workload list -A --node host1 -o json`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := print.CheckOutput(output); err != nil {
				return err
			}
			return s.list(cmd.Context(), at, output)
		},
	}
	at.addFlags(s, cmd)
	cmd.Flags().BoolVarP(&at.everywhere, "all-namespaces", "A", false, "workloads of every namespace")
	addTableOutput(cmd, &output)
	return cmd
}

func addTableOutput(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "table, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

func (s Session) list(ctx context.Context, at place, output string) error {
	st, closeStore, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	found, err := at.endpoints(ctx, st, func(*api.WorkloadEndpoint) bool { return true })
	if err != nil {
		return err
	}
	if output != "table" {
		return s.printList(found, output)
	}
	s.printTable(found, at.everywhere)
	if len(found) == 0 && !at.everywhere {
		fmt.Fprintf(s.Stderr, "namespace %s has no workloads here: -A lists those of every namespace\n", at.namespace)
	}
	return nil
}

func (s Session) printTable(found []*api.WorkloadEndpoint, namespaces bool) {
	headings := []string{"WORKLOAD", "ENDPOINT", "NODE", "INTERFACE", "ADDRESSES", "MAC", "LABELS", "MADE BY"}
	if namespaces {
		headings = append([]string{"NAMESPACE"}, headings...)
	}
	var rows [][]string
	for _, ep := range found {
		spec := ep.Spec
		row := []string{
			nameOf(ep), spec.Endpoint, spec.Node, spec.InterfaceName, addressesText(ep), spec.MAC, labelsText(ep.Labels), ep.Annotations[api.MadeByAnnotation],
		}
		if namespaces {
			row = append([]string{ep.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	print.Box(s.Stdout, headings, rows)
}

// nameOf returns the name of an endpoint's workload. Some orchestrators have another field for it.
func nameOf(ep *api.WorkloadEndpoint) string {
	return cmp.Or(ep.Spec.Workload, ep.Spec.Pod, ep.Spec.ContainerID, ep.Name)
}

// addressesText lists the addresses without the length that all have.
func addressesText(ep *api.WorkloadEndpoint) string {
	var texts []string
	for _, text := range ep.Spec.IPNetworks {
		if addr, err := ParseAddress(text); err == nil {
			text = addr.String()
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// labelsText lists the labels that people have set.
func labelsText(labels map[string]string) string {
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if !strings.HasPrefix(key, "projectcalico.org/") {
			texts = append(texts, key+"="+labels[key])
		}
	}
	return strings.Join(texts, ", ")
}

func sortedNames(names map[string]bool) []string { return slices.Sorted(maps.Keys(names)) }

func (s Session) printList(found []*api.WorkloadEndpoint, output string) error {
	return s.printResult(print.Result{Kind: api.KindWorkloadEndpoint, List: true, Objects: objectsOf(found)}, output)
}

// printObjects prints a single object, or a list of several.
func (s Session) printObjects(objects []api.Object, output string) error {
	return s.printResult(print.Result{Kind: api.KindWorkloadEndpoint, List: len(objects) != 1, Objects: objects}, output)
}

func (s Session) printResult(result print.Result, output string) error {
	format, err := print.ParseFormat(output, false)
	if err != nil {
		return err
	}
	return format.Print(s.Stdout, []print.Result{result}, func() string { return "" })
}

func objectsOf(endpoints []*api.WorkloadEndpoint) (objects []api.Object) {
	for _, ep := range endpoints {
		objects = append(objects, ep)
	}
	return objects
}
