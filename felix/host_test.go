package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/dataplane/gate"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
	"github.com/margay-project/margay/internal/skip"
)

// A stream runs through the host while felix is killed repeatedly. At last felix ends cleanly and is uninstalled.
func TestKillingFelixLosesNoPacket(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	l.apply(policy("web", "web", "Allow"))
	f := l.startSynced()
	f.awaitEnforced("cali-web")
	l.awaitReach(webAddress, true)

	stream := l.client.Stream(netip.MustParseAddr(webAddress), port, 2*time.Millisecond)
	for i := range 5 {
		lab.LetPass(time.Duration(i) * 150 * time.Millisecond) // each time in another phase of the start
		f.kill()
		f = l.start()
	}
	f.awaitApplied()
	f.awaitEnforced("cali-web")
	if sent := stream.End(); lab.Lost(sent) > 0 || len(sent) < 100 {
		t.Errorf("%d of %d packets were lost", lab.Lost(sent), len(sent))
	}

	f.terminate()
	if _, err := os.Stat(l.socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	l.apply(policy("web", "web", "Deny"))
	if !l.stillReaches(webAddress) {
		t.Error("the last policy is not in force any more after a clean end")
	}
	if len(l.routes()) == 0 {
		t.Error("routes were removed when felix ended")
	}
	if said := l.uninstall(); !strings.Contains(said, "no policy is in force") {
		t.Errorf("uninstall logs %s", said)
	}
	if routes := l.routes(); routes != "" {
		t.Errorf("routes are left:\n%s", routes)
	}
	l.host.Must(func() error {
		dev, err := netlink.LinkByName("cali-web")
		if err != nil {
			return err
		}
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			programs, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: hook})
			if err != nil {
				return err
			}
			if len(programs.Programs) > 0 {
				t.Errorf("%s: programs are left on the interface", hook)
			}
		}
		return nil
	})
}

func TestAnEndpointThatWouldCutTheHostOffIsRefused(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.apply(openProfile + workload("uplink", "eth0", "10.65.0.9") + workload("self", "cali-self", hostAddress) +
		workload("peer", "cali-peer", clientAddress) + `
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: fabric}
spec: {peerIP: 192.0.2.1, asNumber: 64600}
---
`)
	l.host.Echo(port)
	f := l.startSynced()
	for _, name := range []string{"uplink", "self", "peer"} {
		f.awaitProblem("WorkloadEndpoint(shop/host1-libvirt-"+name+"-eth0)", "")
	}
	f.awaitApplied()
	if !l.stillReaches(hostAddress) {
		t.Error("the host is cut off")
	}
	if routes := l.routes(); strings.Contains(routes, hostAddress) || strings.Contains(routes, clientAddress) || strings.Contains(routes, "10.65.0.9") {
		t.Errorf("routes\n%s", routes)
	}
}

func TestPolicyIsInForceWhenTheBGPPortIsTaken(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	l.apply(policy("closed", "web", "Deny") + `
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: fabric}
spec: {peerIP: 192.0.2.1, asNumber: 64600}
`)
	var other net.Listener
	l.host.Must(func() (err error) { other, err = net.Listen("tcp", ":179"); return err })
	f := l.startSynced()
	f.awaitEnforced("cali-web")
	f.awaitProblem("BGP", "179", "another process has it")
	if l.reaches(webAddress) {
		t.Error("policy is not in force")
	}
	s, err := f.status()
	must(t, err)
	n := 0
	for _, p := range s.Problems {
		if strings.Contains(p.Text, "179") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d problems mention the port: %v", n, s.Problems)
	}
	other.Close()
	f.await(func(s *agentv1.StatusResponse) error {
		for _, p := range s.Problems {
			if p.Object == "BGP" {
				return errors.New(p.Text)
			}
		}
		return nil
	})
}

