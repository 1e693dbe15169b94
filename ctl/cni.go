package main

import (
	"context"
	"os"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/ctl/cni"
)

// containers gives the CNI plugin the parts of a session that it uses.
func (s *session) containers() cni.Session {
	return cni.Session{
		Session: s.workloads(), UseConfig: func(path string) { s.config = path }, Enforced: s.enforcedInterfaces, Pause: s.pause,
		Program: os.Executable,
	}
}

// enforcedInterfaces returns the interfaces on which the agent of this machine has policy in force.
func (s *session) enforcedInterfaces(ctx context.Context) (map[string]bool, error) {
	enforced := map[string]bool{}
	err := s.askAgent(ctx, func(ctx context.Context, agent agentv1.AgentClient) error {
		answer, err := agent.Status(ctx, &agentv1.StatusRequest{})
		for _, i := range answer.GetInterfaces() {
			enforced[i.Name] = enforced[i.Name] || i.State == "enforced"
		}
		return err
	})
	return enforced, err
}
