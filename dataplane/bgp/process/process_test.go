package process

import (
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"net/rpc"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"

	"github.com/margay-project/margay/calc"
	"github.com/margay-project/margay/dataplane/bgp"
	"github.com/margay-project/margay/internal/lab"
)

const roleVariable = "MARGAY_BGP_PROCESS_ROLE"

func TestMain(m *testing.M) {
	conn, _ := Inherited()
	switch os.Getenv(roleVariable) {
	case "child":
		Serve(conn, quiet())
	case "hangs":
		server := rpc.NewServer()
		_ = server.RegisterName("Speaker", hanging{})
		server.ServeConn(conn)
	case "works", "works for ever":
		server := rpc.NewServer()
		_ = server.RegisterName("Speaker", working{forever: os.Getenv(roleVariable) != "works"})
		server.ServeConn(conn)
	case "babbles":
		server := rpc.NewServer()
		_ = server.RegisterName("Speaker", babbling{})
		server.ServeConn(conn)
		select {} // nor does it end with the connection
	case "fails":
		os.Stderr.WriteString("fatal error: no memory\n")
		os.Exit(2)
	default:
		os.Exit(m.Run())
	}
}

// hanging is a child that does not answer.
type hanging struct{}

func (hanging) Begin(_ bgp.Options, _ *none) error { return nil }
func (hanging) Follow(_ none, _ *News) error       { select {} }
func (hanging) Apply(_ Change, _ *none) error      { select {} }

// working is a child that works for longer than an agent waits for one that hangs.
type working struct{ forever bool }

func (working) Begin(_ bgp.Options, _ *none) error { return nil }
func (working) Follow(_ none, _ *News) error       { select {} }
func (w working) Apply(_ Change, _ *none) error {
	for began := time.Now(); w.forever || time.Since(began) < shortPatience*3/2; {
	}
	return nil
}

// babbling is a child whose answers nobody understands.
type babbling struct{}

func (babbling) Begin(_ bgp.Options, _ *none) error { return nil }
func (babbling) Apply(_ Change, _ *none) error      { return nil }
func (babbling) Follow(_ none, answer *string) error {
	*answer = "no news"
	return nil
}

const shortPatience = 3 * time.Second // enough to start

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// start runs a Process whose children have a role.
func start(t *testing.T, role string, patience time.Duration) *Process {
	t.Helper()
	p := newProcess(Options{Log: quiet(), Stderr: io.Discard, Speaker: bgp.Options{ListenPort: -1}, Command: func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"="+role)
		return cmd
	}}, patience)
	t.Cleanup(p.Close)
	return p
}

func wanted() calc.BGP {
	return calc.BGP{
		AS: 64512, RouterID: netip.MustParseAddr("10.0.0.1"),
		// Nobody answers there.
		Peers: map[string]calc.Peer{"peer": {Object: "tor", Address: netip.MustParseAddr("127.99.0.9"), AS: 65000, MaxPrefixes: 1000}},
		Paths: map[netip.Prefix]calc.Path{netip.MustParsePrefix("192.0.2.0/26"): {Communities: []string{"64512:1"}, Reason: "block"}},
	}
}

// childOf returns the process id of the child.
func childOf(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		children, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for _, text := range strings.Fields(string(children)) {
			pid, _ := strconv.Atoi(text)
			return pid
		}
	}
	t.Fatal("no child")
	return 0
}

