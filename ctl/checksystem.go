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

const systemMeets = "this host has everything that felix needs"

const checkSystemHelp = `Check whether this host has everything that felix needs. A line for each requirement says what was found, or what is missing
and what to do. felix runs in spite of warnings. margayctl asks the agent of this node; if none runs, it runs felix --check,
which needs root.

With -f the configuration of a kernel is checked instead, for example of one that is not booted yet.

The exit code is 1 if a requirement is missing.`

func newCheckSystem(s *session) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "checksystem",
		Short: "Check whether this host has everything that felix needs",
		Long:  checkSystemHelp,
		Example: `  margayctl node checksystem
  margayctl node checksystem -f /boot/config-6.12.0`,
		Args: arguments.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if config != "" {
				return s.checkKernelConfig(config)
			}
			return s.checkSystem(cmd.Context())
		},
	}
	s.addAgentFlag(cmd)
	cmd.Flags().StringVarP(&config, "kernel-config", "f", "", "check this kernel configuration file instead of the host")
	return cmd
}

// checkSystem asks the agent, or runs felix --check if no agent answers.
func (s *session) checkSystem(ctx context.Context) error {
	answer, err := s.systemByAgent(ctx)
	if err == nil {
		return s.printRequirements(answer.Requirements)
	}
	felix, lookErr := s.felix()
	if lookErr != nil {
		return hints.With(lookErr, err.Error())
	}
	fmt.Fprintf(s.stderr, "%v; running %s --check instead\n", err, felix)
	check := exec.CommandContext(ctx, felix, "--check")
	check.Stdout, check.Stderr = s.stdout, s.stderr
	var exit *exec.ExitError
	if err := check.Run(); errors.As(err, &exit) {
		return errors.New("this host lacks something that felix needs: see the lines above")
	} else if err != nil {
		return fmt.Errorf("run %s --check: %w", felix, err)
	}
	return nil
}

// printRequirements prints a line for each requirement, and a last one if all are met. felix --check prints the same.
func (s *session) printRequirements(list []*agentv1.Requirement) error {
	err := agentv1.PrintRequirements(s.stdout, list)
	if err == nil {
		fmt.Fprintln(s.stdout, systemMeets)
	}
	return err
}

func (s *session) systemByAgent(ctx context.Context) (answer *agentv1.CheckSystemResponse, err error) {
	err = s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) (err error) {
		answer, err = agent.CheckSystem(ctx, &agentv1.CheckSystemRequest{})
		return err
	})
	return answer, err
}

// findFelix returns the path of the felix beside this program, or else of the one in $PATH.
func findFelix() (string, error) {
	if own, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(own), "felix")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath("felix")
	if err != nil {
		return "", fmt.Errorf("felix is neither beside margayctl nor in $PATH (%w): install it, or give its socket with --agent", err)
	}
	return path, nil
}
