package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
)

// server answers the agent API. The goroutine of the loop makes each answer, so the answer shows one consistent state.
type server struct {
	agentv1.UnimplementedAgentServer
	questions chan<- func(*agent)
	settings  *settings
}

func (s *server) Status(ctx context.Context, _ *agentv1.StatusRequest) (*agentv1.StatusResponse, error) {
	return askLoop(ctx, s, func(a *agent) (*agentv1.StatusResponse, error) { return a.status(), nil })
}

func (s *server) Dump(ctx context.Context, request *agentv1.DumpRequest) (*agentv1.DumpResponse, error) {
	if err := checkTables(request.Tables); err != nil {
		return nil, err
	}
	routes, unread := s.receivedRoutes(ctx, request)
	return askLoop(ctx, s, func(a *agent) (*agentv1.DumpResponse, error) {
		response := a.dump(request)
		a.dumpReceived(routes, int(request.MaxReceived), response)
		noteUnread(response, received, unread)
		return response, nil
	})
}

// CheckSystem tests the kernel. It needs none of the agent's state.
func (s *server) CheckSystem(context.Context, *agentv1.CheckSystemRequest) (*agentv1.CheckSystemResponse, error) {
	return &agentv1.CheckSystemResponse{Requirements: requirements(s.settings.pinDir)}, nil
}

func (s *server) Diagnose(ctx context.Context, _ *agentv1.DiagnoseRequest) (*agentv1.DiagnoseResponse, error) {
	response := &agentv1.DiagnoseResponse{Files: processFiles()} // sent even if the loop does not answer
	files, err := askLoop(ctx, s, (*agent).diagnose)
	response.Files = append(response.Files, files...)
	return response, err
}

// askLoop runs a question on the loop's goroutine and waits for its answer. A client may give up before the loop has made the answer:
// nothing that the loop writes is read then.
func askLoop[T any](ctx context.Context, s *server, question func(*agent) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	answered := make(chan answer, 1)
	select {
	case s.questions <- func(a *agent) { value, err := question(a); answered <- answer{value, err} }:
	case <-ctx.Done():
		return none, status.Error(codes.Unavailable, "felix is busy or stopping; try again")
	}
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		return none, status.FromContextError(ctx.Err()).Err()
	}
}

// listenPrivately makes a unix socket that only this user can open. It replaces the socket of a process that has ended. A socket
// that answers belongs to a felix of another network namespace: dataplane.New admits one felix to each.
func listenPrivately(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another felix, of another network namespace, answers on %s: give each its own --agent-socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// The socket gets its mode before anything listens on it.
	private := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d", filepath.Base(path), os.Getpid()))
	listener, err := net.Listen("unix", private)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(private, 0o600), os.Rename(private, path)); err != nil {
		listener.Close()
		os.Remove(private)
		return nil, err
	}
	return listener, nil
}

// newServer serves the agent API on the listener until the returned function is called.
func newServer(listener net.Listener, questions chan<- func(*agent), s *settings) (stop func()) {
	g := grpc.NewServer()
	agentv1.RegisterAgentServer(g, &server{questions: questions, settings: s})
	ended := make(chan struct{})
	go func() { defer close(ended); g.Serve(listener) }()
	return func() { g.Stop(); <-ended }
}
