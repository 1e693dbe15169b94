package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/hints"
)

// newNodeRun refuses calicoctl's command that starts a container. It does not parse flags, so that calicoctl's flags are no
// error of their own.
func newNodeRun() *cobra.Command {
	return refused("run", "Not supported: felix is a service of the host, see docs/operations.md", "  margayctl node run",
		"there is no container to run: felix is a service of the host",
		"install and start it as a systemd unit, see Install in docs/operations.md: systemctl enable --now felix",
		"felix --help lists its settings")
}

// newCluster refuses calicoctl's command for clusters of Kubernetes.
func newCluster() *cobra.Command {
	diags := refused("diags", "Not supported: collect diagnostics on each node", "  margayctl cluster diags",
		"margayctl cannot collect diagnostics from other nodes, because Margay does not use Kubernetes",
		"run margayctl node diags on each host that the fault concerns")
	cluster := group("cluster", "Commands of calicoctl for Kubernetes", diags)
	cluster.Example = diags.Example
	cluster.Hidden = true
	return cluster
}

// refused returns a hidden command that only says why it is not supported, and what to do instead.
func refused(name, short, example, why string, instead ...string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Example: example, Hidden: true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if arg == "-h" || arg == "--help" {
					return cmd.Help()
				}
			}
			return hints.With(errors.New(why), instead...)
		},
	}
}
