package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

// fakeAgent gives the answers that a script has in files.
type fakeAgent struct {
	agentv1.UnimplementedAgentServer
	status *agentv1.StatusResponse
	dump   *agentv1.DumpResponse
	system *agentv1.CheckSystemResponse // nil: it is too old to know
}

func (f *fakeAgent) Status(context.Context, *agentv1.StatusRequest) (*agentv1.StatusResponse, error) {
	return f.status, nil
}

func (f *fakeAgent) Dump(_ context.Context, r *agentv1.DumpRequest) (*agentv1.DumpResponse, error) {
	if f.dump == nil {
		return nil, status.Error(codes.Unavailable, "no generation is loaded yet: try again in a moment")
	}
	answer := proto.CloneOf(f.dump)
	if !r.IdlePolicies {
		answer.Policies = slices.DeleteFunc(answer.Policies, func(p *agentv1.Policy) bool { return p.Endpoints == 0 })
	}
	if n := int(r.MaxConnections); n > 0 && n < len(f.dump.Connections) {
		return &agentv1.DumpResponse{Node: f.dump.Node, Connections: f.dump.Connections[:n], Truncated: []string{"connections"}}, nil
	}
	return answer, nil
}

func (f *fakeAgent) CheckSystem(ctx context.Context, r *agentv1.CheckSystemRequest) (*agentv1.CheckSystemResponse, error) {
	if f.system == nil {
		return f.UnimplementedAgentServer.CheckSystem(ctx, r)
	}
	return f.system, nil
}

func (f *fakeAgent) Diagnose(context.Context, *agentv1.DiagnoseRequest) (*agentv1.DiagnoseResponse, error) {
	return &agentv1.DiagnoseResponse{Files: []*agentv1.File{
		{Name: "settings.txt", Content: []byte("etcd-endpoints: http://root:hush@10.0.0.1:2379\n")},
		{Name: "../heap.pprof", Content: []byte("\x1f\x8b\xff password: not text")},
	}}, nil
}

// socketOf is where a script's agent listens.
func socketOf(ts *testscript.TestScript) string {
	return filepath.Join(ts.Getenv("WORK"), "felix.sock")
}

// agent STATUS.json [DUMP.json [SYSTEM.json]]: an agent that answers so, until the script ends.
func cmdAgent(ts *testscript.TestScript, _ bool, args []string) {
	f := &fakeAgent{status: new(agentv1.StatusResponse)}
	ts.Check(protojson.Unmarshal([]byte(ts.ReadFile(args[0])), f.status))
	if len(args) > 1 {
		f.dump = new(agentv1.DumpResponse)
		ts.Check(protojson.Unmarshal([]byte(ts.ReadFile(args[1])), f.dump))
	}
	if len(args) > 2 {
		f.system = new(agentv1.CheckSystemResponse)
		ts.Check(protojson.Unmarshal([]byte(ts.ReadFile(args[2])), f.system))
	}
	_ = os.Remove(socketOf(ts)) // of the former agent of the script
	f.serve(ts, socketOf(ts))
}

// stopper is a test or a script.
type stopper interface {
	Check(error)
	Defer(func())
}

// serve answers on a socket until the test ends.
func (f *fakeAgent) serve(ts stopper, socket string) {
	listener, err := net.Listen("unix", socket)
	ts.Check(err)
	server := grpc.NewServer()
	agentv1.RegisterAgentServer(server, f)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	ts.Defer(func() { server.Stop(); <-done })
}
