package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/internal/lab"
)

// drainingAgent is the agent of node-a. It announces each of its answers once, and the last one again and again.
type drainingAgent struct {
	agentv1.UnimplementedAgentServer
	answers [][]string // the communities of each route
	state   func() string
	asked   []string // the state of the node at each question
}

func (a *drainingAgent) Status(context.Context, *agentv1.StatusRequest) (*agentv1.StatusResponse, error) {
	return &agentv1.StatusResponse{Node: "node-a"}, nil
}

func (a *drainingAgent) Dump(_ context.Context, r *agentv1.DumpRequest) (*agentv1.DumpResponse, error) {
	a.asked = append(a.asked, a.state())
	answer := &agentv1.DumpResponse{Node: "node-a"}
	for _, community := range a.answers[0] {
		answer.Announcements = append(answer.Announcements, &agentv1.Announcement{Communities: strings.Fields(community)})
	}
	if len(a.answers) > 1 {
		a.answers = a.answers[1:]
	}
	return answer, nil
}

// drainHere runs margayctl node drain node-a on the machine of an agent. Its clock moves only while it waits.
func drainHere(t *testing.T, a *drainingAgent) (stdout, stderr string, code int, waits []time.Duration) {
	w, now := newWorld(), time.Unix(1000, 0)
	key := api.Key{Kind: api.KindNode, Name: "node-a"}
	if _, err := w.store.Create(t.Context(), &api.Node{TypeMeta: api.TypeMeta{Kind: "Node"}, Metadata: api.Metadata{Name: key.Name}}); err != nil {
		t.Fatal(err)
	}
	a.state = func() string {
		n, err := w.store.Get(context.Background(), key)
		if err != nil {
			return err.Error()
		}
		return n.Meta().Annotations[api.DrainAnnotation]
	}
	socket := filepath.Join(lab.ShortDir(t), "felix.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	agentv1.RegisterAgentServer(server, a)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	var out, errs bytes.Buffer
	s := newSession(strings.NewReader(""), io.Writer(&out), &errs, func(string) string { return "" })
	s.open = func(context.Context, *session) (store, func(), error) { return w.store, func() {}, nil }
	s.now = func() time.Time { return now }
	s.pause = func(_ context.Context, d time.Duration) error {
		now, waits = now.Add(d), append(waits, d)
		return nil
	}
	code = s.run(t.Context(), []string{"node", "drain", "node-a", "--wait", "7m", "--agent", socket})
	return out.String(), errs.String(), code, waits
}

// The time of --wait begins when felix announces every route as the last choice. The command ends when felix announces nothing.
func TestADrainFollowsTheAgent(t *testing.T) {
	t.Parallel()
	a := &drainingAgent{answers: [][]string{
		{"", "64512:7"}, {"65535:0", "64512:7"}, {"65535:0", "64512:7 65535:0"}, {"65535:0"}, {},
	}}
	stdout, stderr, code, waits := drainHere(t, a)
	want := "Node node-a drains: felix announces 2 routes with GRACEFUL_SHUTDOWN, and peers have 7m0s to move to other paths\n" +
		"Node node-a is drained: it announces no routes\n"
	if stdout != want || stderr != "" || code != 0 {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if got := strings.Join(a.asked, " "); got != "draining draining draining drained drained" {
		t.Errorf("the node was %s", got)
	}
	if len(waits) != 4 || waits[2] != 7*time.Minute {
		t.Errorf("waited %v", waits)
	}
}

// If felix does not follow, the node goes on draining, and the command says so.
func TestADrainThatTheAgentDoesNotFollowWithdrawsNothing(t *testing.T) {
	t.Parallel()
	a := &drainingAgent{answers: [][]string{{"64512:7"}}}
	stdout, stderr, code, _ := drainHere(t, a)
	if code == 0 || stdout != "" || !strings.Contains(stderr, "felix does not announce its routes with GRACEFUL_SHUTDOWN: it announces 1 routes") || a.state() != "draining" {
		t.Errorf("exit code %d, state %s\n%s%s", code, a.state(), stdout, stderr)
	}
}