// A child that is killed is replaced, and the next one has everything that was wanted.
func TestAKilledChildIsReplaced(t *testing.T) {
	p := start(t, "child", patience)
	if err := p.Apply(wanted()); err != nil {
		t.Fatal(err)
	}
	<-p.News()
	if _, _, anew := p.TakeLearned(); !anew {
		t.Error("the first child is not new")
	}
	for range 3 {
		before := childOf(t)
		child, err := os.FindProcess(before)
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Kill(); err != nil {
			t.Fatal(err)
		}
		anew := false
		lab.Await(t, func() error {
			_, _, now := p.TakeLearned()
			anew = anew || now
			list, err := p.Announced()
			if err != nil || !anew || len(list) != 1 || !p.Running() || childOf(t) == before {
				return errors.New("the next child does not run, or does not announce the path")
			}
			return nil
		})
		st := p.Status()
		if len(st) != 1 || st[0].Object != "tor" || st[0].State == "Failed" || !strings.Contains(st[0].LastError, "killed") && !strings.Contains(st[0].LastError, "connect") {
			t.Errorf("%+v", st)
		}
	}
	want := wanted()
	want.Paths = nil
	if err := p.Apply(want); err != nil {
		t.Error(err)
	}
	if list, err := p.Announced(); err != nil || len(list) != 0 {
		t.Errorf("error %v, announced: %v", err, list)
	}
}

// An agent that waits for a child that hangs gets an error, and another child.
func TestAChildThatHangsIsReplaced(t *testing.T) {
	p := start(t, "hangs", shortPatience)
	p.TakeLearned()
	if err := p.Apply(wanted()); err == nil || !strings.Contains(err.Error(), "has not answered for 3s") {
		t.Errorf("error: %v", err)
	}
	lab.Await(t, func() error {
		if _, _, anew := p.TakeLearned(); !anew {
			return errors.New("the child is not replaced")
		}
		return nil
	})
}

// An agent waits longer for a child that works, but not for ever.
func TestAChildThatWorksIsNotReplacedSoon(t *testing.T) {
	t.Parallel()
	for role, want := range map[string]string{"works": "", "works for ever": "has not answered for 9s"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			p := start(t, role, shortPatience)
			if err := p.Apply(wanted()); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// A child that lives and cannot be understood is replaced too.
func TestAChildThatBabblesIsReplaced(t *testing.T) {
	p := start(t, "babbles", patience)
	for range 2 {
		lab.Await(t, func() error {
			if _, _, anew := p.TakeLearned(); !anew {
				return errors.New("the child is not replaced")
			}
			return nil
		})
	}
}

// However the connection to a child breaks, the error says what that means.
func TestErrorsOfABrokenConnection(t *testing.T) {
	t.Parallel()
	for _, unread := range []bool{false, true} { // the kernel says something else if the child has left bytes unread
		ours, theirs, err := socketPair()
		if err != nil {
			t.Fatal(err)
		}
		killed := false
		c := &connection{rpc: rpc.NewClient(ours), kill: func() { killed = true }, work: func() (time.Duration, error) { return 0, nil }, patience: patience}
		if unread {
			c.rpc.Go(callFollow, none(true), new(News), nil)
		}
		if err := theirs.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := c.call(callRunning, none(true), new(bool)); err != errEnded || !killed {
				t.Errorf("unread is %v: error %v, and the child is ended: %v", unread, err, killed)
			}
		}
		c.rpc.Close()
	}
}

// The peers are shown also when no child can be started, with the reason.
func TestAChildThatCannotStartIsShown(t *testing.T) {
	p := start(t, "fails", patience)
	lab.Await(t, func() error {
		err := p.Apply(wanted())
		if err == nil {
			t.Fatal("no error")
		}
		if !strings.Contains(err.Error(), "no memory") {
			return err
		}
		return nil
	})
	if st := p.Status(); len(st) != 1 || st[0].State != "Failed" || st[0].Object != "tor" || st[0].Why == "" {
		t.Errorf("%+v", st)
	}
	if list, err := p.Announced(); p.Running() || err == nil || len(list) > 0 {
		t.Errorf("it runs: error %v, announced: %v", err, list)
	}
}

// The differences lead from each state to the next.
func TestDifferencesOfPaths(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var told, before map[netip.Prefix]calc.Path
	told = map[netip.Prefix]calc.Path{}
	for range 500 {
		now := map[netip.Prefix]calc.Path{}
		for range random.IntN(6) {
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(6))}), 32)
			now[prefix] = calc.Path{Reason: strconv.Itoa(random.IntN(2)), Interface: strconv.Itoa(random.IntN(2)), Communities: []string{strconv.Itoa(random.IntN(2))}}
		}
		changed, gone := difference(before, now)
		for _, prefix := range gone {
			delete(told, prefix)
		}
		maps.Copy(told, changed)
		if diff := cmp.Diff(now, told, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Fatalf("seed %d: -want +got\n%s", seed, diff)
		}
		for prefix, path := range changed {
			if was, there := before[prefix]; there && equalPath(was, path) {
				t.Fatalf("seed %d: %v has not changed", seed, prefix)
			}
		}
		before = now
	}
}

