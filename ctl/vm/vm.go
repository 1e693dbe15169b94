package vm

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/workload"
)

// Session is the part of a run of margayctl that these commands use.
type Session struct {
	workload.Session
	Stdin io.Reader
	// DumpXML returns the XML of a domain from libvirt; uri is the address of libvirt, or empty.
	DumpXML func(ctx context.Context, uri, domain string) ([]byte, error)
	// Judged says which interfaces the agent of this machine judges or has closed, by name. No packet passes there without policy.
	Judged func(ctx context.Context) (map[string]bool, error)
	// Pause waits.
	Pause func(ctx context.Context, d time.Duration) error
	// Program returns the path of margayctl.
	Program func() (string, error)
	// Config is the file with the address of the datastore; empty: none is given.
	Config func() string
}

// New returns the command vm with its own commands.
func New(s Session) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Put libvirt's VMs under policy, by hand or by libvirt's hook",
		Long: `Put libvirt's VMs under policy, by hand or by libvirt's hook. Labels, addresses and profiles stand in the domain's <metadata>:

  <metadata>
    <workload xmlns="` + URI + `" namespace="shop" ipam="auto">
      <label key="role" value="web"/>
      <profile>vm</profile>
    </workload>
  </metadata>

An interface of type ethernet is routed. One of type bridge or network is judged at its port of the bridge. docs/vms.md tells the rest.`,
		Example: `  margayctl vm attach web
  margayctl vm detach web
  margayctl vm hook install`,
		Args: arguments.NoSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAttach(s), newDetach(s), newHook(s))
	return cmd
}

// nodeOf returns the node that was given, or else that of this machine.
func (s Session) nodeOf(ctx context.Context, st workload.Store, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	return s.NodeHere(ctx, st)
}

// addNodeFlag adds the flag for the node.
func addNodeFlag(s Session, cmd *cobra.Command, node *string) {
	cmd.Flags().StringVar(node, "node", "", "the Node that runs the domain (default this machine's)")
	_ = cmd.RegisterFlagCompletionFunc("node", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return s.NamesOf(cmd.Context(), api.KindNode, nil), cobra.ShellCompDirectiveNoFileComp
	})
}
