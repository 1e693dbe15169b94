package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/arguments"
	"github.com/margay-project/margay/ctl/hints"
)

const systemMeets = "This host has what felix needs."

const checkSystemHelp = `Say whether this host has what felix needs, a line for each thing: what was found, or what is missing and what to do. Felix
goes on without what is only a warning. The agent of this node is asked; where none runs, felix --check looks, as root.

With -f the configuration of a kernel is judged instead, be it that of one that is not booted yet.

The exit code is 1 when something is missing.`

func newCheckSystem(s *session) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "checksystem",
		Short: "Say whether this host has what felix needs",
		Long:  checkSystemHelp,
		Example: `  margayctl node checksystem
  margayctl node checksystem -f /boot/config-6.12.0`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			check := s.checkSystem
			if config != "" {
				check = func(context.Context) error { return s.checkKernelConfig(config) }
			}
			if err := check(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(s.stdout, systemMeets)
			return nil
		},
	}
	s.addAgentFlag(cmd)
	cmd.Flags().StringVarP(&config, "kernel-config", "f", "", "judge a kernel by the file with its configuration")
	return cmd
}

// checkSystem asks the agent, or the felix that would be the agent.
func (s *session) checkSystem(ctx context.Context) error {
	answer, err := s.systemByAgent(ctx)
	if err == nil {
		return agentv1.PrintRequirements(s.stdout, answer.Requirements)
	}
	felix, lookErr := s.felix()
	if lookErr != nil {
		return hints.With(lookErr, err.Error())
	}
	fmt.Fprintf(s.stderr, "%v; %s --check looks instead\n", err, felix)
	check := exec.CommandContext(ctx, felix, "--check")
	check.Stdout, check.Stderr = s.stdout, s.stderr
	var exit *exec.ExitError
	if err := check.Run(); errors.As(err, &exit) {
		return errors.New("the system does not meet the requirements of felix, see above")
	} else if err != nil {
		return fmt.Errorf("run %s --check: %w", felix, err)
	}
	return nil
}

func (s *session) systemByAgent(ctx context.Context) (answer *agentv1.CheckSystemResponse, err error) {
	err = s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) (err error) {
		answer, err = agent.CheckSystem(ctx, &agentv1.CheckSystemRequest{})
		return err
	})
	return answer, err
}

// findFelix is the felix beside this command, or else the one in the path.
func findFelix() (string, error) {
	if own, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(own), "felix")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath("felix")
	if err != nil {
		return "", fmt.Errorf("felix is neither beside margayctl nor in the path (%w): install it, or give its socket with --agent", err)
	}
	return path, nil
}
