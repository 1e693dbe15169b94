package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/hints"
	"github.com/margay-project/margay/ctl/vm"
)

// vms gives the commands about libvirt the parts of a session that they use.
func (s *session) vms() vm.Session {
	return vm.Session{
		Session: s.workloads(), Stdin: s.stdin, DumpXML: s.dumpXML, Judged: s.judgedInterfaces, Pause: s.pause, Program: os.Executable,
		Config: func() string {
			if s.config == defaultConfig {
				return ""
			}
			return s.config
		},
	}
}

// judgedInterfaces returns the interfaces on which the agent of this machine has policy in force, or which it has closed.
func (s *session) judgedInterfaces(ctx context.Context) (map[string]bool, error) {
	judged := map[string]bool{}
	err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) error {
		answer, err := agent.Status(ctx, &agentv1.StatusRequest{})
		for _, i := range answer.GetInterfaces() {
			if i.State == "enforced" || i.State == "closed" {
				judged[i.Name] = true
			}
		}
		return err
	})
	return judged, err
}

// dumpXML has virsh print the XML of a domain.
func dumpXML(ctx context.Context, uri, domain string) ([]byte, error) {
	arguments := []string{"dumpxml", "--domain", domain}
	if uri != "" {
		arguments = append([]string{"--connect", uri}, arguments...)
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "virsh", arguments...)
	var out, failure bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failure
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, hints.With(errors.New("virsh is not installed"), "give the domain's XML with --xml FILE")
	case err != nil:
		return nil, hints.With(fmt.Errorf("virsh %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(failure.String())),
			"virsh list --all shows the domains")
	}
	return out.Bytes(), nil
}