func TestIPAMReservesAddressesOfEndpointsUntilTheyAreDeleted(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	pool := `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: vms}
spec: {cidr: 10.65.0.0/24}
---
`
	l.apply(openProfile + pool + workload("a", "cali-a", "10.65.0.2") + workload("b", "cali-b", "10.65.0.3") + workload("c", "cali-c", "10.66.0.4"))
	expect := func(want string) {
		t.Helper()
		lab.Await(t, func() error {
			var held []string
			for _, address := range []string{"10.65.0.2", "10.65.0.3", "10.66.0.4", "10.65.0.5"} {
				if l.reserved(address) {
					held = append(held, address)
				}
			}
			if got := strings.Join(held, " "); got != want {
				return fmt.Errorf("reserved are %q, not %q", got, want)
			}
			return nil
		})
	}
	f := l.startSynced()
	expect("10.65.0.2 10.65.0.3")
	l.delete("WorkloadEndpoint", "shop", "host1-libvirt-a-eth0")
	expect("10.65.0.3")
	f.kill()
	l.delete("WorkloadEndpoint", "shop", "host1-libvirt-b-eth0")
	l.apply(workload("d", "cali-d", "10.65.0.5"))
	expect("10.65.0.3")
	l.startSynced()
	expect("10.65.0.5")
	// An operator releases addresses that are still in use.
	must(t, ipam.ReleaseAddress(context.Background(), l.store.KV(), netip.MustParseAddr("10.65.0.5")))
	expect("10.65.0.5")
}

func TestTheEnvironmentOverridesTheDatastoreAndDropsAreLogged(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	l.apply(policy("closed", "web", "Deny") + `
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {bpfLogLevel: "Off", logSeverityScreen: Info}
`)
	f := l.startSynced("FELIX_BPFLOGLEVEL=Info", "FELIX_BPFLOGLEVLE=Debug", "felix_bpfmapsizeconntrack=many")
	f.awaitEnforced("cali-web")
	f.awaitProblem("Environment(FELIX_BPFLOGLEVLE)", "did you mean FELIX_BPFLOGLEVEL?")
	f.awaitProblem("Environment(FELIX_BPFMAPSIZECONNTRACK)", `"many" cannot be read`)
	s, err := f.status()
	must(t, err)
	if c := s.Configuration; c["bpfLogLevel"] != "Info (environment)" || c["logSeverityScreen"] != "Info (default)" {
		t.Errorf("%v", c)
	}
	if n := f.log.Lines("did you mean FELIX_BPFLOGLEVEL"); n != 1 {
		t.Errorf("%d log lines name the misspelt variable", n)
	}
	lab.Await(t, func() error {
		l.reaches(webAddress)
		line := fmt.Sprintf("-> %s:%d on cali-web (ingress of shop/host1-libvirt-web-eth0): default/closed/0", webAddress, port)
		if !strings.Contains(f.log.String(), "drop udp "+clientAddress) || !strings.Contains(f.log.String(), line) {
			return errors.New("the drop is not logged")
		}
		return nil
	})
}

