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
)

// Addresses of the examples in docs/examples.
const (
	webIP, webIP6    = "10.65.0.2", "fd00:65::2"
	dbIP, batchIP    = "10.65.0.3", "10.65.0.4"
	hostIP, hostIP6  = "192.0.2.10", "2001:db8:2::10"
	routerIP         = "192.0.2.1"
	routerIP6        = "2001:db8:2::1"
	clientIP         = "198.51.100.10"
	clientIP6        = "2001:db8:100::10"
	hostSideMAC      = "ee:ee:ee:ee:ee:ee"
	hostSideGateway  = "169.254.1.1"               // answered by proxy ARP
	hostSideGateway6 = "fe80::ecee:eeff:feee:eeee" // the link-local address of hostSideMAC
)

// lab is the demo's network:
//
//	web, db, batch --- host1 (felix) --- router (BGP) --- client
type lab struct {
	dir                          string
	host1, router, client        *host
	web, db, batch               *host
	felix                        *exec.Cmd
	bird                         *exec.Cmd
	env                          []string // for margayctl
	felixBinary, margayctlBinary string
	stopRouter                   func()
}

func newLab(ctx context.Context) (l *lab, err error) {
	l = &lab{stopRouter: func() {}}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.dir, err = os.MkdirTemp("", "margay-demo-"); err != nil {
		return nil, err
	}
	if l.felixBinary, err = filepath.Abs("bin/felix"); err != nil {
		return nil, err
	}
	l.margayctlBinary, _ = filepath.Abs("bin/margayctl")
	l.env = []string{
		"DATASTORE_TYPE=etcdv3",
		"ETCD_ENDPOINTS=unix://" + filepath.Join(l.dir, "etcd", "etcd.sock"),
		"MARGAY_AGENT=unix://" + filepath.Join(l.dir, "felix.sock"),
	}
	for name, where := range map[string]**host{
		"host1": &l.host1, "router": &l.router, "client": &l.client, "web": &l.web, "db": &l.db, "batch": &l.batch,
	} {
		if *where, err = newHost(name); err != nil {
			return nil, err
		}
	}
	return l, errors.Join(l.connectFabric(), l.connectVMs())
}

// connectFabric builds what a network team gives: host1, the router and the client, without any route to the VMs.
func (l *lab) connectFabric() error {
	return errors.Join(
		cable(l.host1, "eth0", "", l.router, "rack"),
		cable(l.client, "eth0", "", l.router, "office"),
		l.host1.address("eth0", hostIP+"/24", hostIP6+"/64"),
		l.router.address("rack", routerIP+"/24", routerIP6+"/64"),
		l.router.address("office", "198.51.100.1/24", "2001:db8:100::1/64"),
		l.client.address("eth0", clientIP+"/24", clientIP6+"/64"),
		l.router.sysctl("ipv4.ip_forward", "1"),
		l.router.sysctl("ipv6.conf.all.forwarding", "1"),
		l.host1.defaultRoute("eth0", routerIP),
		l.host1.defaultRoute("eth0", routerIP6),
		l.client.defaultRoute("eth0", "198.51.100.1"),
		l.client.defaultRoute("eth0", "2001:db8:100::1"),
	)
}

// connectVMs builds what a hypervisor gives: an interface on the host for each VM, and nothing else on the host.
func (l *lab) connectVMs() error {
	var errs []error
	for _, vm := range []struct {
		host  *host
		addrs []string
	}{
		{l.web, []string{webIP + "/32", webIP6 + "/128"}},
		{l.db, []string{dbIP + "/32"}},
		{l.batch, []string{batchIP + "/32"}},
	} {
		errs = append(errs,
			cable(l.host1, "cali-"+vm.host.name, hostSideMAC, vm.host, "eth0"),
			vm.host.address("eth0", vm.addrs...),
			vm.host.defaultRoute("eth0", hostSideGateway))
		if len(vm.addrs) > 1 {
			errs = append(errs, vm.host.defaultRoute("eth0", hostSideGateway6))
		}
	}
	return errors.Join(errs...)
}

// startFelix starts the agent on host1 as an operator would, with its own etcd.
func (l *lab) startFelix(ctx context.Context) (err error) {
	l.felix, err = l.host1.start(ctx, l.felixLog(), nil, l.felixBinary,
		"--node-name", "host1",
		"--embedded-etcd", filepath.Join(l.dir, "etcd"),
		"--agent-socket", filepath.Join(l.dir, "felix.sock"),
		"--pin-dir", filepath.Join(l.dir, "bpf"),
	)
	if err != nil {
		return err
	}
	return l.waitFelix(ctx)
}

// waitFelix waits until the agent answers and has read the datastore.
func (l *lab) waitFelix(ctx context.Context) error {
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		var status struct{ Datastore struct{ InSync bool } }
		if l.margayctlJSON(&status, "status") == nil && status.Datastore.InSync {
			return nil
		}
		if l.felix.Process.Signal(syscall.Signal(0)) != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, _ := os.ReadFile(l.felixLog())
	return fmt.Errorf("felix did not start; its log:\n%s", log)
}

// killFelix ends the agent without warning.
func (l *lab) killFelix() {
	if l.felix != nil {
		l.felix.Process.Kill()
		l.felix.Wait()
		l.felix = nil
	}
}

func (l *lab) felixLog() string { return filepath.Join(l.dir, "felix.log") }

// margayctl runs the command line and returns all that it printed.
func (l *lab) margayctl(args ...string) (string, error) {
	out, err := l.margayctlCommand(args).CombinedOutput()
	return string(out), err
}

// margayctlJSON decodes what a command prints on its standard output, also when its exit status says that not all is well.
func (l *lab) margayctlJSON(into any, args ...string) error {
	out, err := l.margayctlCommand(append(args, "-o", "json")).Output()
	if decodeErr := json.Unmarshal(out, into); decodeErr != nil {
		return errors.Join(err, decodeErr)
	}
	return nil
}

func (l *lab) margayctlCommand(args []string) *exec.Cmd {
	cmd := exec.Command(l.margayctlBinary, args...)
	cmd.Env = append(os.Environ(), l.env...)
	return cmd
}

// close removes everything. The namespaces, and what is in them, go with the processes.
func (l *lab) close() {
	if l.felix != nil {
		l.felix.Process.Signal(syscall.SIGTERM)
		ended := make(chan struct{})
		go func() { l.felix.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			l.felix.Process.Kill()
			<-ended
		}
	}
	l.stopRouter()
	if l.bird != nil {
		l.bird.Process.Kill()
		l.bird.Wait()
	}
	syscall.Unmount(filepath.Join(l.dir, "bpf"), syscall.MNT_DETACH)
	for _, h := range []*host{l.host1, l.router, l.client, l.web, l.db, l.batch} {
		if h != nil {
			h.close()
		}
	}
	if l.dir != "" {
		os.RemoveAll(l.dir)
	}
}
