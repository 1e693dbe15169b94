package main

import (
	"context"
	"net"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

// fakeAgent answers with what a script wrote down.
type fakeAgent struct {
	agentv1.UnimplementedAgentServer
	status *agentv1.StatusResponse
	dump   *agentv1.DumpResponse
}

func (f *fakeAgent) Status(context.Context, *agentv1.StatusRequest) (*agentv1.StatusResponse, error) {
	return f.status, nil
}

func (f *fakeAgent) Dump(_ context.Context, r *agentv1.DumpRequest) (*agentv1.DumpResponse, error) {
	if f.dump == nil {
		return nil, status.Error(codes.Unavailable, "no generation is loaded yet: try again in a moment")
	}
	if n := int(r.MaxConnections); n > 0 && n < len(f.dump.Connections) {
		return &agentv1.DumpResponse{Node: f.dump.Node, Connections: f.dump.Connections[:n], Truncated: []string{"connections"}}, nil
	}
	return f.dump, nil
}

// socketOf is where a script's agent listens.
func socketOf(ts *testscript.TestScript) string {
	return filepath.Join(ts.Getenv("WORK"), "felix.sock")
}

// agent STATUS.json [DUMP.json]: an agent that answers so, until the script ends.
func cmdAgent(ts *testscript.TestScript, _ bool, args []string) {
	f := &fakeAgent{status: new(agentv1.StatusResponse)}
	ts.Check(protojson.Unmarshal([]byte(ts.ReadFile(args[0])), f.status))
	if len(args) > 1 {
		f.dump = new(agentv1.DumpResponse)
		ts.Check(protojson.Unmarshal([]byte(ts.ReadFile(args[1])), f.dump))
	}
	listener, err := net.Listen("unix", socketOf(ts))
	ts.Check(err)
	server := grpc.NewServer()
	agentv1.RegisterAgentServer(server, f)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	ts.Defer(func() { server.Stop(); <-done })
}