// Filters without a rule are not the same as no filters.
func TestEmptyFiltersArrive(t *testing.T) {
	t.Parallel()
	c := Change{Settings: wanted()}
	peer := c.Settings.Peers["peer"]
	peer.Filters = &calc.RouteFilters{}
	c.Settings.Peers["peer"] = peer
	var text bytes.Buffer
	var got Change
	if err := gob.NewEncoder(&text).Encode(c); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewDecoder(&text).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Settings.Peers["peer"].Filters == nil {
		t.Error("the peer has no filters any more")
	}
}

// Peers that wait for a trial get their session soon, and a closed one does not. The others are not withheld.
func TestWithheldPeersOfASearch(t *testing.T) {
	t.Parallel()
	want := wanted()
	for _, name := range []string{"closed", "waiting", "absent"} {
		want.Peers[name] = want.Peers["peer"]
	}
	p := &Process{want: want}
	p.suspects = suspects{waiting: [][]string{{"waiting"}}, absent: []string{"absent"}, closed: map[string]closing{"closed": {why: "panic"}}}
	got := map[string]bool{}
	for name, w := range p.withheld() {
		got[name] = w.Soon
	}
	if diff := cmp.Diff(map[string]bool{"closed": false, "waiting": true, "absent": true}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	p.suspects = suspects{trial: []string{"peer"}}
	if alone := p.withheld(); len(alone) != 3 || !alone["closed"].Soon {
		t.Errorf("a peer is tried alone, and these are withheld: %v", alone)
	}
}

// A panic of our own is not the fault of a peer, although other goroutines are in GoBGP.
func TestAPanicOfOurOwnHasNoFunctionOfGoBGP(t *testing.T) {
	t.Parallel()
	const log = `panic: ours

goroutine 1 [running]:
main.main()

goroutine 7 [select]:
github.com/osrg/gobgp/v3/pkg/server.(*BgpServer).Serve(0x1)
`
	if got := forwardLog(strings.NewReader(log), io.Discard); got != "ours" {
		t.Errorf("reason %q", got)
	}
}

func TestTheReasonOfAPanic(t *testing.T) {
	t.Parallel()
	const log = `time="..." level=info msg="BGP session is up"
panic: runtime error: slice bounds out of range [:20] with capacity 7

goroutine 68 [running]:
runtime.panicSlice(0x1)
github.com/osrg/gobgp/v3/pkg/packet/bgp.(*SRv6InformationSubTLV).DecodeFromBytes(0x3865ea3a6f00, {0x3865ea0a11ef, 0x3, 0x7})
	/src/prefix_sid.go:386 +0x399
github.com/osrg/gobgp/v3/pkg/packet/bgp.ParseBGPBody(...)
`
	var copied strings.Builder
	got := forwardLog(strings.NewReader(log), &copied)
	const want = "runtime error: slice bounds out of range [:20] with capacity 7 in GoBGP's packet/bgp.(*SRv6InformationSubTLV).DecodeFromBytes"
	if got != want || copied.String() != log {
		t.Errorf("reason %q, copied\n%s", got, copied.String())
	}
}
