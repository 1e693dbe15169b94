package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

const (
	defaultAgent = "unix:///run/margay/felix.sock"
	agentTimeout = 30 * time.Second
	maxAnswer    = 1 << 30 // bytes; a dump of a full connection table is large
)

func (s *session) addAgentFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.agent, "agent", "", "socket of felix (default $MARGAY_AGENT, else "+defaultAgent+")")
}

// agentAddress returns the address that felix listens on: --agent, else $MARGAY_AGENT, else the default.
func (s *session) agentAddress() string {
	for _, address := range []string{s.agent, s.getenv("MARGAY_AGENT")} {
		if address != "" {
			return address
		}
	}
	return defaultAgent
}

// askAgent connects to the agent of this node and runs call, which has to end within agentTimeout.
func (s *session) askAgent(ctx context.Context, call func(context.Context, agentv1.AgentClient) error) error {
	address := s.agentAddress()
	path := strings.TrimPrefix(strings.TrimPrefix(address, "unix:"), "//")
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("agent %s: want the path of a unix socket, such as %s", address, defaultAgent)
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	if err := probe(ctx, address, path); err != nil {
		return err
	}
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return fmt.Errorf("agent %s: %w", address, err)
	}
	defer conn.Close()
	if err := call(ctx, agentv1.NewAgentClient(conn)); err != nil {
		return fmt.Errorf("the agent at %s: %s", address, agentError(err))
	}
	return nil
}

// agentError explains an agent's error, or its silence.
func agentError(err error) string {
	answer := status.Convert(err)
	switch answer.Code() {
	case codes.DeadlineExceeded:
		return fmt.Sprintf("no answer within %v: see journalctl -u felix", agentTimeout)
	case codes.Unimplemented:
		return "felix is older than margayctl and does not know this request: upgrade felix"
	}
	return answer.Message()
}

// probe explains why a socket cannot be reached; gRPC would only say "unavailable".
func probe(ctx context.Context, address, path string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return conn.Close()
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to ask the agent on %s: try again as root (sudo)", address)
	}
	return fmt.Errorf("the agent does not answer on %s: is felix running? try systemctl status felix", address)
}
