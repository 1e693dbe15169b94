package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/margay-project/margay/api"
	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/datastore"
	"github.com/margay-project/margay/datastore/clustertest"
	"github.com/margay-project/margay/datastore/etcd"
	"github.com/margay-project/margay/datastore/etcd/embed"
	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/internal/skip"
)

// The tests with a lab run the real program, built once for all of them, on a host of their own: a network namespace
// with VMs behind it, and etcd in the test's process, so that a test can stop it.

func TestMain(m *testing.M) {
	clustertest.BecomeMember()
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

// felixBinary is the program, with the race detector if the test has it.
func felixBinary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "felix-test"); built.err != nil {
			return
		}
		args := []string{"build", "-o", filepath.Join(built.dir, "felix")}
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

// patience is how long a test waits for what must come; nothing takes nearly as long.
const patience = 3 * time.Minute

// poll waits until a condition holds; the text of the error says what is missing.
func poll(t testing.TB, condition func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = condition(); err == nil {
			return
		}
	}
	t.Fatal("waited in vain: ", err)
}

// place is a network namespace; all work in it is done by one thread that never leaves it.
type place struct {
	ns    netns.NsHandle
	calls chan func()
}

func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		p.ns, err = netns.New()
		ready <- err
		for call := range p.calls {
			call()
		}
	}()
	must(t, <-ready)
	t.Cleanup(func() {
		close(p.calls)
		p.ns.Close()
	})
	p.setUp(t, "lo")
	return p
}

func (p *place) do(f func() error) error {
	result := make(chan error)
	p.calls <- func() { result <- f() }
	return <-result
}

func (p *place) setUp(t testing.TB, dev string, prefixes ...string) {
	t.Helper()
	must(t, p.do(func() error {
		link, err := netlink.LinkByName(dev)
		for _, text := range prefixes {
			var addr *netlink.Addr
			if err == nil {
				addr, err = netlink.ParseAddr(text)
			}
			if err == nil {
				addr.Flags = unix.IFA_F_NODAD
				err = netlink.AddrAdd(link, addr)
			}
		}
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	}))
}

func (p *place) defaultRoute(t testing.TB, dev, gateway string) {
	t.Helper()
	must(t, p.do(func() error {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway), Flags: int(netlink.FLAG_ONLINK),
		})
	}))
}

func cable(t testing.TB, a *place, devA string, b *place, devB string) {
	t.Helper()
	must(t, a.do(func() error {
		link := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: devB, PeerNamespace: netlink.NsFd(b.ns)}
		link.Name = devA
		return netlink.LinkAdd(link)
	}))
}

// lab is a host called host1 with an uplink to a client, VMs, and an etcd.
type lab struct {
	testing.TB
	dir          string
	host, client *place
	etcd         *embed.Server
	store        *datastore.Store
	binary       string
	within       []string // the command that runs felix; none: the test itself
	cluster      []string // endpoints of the etcd that felix uses instead of the lab's own
}

const (
	hostAddress   = "192.0.2.10"
	clientAddress = "192.0.2.1"
)

// newLab makes the host with its client; etcd does not run yet.
func newLab(t testing.TB) *lab {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		test.Parallel()
	}
	if os.Geteuid() != 0 {
		skip.For(t, "needs root to load programs and make network namespaces")
	}
	l := &lab{TB: t, binary: felixBinary(t)}
	l.host, l.client = newPlace(t), newPlace(t)
	var err error
	l.dir, err = os.MkdirTemp("", "felix") // short: the path of a unix socket is limited
	must(t, err)
	t.Cleanup(l.leaveNothing)
	cable(t, l.host, "eth0", l.client, "eth0")
	l.host.setUp(t, "eth0", hostAddress+"/24")
	l.client.setUp(t, "eth0", clientAddress+"/24")
	l.host.defaultRoute(t, "eth0", clientAddress)
	l.client.defaultRoute(t, "eth0", hostAddress)
	must(t, l.host.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }))
	return l
}

