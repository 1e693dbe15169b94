package etcdlab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/margay-project/margay/internal/lab"
)

// memberVariable in its environment makes a test binary an etcd server.
const memberVariable = "ETCDLAB_MEMBER"

// BecomeMember does not return when this process was started as a member of a cluster.
func BecomeMember() {
	if os.Getenv(memberVariable) == "" {
		return
	}
	etcdmain.Main(os.Args)
	os.Exit(0)
}

// Member is one server of a cluster.
type Member struct {
	Port
	URL string // for clients

	// Socket is the URL of a unix socket for those that have no part in the network. Old servers have none.
	Socket string

	cluster *Cluster
	dir     string
	peer    string       // address among members
	output  *lab.Output  // what it said
	process *lab.Process // nil while it does not run
	client  *clientv3.Client
}

// Start starts the server with the data that it has, and does not wait for it. Further arguments override.
func (m *Member) Start(t testing.TB, arguments ...string) {
	t.Helper()
	cmd := m.command(t, append(m.arguments(), arguments...))
	m.output = &lab.Output{}
	cmd.Stdout, cmd.Stderr = m.output, m.output
	m.process = m.Host.Start(cmd)
}

func (m *Member) command(t testing.TB, arguments []string) *exec.Cmd {
	t.Helper()
	if m.cluster.options.Old {
		return exec.Command("etcd", arguments...)
	}
	program, environment := memberProgram(t)
	cmd := exec.Command(program, append(arguments, "--unsafe-no-fsync")...)
	cmd.Env = append(os.Environ(), environment...)
	return cmd
}

func (m *Member) arguments() []string {
	c, peer, listen := m.cluster, m.peerURL(), m.URL
	if !c.options.Old {
		listen += "," + m.Socket
	}
	return append([]string{
		"--name=" + m.name, "--data-dir=" + m.dir, "--log-level=error", "--logger=zap",
		"--listen-client-urls=" + listen, "--advertise-client-urls=" + m.URL,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + c.initial(), "--initial-cluster-state=new",
		"--listen-metrics-urls=" + healthURL,
	}, c.options.Arguments...)
}

func (m *Member) peerCable() string { return m.name + "-peer" }

func (m *Member) peerURL() string { return "http://" + m.peer + ":2380" }

// healthURL is where a member says whether it is well, to its own namespace.
const healthURL = "http://127.0.0.1:2381"

// Kill ends the server as a power failure does, and Start brings it back.
func (m *Member) Kill() {
	if m.process == nil {
		return
	}
	m.process.Kill()
	m.process = nil
}

// Restart kills the server and waits until it is back.
func (m *Member) Restart(t testing.TB) {
	t.Helper()
	m.Kill()
	m.Start(t)
	m.Await(t)
}

// Freeze stops the server without anybody noticing: its kernel goes on answering for it. Thaw lets it go on.
func (m *Member) Freeze(t testing.TB) { m.signal(t, syscall.SIGSTOP) }
func (m *Member) Thaw(t testing.TB)   { m.signal(t, syscall.SIGCONT) }

func (m *Member) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := m.process.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// Wipe removes the data of a server that does not run.
func (m *Member) Wipe(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(m.dir); err != nil {
		t.Fatal(err)
	}
}

// Replace does what an operator does for a member that lost its data: it is removed, added anew, and started.
func (m *Member) Replace(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), lab.Patience)
	defer cancel()
	others := m.cluster.Leader(t).Client(t)
	list, err := others.MemberList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range list.Members {
		if member.Name != m.name {
			continue
		}
		if _, err := others.MemberRemove(ctx, member.ID); err != nil {
			t.Fatal(err)
		}
	}
	lab.Await(t, func() error { // refused while the others do not know each other well enough
		_, err := others.MemberAdd(ctx, []string{m.peerURL()})
		return err
	})
	m.Start(t, "--initial-cluster-state=existing")
	m.Await(t)
}

// Ended says whether the server has ended by itself, and what it said.
func (m *Member) Ended() (output string, ended bool) {
	select {
	case <-m.process.Ended():
		return m.output.String(), true
	default:
		return "", false
	}
}

// healthy says whether the server can read and write.
func (m *Member) healthy() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, healthURL+"/health", nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: m.DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not healthy: %s", m.name, response.Status)
	}
	return nil
}

// Await waits until the server is a healthy member.
func (m *Member) Await(t testing.TB) {
	t.Helper()
	lab.Await(t, func() error {
		if output, ended := m.Ended(); ended {
			t.Fatalf("%s ended: %s", m.name, output)
		}
		return m.healthy()
	})
}

// Client is a connection from inside of the member's namespace, which no split cuts.
func (m *Member) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	if m.client == nil {
		config := m.cluster.options.Admin
		config.Endpoints, config.Logger, config.DialTimeout = []string{m.URL}, zap.NewNop(), lab.Patience
		config.DialOptions = []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return m.DialContext(ctx, "tcp", address)
		})}
		var err error
		if m.client, err = clientv3.New(config); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.client.Close() })
	}
	return m.client
}

func (m *Member) isLeader(t testing.TB) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	status, err := m.Client(t).Status(ctx, m.URL)
	return err == nil && status.Leader == status.Header.MemberId
}
