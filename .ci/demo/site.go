package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/margay-project/margay/internal/lab"
)

// Addresses of the examples in docs/examples.
const (
	webIP, webIP6   = "10.65.0.2", "fd00:65::2"
	dbIP, batchIP   = "10.65.0.3", "10.65.0.4"
	web2IP          = "10.65.0.66"
	hostIP, hostIP6 = "192.0.2.10", "2001:db8:2::10"
	host2IP         = "192.0.2.11"
	host2IP6        = "2001:db8:2::11"
	routerIP        = "192.0.2.1"
	routerIP6       = "2001:db8:2::1"
	clientIP        = "198.51.100.10"
	clientIP6       = "2001:db8:100::10"
)

// site is the demo's network:
//
//	web, db, batch --- host1 (felix) --- switch --- router (BGP) --- client
//	          web2 --- host2 (felix) -----/
type site struct {
	*stage
	dir                          string
	host1, host2, router, client *host
	web, db, batch, web2         *host
	webVM                        *lab.VM // web, which moves
	felix                        *lab.Process
	env                          []string // for margayctl
	felixBinary, margayctlBinary string
}

func newSite(stage *stage) *site {
	l := &site{stage: stage, dir: lab.ShortDir(stage)}
	l.felixBinary, l.margayctlBinary = l.binary("felix"), l.binary("margayctl")
	l.env = []string{
		"DATASTORE_TYPE=etcdv3",
		"ETCD_ENDPOINTS=unix://" + filepath.Join(l.dir, "etcd", "etcd.sock"),
		"MARGAY_AGENT=unix://" + filepath.Join(l.dir, "host1.sock"),
	}
	l.connectFabric()
	l.webVM = l.host1.Plug("cali-web", webIP, webIP6)
	l.web = &host{l.webVM.Host, "web"}
	l.db, l.batch = vm(l.host1, "db", dbIP), vm(l.host1, "batch", batchIP)
	l.web2 = vm(l.host2, "web2", web2IP)
	for _, h := range []*host{l.host1, l.host2} {
		l.Cleanup(func() { syscall.Unmount(l.pins(h), syscall.MNT_DETACH) })
	}
	return l
}

func (l *site) binary(name string) string {
	path, err := filepath.Abs("bin/" + name)
	if err != nil {
		l.Fatalf("%v", err)
	}
	return path
}

func (l *site) host(name string) *host { return &host{lab.NewHost(l), name} }

// connectFabric builds what a network team gives: two hosts and a router on a switch, and a client, without any route to the VMs.
func (l *site) connectFabric() {
	l.host1, l.host2, l.router, l.client = l.host("host1"), l.host("host2"), l.host("router"), l.host("client")
	sw := l.host("switch")
	bridge := sw.Bridge("switch")
	for _, end := range []struct {
		at  *host
		dev string
	}{{l.host1, "eth0"}, {l.host2, "eth0"}, {l.router, "rack"}} {
		lab.Cable(end.at.Host, end.dev, sw.Host, end.at.name)
		sw.Join(end.at.name, bridge)
		sw.Up(end.at.name)
	}
	lab.Cable(l.client.Host, "eth0", l.router.Host, "office")
	l.host1.Up("eth0", hostIP+"/24", hostIP6+"/64")
	l.host2.Up("eth0", host2IP+"/24", host2IP6+"/64")
	l.router.Up("rack", routerIP+"/24", routerIP6+"/64")
	l.router.Up("office", "198.51.100.1/24", "2001:db8:100::1/64")
	l.client.Up("eth0", clientIP+"/24", clientIP6+"/64")
	l.router.Forward()
	for _, h := range []*host{l.host1, l.host2} {
		h.DefaultRoute("eth0", routerIP)
		h.DefaultRoute("eth0", routerIP6)
	}
	l.client.DefaultRoute("eth0", "198.51.100.1")
	l.client.DefaultRoute("eth0", "2001:db8:100::1")
}

// vm builds what a hypervisor gives: an interface on the host for each VM, and nothing else on the host.
func vm(on *host, name string, addresses ...string) *host {
	return &host{on.Plug("cali-"+name, addresses...).Host, name}
}

// startFelix starts the agent on host1 as an operator would, with its own etcd.
func (l *site) startFelix(ctx context.Context) (err error) {
	l.felix, err = l.startAgent(ctx, l.host1, "--embedded-etcd", filepath.Join(l.dir, "etcd"))
	return err
}

// startAgent starts an agent and waits until it answers and has read the datastore.
func (l *site) startAgent(ctx context.Context, on *host, datastore ...string) (*lab.Process, error) {
	cmd := exec.CommandContext(ctx, l.felixBinary, append(datastore,
		"--node-name", on.name, "--agent-socket", l.socket(on), "--pin-dir", l.pins(on))...)
	cmd.Stdout = l.logFile(l.felixLog(on))
	cmd.Stderr = cmd.Stdout
	running := on.Start(cmd)
	l.Cleanup(func() { terminate(running) })
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		var status struct{ Datastore struct{ InSync bool } }
		if l.margayctlJSON(&status, "status", "--agent", "unix://"+l.socket(on)) == nil && status.Datastore.InSync {
			return running, nil
		}
		select {
		case <-running.Ended():
			deadline = time.Now()
		case <-time.After(50 * time.Millisecond):
		}
	}
	log, _ := os.ReadFile(l.felixLog(on))
	return running, fmt.Errorf("felix on %s did not start; its log:\n%s", on.name, log)
}

func (l *site) felixLog(on *host) string { return filepath.Join(l.dir, on.name+".log") }
func (l *site) socket(on *host) string   { return filepath.Join(l.dir, on.name+".sock") }
func (l *site) pins(on *host) string     { return filepath.Join(l.dir, "bpf-"+on.name) }

// margayctl runs the command line and returns all that it printed.
func (l *site) margayctl(args ...string) (string, error) {
	out, err := l.margayctlCommand(args).CombinedOutput()
	return string(out), err
}

// margayctlJSON decodes what a command prints on its standard output, also when its exit status says that not all is well.
func (l *site) margayctlJSON(into any, args ...string) error {
	out, err := l.margayctlCommand(append(args, "-o", "json")).Output()
	if decodeErr := json.Unmarshal(out, into); decodeErr != nil {
		return errors.Join(err, decodeErr)
	}
	return nil
}

func (l *site) margayctlCommand(args []string) *exec.Cmd {
	cmd := exec.Command(l.margayctlBinary, args...)
	cmd.Env = append(os.Environ(), l.env...)
	return cmd
}

// terminate ends an agent as a service manager does.
func terminate(felix *lab.Process) {
	_ = felix.Process.Signal(syscall.SIGTERM)
	select {
	case <-felix.Ended():
	case <-time.After(5 * time.Second):
		felix.Kill()
	}
}