// leaveNothing uninstalls felix, which must leave no pin and no mount behind.
func (l *lab) leaveNothing() {
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

// uninstall returns what felix said.
func (l *lab) uninstall() string {
	l.Helper()
	var out []byte
	err := l.host.do(func() (err error) { out, err = l.command("--uninstall").CombinedOutput(); return err })
	if err != nil {
		l.Errorf("uninstall: %v\n%s", err, out)
	}
	return string(out)
}

func (l *lab) pins() string     { return filepath.Join(l.dir, "bpf") }
func (l *lab) socket() string   { return filepath.Join(l.dir, "felix.sock") }
func (l *lab) etcdDir() string  { return filepath.Join(l.dir, "etcd") }
func (l *lab) endpoint() string { return "unix://" + filepath.Join(l.etcdDir(), "etcd.sock") }

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// startEtcd starts etcd with the data that it had.
func (l *lab) startEtcd() {
	l.Helper()
	var err error
	l.etcd, err = embed.Start(context.Background(), embed.Config{Dir: l.etcdDir(), Log: quiet()})
	must(l, err)
	client, err := etcd.Dial(context.Background(), etcd.Config{Endpoints: []string{l.endpoint()}})
	must(l, err)
	l.store = datastore.New(client)
}

func (l *lab) stopEtcd() {
	if l.etcd != nil {
		l.store.Close()
		l.etcd.Close()
		l.etcd = nil
	}
}

// apply writes objects as margayctl would.
func (l *lab) apply(yaml string) {
	l.Helper()
	ctx := context.Background()
	objects, err := api.Decode([]byte(yaml))
	must(l, err)
	must(l, l.store.EnsureInitialized(ctx))
	for _, o := range objects {
		_, err := l.store.Create(ctx, o)
		if isError[datastore.ExistsError](err) {
			current, getErr := l.store.Get(ctx, api.KeyOf(o))
			if unreadable, ok := errors.AsType[datastore.UnreadableError](getErr); ok {
				current, getErr = unreadable.Current, nil
			}
			must(l, getErr)
			labels := o.Meta().Labels
			*o.Meta() = *current.Meta()
			o.Meta().Labels = labels
			_, err = l.store.Update(ctx, o)
		}
		must(l, err)
	}
}

func (l *lab) delete(kind, namespace, name string) {
	l.Helper()
	_, err := l.store.Delete(context.Background(), api.Key{Kind: kind, Namespace: namespace, Name: name}, "")
	must(l, err)
}

// put writes a value straight into etcd, past every check.
func (l *lab) put(key, value string) {
	l.Helper()
	_, err := l.store.KV().Commit(context.Background(), nil, []kv.Write{{Key: key, Value: []byte(value)}})
	must(l, err)
}

// vm makes a VM behind the interface cali-NAME of the host, with an endpoint NAME.
func (l *lab) vm(name, address string) *place {
	l.Helper()
	vm := newPlace(l)
	cable(l, l.host, "cali-"+name, vm, "eth0")
	l.host.setUp(l, "cali-"+name)
	vm.setUp(l, "eth0", address+"/32")
	vm.defaultRoute(l, "eth0", "169.254.1.1")
	return vm
}

// workload is the manifest of a VM's endpoint.
func workload(name, dev, address string) string {
	return fmt.Sprintf(`
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: host1-libvirt-%s-eth0, namespace: shop, labels: {role: %s}}
spec: {node: host1, orchestrator: libvirt, workload: %s, endpoint: eth0, interfaceName: %s, ipNetworks: [%s/32], profiles: [open]}
---
`, name, name, name, dev, address)
}

// openProfile lets everything in and out that no policy is about.
const openProfile = `
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: open}
spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}
---
`

// policy is a manifest that has one rule for what comes to the VMs of a role.
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
	*lab
	cmd   *exec.Cmd
	log   *buffer
	ended chan struct{}
}

