package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/arguments"
)

// The linker sets these; see the Makefile.
var version, commit string

// stamp returns the version and commit of this binary.
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

const versionHelp = `Print the versions of this command, of the datastore and of the agent of this node.

The exit code is 1 if the datastore cannot be read. If no agent answers, standard error says so, and the exit code stays 0.
With --poll, a version is printed again whenever it changes.`

func newVersion(s *session) *cobra.Command {
	var clientOnly bool
	var poll time.Duration
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this command, the datastore and the agent",
		Long:  versionHelp,
		Example: `  margayctl version
  margayctl version --client
  margayctl version --poll=10s`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, c := stamp()
			fmt.Fprintln(s.stdout, "Client Version:   ", v)
			fmt.Fprintln(s.stdout, "Git commit:       ", c)
			if clientOnly {
				return nil
			}
			return s.versionOfOthers(cmd.Context(), poll)
		},
	}
	s.addAgentFlag(cmd)
	cmd.Flags().BoolVar(&clientOnly, "client", false, "only the version of this command")
	cmd.Flags().DurationVar(&poll, "poll", 0, "ask again after this time, until interrupted")
	return cmd
}

// versionOfOthers prints the versions of the datastore and the agent, and with poll each of them again when it changes.
func (s *session) versionOfOthers(ctx context.Context, poll time.Duration) error {
	printed := map[string]string{}
	changed := func(w io.Writer, heading, value string) {
		if printed[heading] != value {
			fmt.Fprint(w, heading, value, "\n")
		}
		printed[heading] = value
	}
	for {
		info, err := s.clusterInformation(ctx)
		if err == nil {
			changed(s.stdout, "Cluster Version:   ", orUnknown(info.Spec.CalicoVersion))
			changed(s.stdout, "Cluster Type:      ", orUnknown(info.Spec.ClusterType))
		} else {
			//lint:ignore ST1005 scripts know these words
			err = fmt.Errorf("Unable to retrieve Cluster Version or Type: %w", err)
			clear(printed)
		}
		if agent, err := s.versionOfAgent(ctx); err == nil {
			changed(s.stdout, "Agent Version:     ", agent)
		} else {
			changed(s.stderr, "the agent's version is not known: ", err.Error())
		}
		if poll <= 0 {
			return err
		}
		if err != nil {
			fmt.Fprintln(s.stderr, err)
		}
		if s.pause(ctx, poll) != nil {
			return nil
		}
	}
}

func (s *session) clusterInformation(ctx context.Context) (*api.ClusterInformation, error) {
	st, closeStore, err := s.open(ctx, s)
	if err != nil {
		return nil, err
	}
	defer closeStore()
	o, err := st.Get(ctx, api.Key{Kind: api.KindClusterInformation, Name: "default"})
	if err != nil {
		return nil, err
	}
	info, ok := o.(*api.ClusterInformation)
	if !ok {
		return nil, fmt.Errorf("%s is stored as an object of another kind", api.KeyOf(o))
	}
	return info, nil
}

func (s *session) versionOfAgent(ctx context.Context) (text string, err error) {
	err = s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) error {
		answer, err := agent.Status(ctx, &agentv1.StatusRequest{})
		if err == nil {
			text = fmt.Sprintf("%s (%s) on %s", orUnknown(answer.Version), orUnknown(answer.Commit), answer.Node)
		}
		return err
	})
	return text, err
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}
