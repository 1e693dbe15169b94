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
	hostIP, hostIP6 = "192.0.2.10", "2001:db8:2::10"
	routerIP        = "192.0.2.1"
	routerIP6       = "2001:db8:2::1"
	clientIP        = "198.51.100.10"
	clientIP6       = "2001:db8:100::10"
)

// site is the demo's network:
//
//	web, db, batch --- host1 (felix) --- router (BGP) --- client
type site struct {
	*stage
	dir                          string
	host1, router, client        *host
	web, db, batch               *host
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
		"MARGAY_AGENT=unix://" + filepath.Join(l.dir, "felix.sock"),
	}
	l.connectFabric()
	l.web, l.db, l.batch = l.vm("web", webIP, webIP6), l.vm("db", dbIP), l.vm("batch", batchIP)
	l.Cleanup(func() { syscall.Unmount(filepath.Join(l.dir, "bpf"), syscall.MNT_DETACH) })
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

// connectFabric builds what a network team gives: host1, the router and the client, without any route to the VMs.
func (l *site) connectFabric() {
	l.host1, l.router, l.client = l.host("host1"), l.host("router"), l.host("client")
	lab.Cable(l.host1.Host, "eth0", l.router.Host, "rack")
	lab.Cable(l.client.Host, "eth0", l.router.Host, "office")
	l.host1.Up("eth0", hostIP+"/24", hostIP6+"/64")
	l.router.Up("rack", routerIP+"/24", routerIP6+"/64")
	l.router.Up("office", "198.51.100.1/24", "2001:db8:100::1/64")
	l.client.Up("eth0", clientIP+"/24", clientIP6+"/64")
	l.router.Forward()
	l.host1.DefaultRoute("eth0", routerIP)
	l.host1.DefaultRoute("eth0", routerIP6)
	l.client.DefaultRoute("eth0", "198.51.100.1")
	l.client.DefaultRoute("eth0", "2001:db8:100::1")
}

// vm builds what a hypervisor gives: an interface on the host for each VM, and nothing else on the host.
func (l *site) vm(name string, addresses ...string) *host {
	return &host{l.host1.Plug("cali-"+name, addresses...).Host, name}
}

// startFelix starts the agent on host1 as an operator would, with its own etcd.
func (l *site) startFelix(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, l.felixBinary,
		"--node-name", "host1",
		"--embedded-etcd", filepath.Join(l.dir, "etcd"),
		"--agent-socket", filepath.Join(l.dir, "felix.sock"),
		"--pin-dir", filepath.Join(l.dir, "bpf"),
	)
	cmd.Stdout = l.logFile(l.felixLog())
	cmd.Stderr = cmd.Stdout
	l.felix = l.host1.Start(cmd)
	l.Cleanup(l.terminateFelix)
	return l.waitFelix(ctx)
}

// waitFelix waits until the agent answers and has read the datastore.
func (l *site) waitFelix(ctx context.Context) error {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		var status struct{ Datastore struct{ InSync bool } }
		if l.margayctlJSON(&status, "status") == nil && status.Datastore.InSync {
			return nil
		}
		select {
		case <-l.felix.Ended():
			deadline = time.Now()
		case <-time.After(50 * time.Millisecond):
		}
	}
	log, _ := os.ReadFile(l.felixLog())
	return fmt.Errorf("felix did not start; its log:\n%s", log)
}

func (l *site) felixLog() string { return filepath.Join(l.dir, "felix.log") }

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

// terminateFelix ends the agent as a service manager does.
func (l *site) terminateFelix() {
	_ = l.felix.Process.Signal(syscall.SIGTERM)
	select {
	case <-l.felix.Ended():
	case <-time.After(5 * time.Second):
		l.felix.Kill()
	}
}
