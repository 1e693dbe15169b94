package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/ctl/hints"
)

// newNodeRun is calicoctl's command that starts a container. Its flags are not read, so that whoever gives them is told as well.
func newNodeRun() *cobra.Command {
	return refused("run", "Not here: felix is a service of the host, see docs/operations.md", "  margayctl node run",
		"there is no container to run: felix is a service of the host",
		"install and start it as a systemd unit, see Install in docs/operations.md: systemctl enable --now felix",
		"its settings are flags of felix: felix --help")
}

// newCluster is calicoctl's command for clusters of Kubernetes.
func newCluster() *cobra.Command {
	diags := refused("diags", "Not here: diagnostics are collected on each node", "  margayctl cluster diags",
		"there is no Kubernetes here whose nodes could be asked",
		"run margayctl node diags on each host that has to do with the fault")
	cluster := group("cluster", "Commands of calicoctl for Kubernetes", diags)
	cluster.Example = diags.Example
	cluster.Hidden = true
	return cluster
}

// refused is a command that only says what to do instead.
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
