package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/etcd/embed"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// The tests with a site run the real program, which is built once for all of them. Each site has a host of its own, which is a
// network namespace with VMs behind it. Etcd runs in the test's process so that a test can stop it.

func TestMain(m *testing.M) {
	etcdlab.BecomeMember()
	becomeServer()
	flag.Parse()
	flag.Set("test.parallel", "6") // they mostly wait
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// felixBinary builds the program and returns its path. It has the race detector if the test has it.
func felixBinary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "felix-test"); built.err != nil {
			return
		}
		args := []string{"build", "-ldflags=-s -w", "-o", filepath.Join(built.dir, "felix")} // without what only debuggers need
		if raceDetector {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	must(t, built.err)
	return filepath.Join(built.dir, "felix")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a host named host1 with an uplink to a client, VMs, and an etcd.
type site struct {
	testing.TB
	node         string // its name
	dir          string
	host, client *lab.Host
	etcd         *embed.Server
	store        *datastore.Store
	binary       string
	within       []string // the command that runs felix; empty: the test runs it directly
	protocol     int      // of the routes that learned returns; 0: those of BGP neighbours
	cluster      []string // endpoints of the etcd that felix uses instead of the site's own
}

const (
	hostAddress   = "192.0.2.10"
	clientAddress = "192.0.2.1"
)

// newSite makes the host with its client; etcd does not run yet.
func newSite(t testing.TB) *site {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		test.Parallel()
	}
	l := &site{TB: t, node: "host1", host: lab.NewHost(t), client: lab.NewHost(t), binary: felixBinary(t)}
	var err error
	l.dir, err = os.MkdirTemp("", "felix") // short: the path of a unix socket is limited
	must(t, err)
	t.Cleanup(l.leaveNothing)
	lab.Cable(l.host, "eth0", l.client, "eth0")
	l.host.Up("eth0", hostAddress+"/24")
	l.client.Up("eth0", clientAddress+"/24")
	l.host.DefaultRoute("eth0", clientAddress)
	l.client.DefaultRoute("eth0", hostAddress)
	l.host.Sysctl("ipv4/ip_forward", "1")
	return l
}

