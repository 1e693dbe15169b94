package bgp_test

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
	"github.com/margay-project/margay/internal/lab"
)

// pair is a host and a router with a cable between them.
type pair struct {
	host, router *lab.Host
	linkLocal    bool // the ends of the cable have only link-local addresses
}

// node has its sessions with a router in another AS.
func (l *pair) node() calc.BGP {
	if l.linkLocal {
		return linkLocalNode(routerAS)
	}
	return node(routerAS)
}

const (
	host4, router4 = "10.99.0.1", "10.99.0.2"
	host6, router6 = "fd99::1", "fd99::2"
	cable          = "cable" // the interface at each end
)

func newPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{host: lab.NewHost(t), router: lab.NewHost(t)}
	lab.Cable(p.host, cable, p.router, cable)
	p.host.Up(cable, host4+"/24", host6+"/64")
	p.router.Up(cable, router4+"/24", router6+"/64")
	return p
}

// process is this test binary, run in another role.
type process struct {
	*lab.Process
	in  io.WriteCloser
	out *bufio.Reader

	questions *gob.Encoder // requests to a speaker, and its answers
	answers   *gob.Decoder
}

func run(t testing.TB, on *lab.Host, role string) *process {
	t.Helper()
	return runLogging(t, on, role, &testWriter{t})
}

// runLogging runs a process that writes its log to a writer.
func runLogging(t testing.TB, on *lab.Host, role string, log io.Writer, environment ...string) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role), environment...)
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{in: in, out: bufio.NewReader(out)}
	p.questions, p.answers = gob.NewEncoder(p.in), gob.NewDecoder(p.out)
	p.Process = on.Start(cmd)
	return p
}

func (p *process) ask(t testing.TB, r request) answer {
	t.Helper()
	if err := p.questions.Encode(r); err != nil {
		t.Fatalf("ask the speaker: %v", err)
	}
	var a answer
	if err := p.answers.Decode(&a); err != nil {
		t.Fatalf("read the speaker's answer: %v", err)
	}
	return a
}

func (p *process) apply(t testing.TB, want calc.BGP) {
	t.Helper()
	if a := p.ask(t, request{Apply: &want}); a.Error != "" {
		t.Fatalf("apply: %s", a.Error)
	}
}

func (p *process) status(t testing.TB) []bgp.PeerStatus {
	t.Helper()
	return p.ask(t, request{Status: true}).Status
}

// waitUp waits until all peers are established and have our paths.
func (p *process) waitUp(t testing.TB) {
	t.Helper()
	lab.Await(t, func() error {
		for _, s := range p.status(t) {
			if s.State != "Established" || s.Announced == 0 {
				return fmt.Errorf("%+v", s)
			}
		}
		return nil
	})
}

// testWriter copies a child's log into the test's log.
type testWriter struct{ t testing.TB }

func (w *testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}