// Felix reports an obstacle to its start in one clear line with advice, and ends with exit status 1.
func TestFelixRefusesToStart(t *testing.T) {
	l := newSite(t)
	refusedIn := func(t *testing.T, where *lab.Host, cmd *exec.Cmd, texts ...string) {
		t.Helper()
		said, err := where.Run(cmd)
		if cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("ended with %v", err)
		}
		for _, text := range texts {
			if !strings.Contains(said, text) {
				t.Errorf("%q lacks %q", said, text)
			}
		}
		if lines := strings.Count(said, "\n"); lines > 4 {
			t.Errorf("%d lines:\n%s", lines, said)
		}
	}
	refused := func(t *testing.T, cmd *exec.Cmd, texts ...string) {
		t.Helper()
		refusedIn(t, l.host, cmd, texts...)
	}
	nowhere := []string{"--etcd-endpoints", "unix:///nonexistent/etcd.sock"}
	t.Run("beside Calico", func(t *testing.T) {
		proc := l.fakeProcess(t, "/usr/bin/calico-felix")
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$0" "$1" && shift && exec "$@"`, proc.file, proc.cmdline},
			l.command(nowhere...).Args...)...)
		refused(t, cmd, "/usr/bin/calico-felix runs on this host", "stop and disable it first")
	})
	t.Run("beside another felix", func(t *testing.T) {
		f := l.start()
		f.await(func(*agentv1.StatusResponse) error { return nil })
		who := fmt.Sprintf("another felix (process %d) ", f.process.Process.Pid)
		elsewhere := filepath.Join(l.dir, "elsewhere")
		for _, args := range [][]string{
			nowhere, {"--uninstall"},
			append([]string{"--agent-socket", elsewhere + ".sock"}, nowhere...),
			append([]string{"--agent-socket", elsewhere + ".sock", "--pin-dir", elsewhere}, nowhere...),
			{"--uninstall", "--pin-dir", elsewhere},
		} {
			refused(t, l.command(args...), who+"programs this network namespace", "stop it first")
		}
		if _, err := os.Stat(elsewhere); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the refused processes left files behind: %v", err)
		}
		other := lab.NewHost(t)
		refusedIn(t, other, l.command(append([]string{"--agent-socket", elsewhere + ".sock"}, nowhere...)...), who+"pins to "+l.pins(), "its own --pin-dir")
		refusedIn(t, other, l.command(append([]string{"--pin-dir", elsewhere}, nowhere...)...), "another felix, of another network namespace, answers on "+l.socket(), "its own --agent-socket")
		must(t, unix.Unmount(elsewhere, 0))
		f.terminate()
	})
	t.Run("with the data of another etcd", func(t *testing.T) {
		server := etcdlab.StartServer(t, l.etcdDir())
		defer server.Close()
		refused(t, l.command("--embedded-etcd", l.etcdDir()), "another process uses "+l.etcdDir(), "choose another directory")
	})
	t.Run("as a user", func(t *testing.T) {
		binary := filepath.Join(l.dir, "felix") // in a directory that every user may read
		must(t, os.Chmod(l.dir, 0o755))
		text, err := os.ReadFile(l.binary)
		must(t, err)
		must(t, os.WriteFile(binary, text, 0o755))
		cmd := l.command(nowhere...)
		cmd.Path = binary
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		refused(t, cmd, "not permitted", "run as root")
	})
	t.Run("without a datastore", func(t *testing.T) {
		refused(t, l.command(), "give --etcd-endpoints or --etcd-discovery-srv, or --embedded-etcd DIR")
	})
	t.Run("but checks the host", func(t *testing.T) {
		out, err := l.host.Run(l.command("--check"))
		if err != nil || !strings.HasSuffix(out, "\nthis host has everything that felix needs\n") || !strings.Contains(out, "ok       tcx: ") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// fakeProcess is a process that appears with another command line to a felix that mounts file over cmdline.
func (l *site) fakeProcess(t *testing.T, commandLine string) (fake struct{ file, cmdline string }) {
	t.Helper()
	sleep := l.host.Start(exec.Command("sleep", "1000"))
	fake.file = filepath.Join(l.dir, "cmdline")
	fake.cmdline = fmt.Sprintf("/proc/%d/cmdline", sleep.Process.Pid)
	must(t, os.WriteFile(fake.file, []byte(commandLine+"\x00"), 0o644))
	return fake
}

// The gate cannot be made, because its table belongs to another program. Policy is enforced nevertheless.
func TestPolicyIsInForceWithoutTheGate(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	l.apply(policy("closed", "web", "Deny"))
	release := l.ownTable(gate.TableName)
	f := l.startSynced()
	f.awaitEnforced("cali-web")
	f.awaitProblem("dataplane", "nftables table "+gate.TableName)
	if !strings.Contains(f.log.String(), "nftables table "+gate.TableName) {
		t.Error("the log does not say that there is no gate")
	}
	if l.reaches(webAddress) {
		t.Error("policy is not in force")
	}
	l.apply(policy("closed", "web", "Allow"))
	l.awaitReach(webAddress, true)
	release()
	f.await(func(s *agentv1.StatusResponse) error {
		for _, p := range s.Problems {
			if p.Object == "dataplane" {
				return errors.New(p.Text)
			}
		}
		return nil
	})
	l.awaitReach(webAddress, true)
}

// ownTable makes an nftables table that no other process can change until it is released.
func (l *site) ownTable(name string) (release func()) {
	l.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		skip.For(l, "needs nft to own a table: %v", err)
	}
	nft := exec.Command("nft", "-i")
	in, err := nft.StdinPipe()
	must(l, err)
	shell := l.host.Start(nft)
	_, err = fmt.Fprintf(in, "add table inet %s { flags owner; }\n", name)
	must(l, err)
	lab.Await(l, func() error {
		return l.host.Do(func() error {
			there, err := gate.Exists()
			if err == nil && !there {
				return errors.New("nft has not made the table")
			}
			return err
		})
	})
	release = sync.OnceFunc(func() { in.Close(); _ = shell.Wait() })
	l.Cleanup(release)
	return release
}