// leaveNothing uninstalls felix and checks that no pin and no mount is left.
func (l *site) leaveNothing() {
	l.stopEtcd()
	l.uninstall()
	if _, err := os.Stat(l.pins()); !errors.Is(err, os.ErrNotExist) {
		l.Errorf("the pin directory is left: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(l, err)
	if strings.Contains(string(mounts), l.dir) {
		l.Errorf("a mount is left in %s", l.dir)
		unix.Unmount(l.pins(), unix.MNT_DETACH)
	}
	must(l, os.RemoveAll(l.dir))
}

// uninstall returns the output of felix.
func (l *site) uninstall() string {
	l.Helper()
	out, err := l.host.Run(l.command("--uninstall"))
	if err != nil {
		l.Errorf("uninstall: %v\n%s", err, out)
	}
	return out
}

func (l *site) pins() string     { return filepath.Join(l.dir, "bpf") }
func (l *site) socket() string   { return filepath.Join(l.dir, "felix.sock") }
func (l *site) etcdDir() string  { return filepath.Join(l.dir, "etcd") }
func (l *site) endpoint() string { return "unix://" + filepath.Join(l.etcdDir(), "etcd.sock") }

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// startEtcd starts etcd with its earlier data.
func (l *site) startEtcd() {
	l.Helper()
	l.etcd = etcdlab.StartServer(l, l.etcdDir())
	client, err := etcd.Dial(context.Background(), etcd.Config{Endpoints: []string{l.endpoint()}, DialTimeout: lab.Patience})
	must(l, err)
	l.store = datastore.New(client)
}

func (l *site) stopEtcd() {
	if l.etcd != nil {
		l.store.Close()
		l.etcd.Close()
		l.etcd = nil
	}
}

// apply writes objects as margayctl would.
func (l *site) apply(yaml string) {
	l.Helper()
	objects, err := api.Decode([]byte(yaml))
	must(l, err)
	l.awaitAnswer(func() error { return l.store.EnsureInitialized(context.Background()) })
	for _, o := range objects {
		l.awaitAnswer(func() error { return l.write(o) })
	}
}

// awaitAnswer repeats a request to etcd while nobody answers: the members of a cluster may need long to elect a leader.
func (l *site) awaitAnswer(request func() error) {
	l.Helper()
	var refusal error
	lab.Await(l, func() error {
		if err := request(); etcd.Unreachable(err) {
			return err
		} else {
			refusal = err
		}
		return nil
	})
	must(l, refusal)
}

// write creates an object, or replaces the one of its name.
func (l *site) write(o api.Object) error {
	ctx := context.Background()
	_, err := l.store.Create(ctx, o)
	if !isError[datastore.ExistsError](err) {
		return err
	}
	current, err := l.store.Get(ctx, api.KeyOf(o))
	if unreadable, ok := errors.AsType[datastore.UnreadableError](err); ok {
		current, err = unreadable.Current, nil
	}
	if err != nil {
		return err
	}
	labels := o.Meta().Labels
	*o.Meta() = *current.Meta()
	o.Meta().Labels = labels
	_, err = l.store.Update(ctx, o)
	return err
}

func (l *site) delete(kind, namespace, name string) {
	l.Helper()
	_, err := l.store.Delete(context.Background(), api.Key{Kind: kind, Namespace: namespace, Name: name}, "")
	must(l, err)
}

// put writes a value directly into etcd, without any check.
func (l *site) put(key, value string) {
	l.Helper()
	_, err := l.store.KV().Commit(context.Background(), nil, []kv.Write{{Key: key, Value: []byte(value)}})
	must(l, err)
}

// vm makes a VM behind the interface cali-NAME of the host, for an endpoint NAME.
func (l *site) vm(name, address string) *lab.VM {
	l.Helper()
	return l.host.Plug("cali-"+name, address)
}

// reaches reports whether a new flow from the client is answered.
func (l *site) reaches(address string) bool {
	l.Helper()
	return l.client.Reaches("udp", netip.MustParseAddr(address), port)
}

// awaitReach waits until new flows from the client are answered, or until they are not.
// stillReaches reports whether a new flow from the client is answered. It has patience for a busy machine, which may be slow to answer
// for seconds.
func (l *site) stillReaches(address string) bool {
	l.Helper()
	for range 10 {
		if l.reaches(address) {
			return true
		}
	}
	return false
}

func (l *site) awaitReach(address string, want bool) {
	l.Helper()
	lab.Await(l, func() error {
		if l.reaches(address) != want {
			return fmt.Errorf("reaching %s is not %v", address, want)
		}
		return nil
	})
}

// workload returns the manifest of a VM's endpoint.
func workload(name, dev, address string) string {
	a := netip.MustParseAddr(address)
	return fmt.Sprintf(`
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: host1-libvirt-%s-eth0, namespace: shop, labels: {role: %s}}
spec: {node: host1, orchestrator: libvirt, workload: %s, endpoint: eth0, interfaceName: %s, ipNetworks: ["%v"], profiles: [open]}
---
`, name, name, name, dev, netip.PrefixFrom(a, a.BitLen()))
}

// openProfile allows all traffic of endpoints without a policy.
const openProfile = `
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: open}
spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}
---
`

// policy returns a manifest with one ingress rule for the VMs of a role.
func policy(name, role, action string) string {
	return fmt.Sprintf(`
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: %s}
spec: {selector: role == '%s', types: [Ingress], ingress: [{action: %s, protocol: UDP}]}
---
`, name, role, action)
}

// felix is a running agent.
type felix struct {
	*site
	process *lab.Process
	log     *lab.Output
}

func (l *site) command(args ...string) *exec.Cmd {
	line := append(slices.Clone(l.within), l.binary, "--node-name", l.node, "--pin-dir", l.pins(), "--agent-socket", l.socket())
	cmd := exec.Command(line[0], append(line[1:], args...)...)
	// The race detector lets a process wait for a second at its end, in case another goroutine shows a race then.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=100"}
	return cmd
}

// start starts felix on the host with additional environment variables.
func (l *site) start(variables ...string) *felix {
	l.Helper()
	endpoints := l.endpoint()
	if l.cluster != nil {
		endpoints = strings.Join(l.cluster, ",")
	}
	return l.launch([]string{"--etcd-endpoints", endpoints}, variables...)
}

// launch starts felix on the host with additional arguments and environment variables.
func (l *site) launch(args []string, variables ...string) *felix {
	l.Helper()
	cmd := l.command(args...)
	cmd.Env = append(cmd.Env, variables...)
	f := &felix{site: l, log: &lab.Output{}}
	cmd.Stdout, cmd.Stderr = f.log, f.log
	f.process = l.host.Start(cmd)
	l.Cleanup(func() {
		f.kill()
		if l.Failed() || testing.Verbose() {
			l.Logf("output of felix:\n%s", f.log)
		}
		if strings.Contains(f.log.String(), "DATA RACE") {
			l.Errorf("felix has a data race:\n%s", f.log)
		}
	})
	return f
}

// startSynced starts felix and waits until the datastore's contents are in force.
func (l *site) startSynced(variables ...string) *felix {
	l.Helper()
	f := l.start(variables...)
	f.await(func(s *agentv1.StatusResponse) error {
		if !s.Datastore.InSync || s.Datastore.AppliedRevision == 0 {
			return errors.New("felix is not in sync")
		}
		return nil
	})
	return f
}

// kill ends felix like a crash.
func (f *felix) kill() {
	f.process.Kill()
}

// terminate asks felix to end, and checks that it ends cleanly.
func (f *felix) terminate() {
	f.Helper()
	must(f, f.process.Process.Signal(syscall.SIGTERM))
	select {
	case <-f.process.Ended():
	case <-time.After(lab.Patience):
		f.Fatal("felix does not end")
	}
	if code := f.process.ProcessState.ExitCode(); code != 0 {
		f.Errorf("exit status %d", code)
	}
}

func (f *felix) status() (*agentv1.StatusResponse, error) {
	conn, err := grpc.NewClient("unix://"+f.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return agentv1.NewAgentClient(conn).Status(ctx, &agentv1.StatusRequest{})
}

// await waits until the status fulfils a condition.
func (f *felix) await(condition func(*agentv1.StatusResponse) error) (s *agentv1.StatusResponse) {
	f.Helper()
	lab.Await(f, func() (err error) {
		if s, err = f.status(); err != nil {
			return err
		}
		return condition(s)
	})
	return s
}

// awaitApplied waits until the datastore's current revision is in force.
func (f *felix) awaitApplied() {
	f.Helper()
	page, err := f.store.KV().Range(context.Background(), kv.Prefix("/calico/"), 0, 1)
	must(f, err)
	f.await(func(s *agentv1.StatusResponse) error {
		if s.Datastore.AppliedRevision < page.Revision {
			return fmt.Errorf("revision %d is in force, not %d", s.Datastore.AppliedRevision, page.Revision)
		}
		return nil
	})
}

// awaitEnforced waits until policy is in force on an interface.
func (f *felix) awaitEnforced(dev string) {
	f.Helper()
	f.await(func(s *agentv1.StatusResponse) error {
		for _, i := range s.Interfaces {
			if i.Name == dev && i.State == "enforced" && !strings.HasPrefix(i.Reason, "the program of the former felix") {
				return nil
			}
		}
		return fmt.Errorf("%s is not enforced: %v", dev, s.Interfaces)
	})
}

// awaitProblem waits for a problem of an object that contains all of these texts.
func (f *felix) awaitProblem(object string, texts ...string) {
	f.Helper()
	f.await(func(s *agentv1.StatusResponse) error {
		for _, p := range s.Problems {
			all := p.Object == object
			for _, text := range texts {
				all = all && strings.Contains(p.Text, text)
			}
			if all {
				return nil
			}
		}
		return fmt.Errorf("no problem of %s says %q: %v", object, texts, s.Problems)
	})
}
