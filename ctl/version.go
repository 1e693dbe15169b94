package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

// Stamped by the linker; see the Makefile.
var version, commit string

// stamp is the version and commit of this binary.
func stamp() (string, string) {
	v, c := version, commit
	build, ok := debug.ReadBuildInfo()
	if v == "" {
		v = "unknown"
		if ok && build.Main.Version != "" {
			v = build.Main.Version
		}
	}
	if c == "" {
		c = "unknown"
		if ok {
			for _, setting := range build.Settings {
				if setting.Key == "vcs.revision" {
					c = setting.Value
				}
			}
		}
	}
	return v, c
}

func newVersion(s *session) *cobra.Command {
	var clientOnly bool
	var poll time.Duration
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this command, the datastore and the agent",
		Long: `Print the versions of this command and, when they can be reached, of the datastore and the agent of this node.
What cannot be reached is told on standard error; that is no failure.`,
		Example: `  margayctl version
  margayctl version --client`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, c := stamp()
			fmt.Fprintln(s.stdout, "Client Version:   ", v)
			fmt.Fprintln(s.stdout, "Git commit:       ", c)
			if clientOnly {
				return nil
			}
			for {
				s.versionOfCluster(cmd.Context())
				s.versionOfAgent(cmd.Context())
				if poll <= 0 || s.pause(cmd.Context(), poll) != nil {
					return nil
				}
			}
		},
	}
	s.addAgentFlag(cmd)
	cmd.Flags().BoolVar(&clientOnly, "client", false, "only the version of this command")
	cmd.Flags().DurationVar(&poll, "poll", 0, "ask again after this time, until interrupted")
	return cmd
}

func (s *session) versionOfCluster(ctx context.Context) {
	info, err := s.clusterInformation(ctx)
	if err != nil {
		fmt.Fprintln(s.stderr, "the cluster's version and type are not known:", err)
		return
	}
	fmt.Fprintln(s.stdout, "Cluster Version:  ", orUnknown(info.Spec.CalicoVersion))
	fmt.Fprintln(s.stdout, "Cluster Type:     ", orUnknown(info.Spec.ClusterType))
}

func (s *session) clusterInformation(ctx context.Context) (*api.ClusterInformation, error) {
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return nil, err
	}
	defer closeStore()
	o, err := st.Get(ctx, api.Key{Kind: "ClusterInformation", Name: "default"})
	if err != nil {
		return nil, err
	}
	info, ok := o.(*api.ClusterInformation)
	if !ok {
		return nil, fmt.Errorf("%s is not what it says", api.KeyOf(o))
	}
	return info, nil
}

func (s *session) versionOfAgent(ctx context.Context) {
	err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) error {
		answer, err := agent.Status(ctx, &agentv1.StatusRequest{})
		if err == nil {
			fmt.Fprintf(s.stdout, "Agent Version:     %s (%s) on %s\n", orUnknown(answer.Version), orUnknown(answer.Commit), answer.Node)
		}
		return err
	})
	if err != nil {
		fmt.Fprintln(s.stderr, "the agent's version is not known:", err)
	}
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}