func (l *lab) command(args ...string) *exec.Cmd {
	line := append(slices.Clone(l.within), l.binary, "--node-name", "host1", "--pin-dir", l.pins(), "--agent-socket", l.socket())
	cmd := exec.Command(line[0], append(line[1:], args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start starts felix on the host; variables are further ones of its environment.
func (l *lab) start(variables ...string) *felix {
	l.Helper()
	endpoints := l.endpoint()
	if l.cluster != nil {
		endpoints = strings.Join(l.cluster, ",")
	}
	return l.launch([]string{"--etcd-endpoints", endpoints}, variables...)
}

// launch starts felix on the host with further arguments and variables.
func (l *lab) launch(args []string, variables ...string) *felix {
	l.Helper()
	cmd := l.command(args...)
	cmd.Env = append(cmd.Env, variables...)
	f := &felix{lab: l, cmd: cmd, log: &buffer{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = f.log, f.log
	must(l, l.host.do(cmd.Start))
	go func() { cmd.Wait(); close(f.ended) }()
	l.Cleanup(func() {
		f.kill()
		if l.Failed() || testing.Verbose() {
			l.Logf("felix said:\n%s", f.log)
		}
		if strings.Contains(f.log.String(), "DATA RACE") {
			l.Errorf("felix has a data race:\n%s", f.log)
		}
	})
	return f
}

// startSynced starts felix and waits until what the datastore holds is in force.
func (l *lab) startSynced(variables ...string) *felix {
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

// kill ends felix as a crash does.
func (f *felix) kill() {
	f.cmd.Process.Kill()
	<-f.ended
}

// terminate asks felix to end, and sees that it does so in peace.
func (f *felix) terminate() {
	f.Helper()
	must(f, f.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-f.ended:
	case <-time.After(patience):
		f.Fatal("felix does not end")
	}
	if code := f.cmd.ProcessState.ExitCode(); code != 0 {
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

// await waits for a status.
func (f *felix) await(condition func(*agentv1.StatusResponse) error) (s *agentv1.StatusResponse) {
	f.Helper()
	poll(f, func() (err error) {
		if s, err = f.status(); err != nil {
			return err
		}
		return condition(s)
	})
	return s
}

// awaitApplied waits until everything that is in the datastore now is in force.
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
			if i.Name == dev && i.State == "enforced" && !strings.HasPrefix(i.Reason, "by the program of") {
				return nil
			}
		}
		return fmt.Errorf("%s is not enforced: %v", dev, s.Interfaces)
	})
}

// awaitProblem waits for a problem of an object that has all of these texts.
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

// buffer collects what felix writes.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *buffer) lines(part string) (n int) {
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// echo answers UDP in a place, on every address, until the test ends.
func (p *place) echo(t testing.TB, port int) {
	t.Helper()
	var conn net.PacketConn
	must(t, p.do(func() (err error) {
		conn, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		return err
	}))
	var done sync.WaitGroup
	done.Go(func() {
		packet := make([]byte, 64)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			conn.WriteTo(packet[:n], from)
		}
	})
	t.Cleanup(func() { conn.Close(); done.Wait() })
}

// dial opens a UDP socket in a place.
func (p *place) dial(t testing.TB, to string, port int) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	must(t, p.do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), uint16(port))))
		return err
	}))
	return conn
}

// reaches says whether a new flow is answered; a packet may get lost while addresses are resolved, so it tries twice.
func (p *place) reaches(t testing.TB, to string, port int) bool {
	t.Helper()
	for range 2 {
		conn := p.dial(t, to, port)
		conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
		_, err := conn.Write([]byte("hello"))
		if err == nil {
			_, err = conn.Read(make([]byte, 64))
		}
		conn.Close()
		if err == nil {
			return true
		}
	}
	return false
}

// awaitReach waits until new flows are answered, or are not.
func (p *place) awaitReach(t testing.TB, to string, port int, want bool) {
	t.Helper()
	poll(t, func() error {
		if p.reaches(t, to, port) != want {
			return fmt.Errorf("reaching %s:%d is not %v", to, port, want)
		}
		return nil
	})
}
