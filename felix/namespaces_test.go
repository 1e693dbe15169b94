package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/bpf"
	"github.com/margay-project/margay/internal/lab"
)

// programs counts the programs at the two hooks of an interface of the host.
func (l *site) programs(dev string) (n int) {
	l.Helper()
	l.host.Must(func() error {
		on, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			result, err := link.QueryPrograms(link.QueryOptions{Target: on.Attrs().Index, Attach: hook})
			if err != nil {
				return err
			}
			n += len(result.Programs)
		}
		return nil
	})
	return n
}

// A service manager may run felix in a mount namespace that ends together with felix. PrivateTmp=, ProtectSystem= and
// `ip netns exec` make one that follows the host's mounts. `unshare -m` makes one that does not.
func TestPolicyStaysInForceAfterFelixAndItsMountNamespaceEnd(t *testing.T) {
	for _, propagation := range []string{"private", "slave", "shared"} {
		t.Run(propagation, func(t *testing.T) {
			l := newSite(t)
			l.startEtcd()
			l.web()
			l.apply(policy("closed", "web", "Deny"))
			l.within = []string{"unshare", "--mount", "--propagation", propagation}
			for range 2 { // the second run finds the pins of the first
				f := l.startSynced()
				f.awaitEnforced("cali-web")
				f.kill()
				if n := l.programs("cali-web"); n != 2 {
					t.Errorf("%d programs are left", n)
				}
				if l.reaches(webAddress) {
					t.Error("the VM is reachable against policy")
				}
			}
			l.within = nil
			f := l.startSynced() // a felix without such a namespace finds them too
			f.awaitEnforced("cali-web")
			f.terminate()
			if n := l.programs("cali-web"); n != 2 {
				t.Errorf("%d programs are left", n)
			}
		})
	}
}

// The file system of the pins is unmounted in the mount namespace of process 1 while felix runs. Policy stays in force after
// felix has ended. It does not matter in which mount namespace felix runs.
func TestPolicyStaysInForceAfterThePinsAreUnmounted(t *testing.T) {
	for name, within := range map[string][]string{"as process 1": nil, "private": {"unshare", "--mount", "--propagation", "private"}} {
		t.Run(name, func(t *testing.T) {
			l := newSite(t)
			l.startEtcd()
			l.web()
			l.apply(policy("closed", "web", "Deny"))
			l.within = within
			f := l.startSynced()
			f.awaitEnforced("cali-web")
			must(t, unix.Unmount(l.pins(), unix.MNT_DETACH))
			lab.Await(t, func() error {
				pins, err := filepath.Glob(l.pins() + "/link_*")
				if err == nil && len(pins) != 2 {
					err = fmt.Errorf("pinned is %v", pins)
				}
				return err
			})
			f.kill()
			if n := l.programs("cali-web"); n != 2 {
				t.Errorf("%d programs are left", n)
			}
			if l.reaches(webAddress) {
				t.Error("the VM is reachable against policy")
			}
			f = l.startSynced()
			f.awaitEnforced("cali-web")
			f.terminate()
		})
	}
}

// Process 1 of a container ends together with the container. In a container felix pins only to a mount of the host.
func TestFelixInAContainerAsksForAMountOfTheHost(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.web()
	l.within = []string{"unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc"}
	cmd := l.command("--etcd-endpoints", l.endpoint())
	said, err := l.host.Run(cmd)
	if failed := new(exec.ExitError); !errors.As(err, &failed) || failed.ExitCode() != 1 {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
	for _, text := range []string{"in a container", "--pid=host", "of the host on " + l.pins()} {
		if !strings.Contains(said, text) {
			t.Errorf("%q lacks %q", said, text)
		}
	}
	must(t, bpf.MountFS(l.pins()))
	f := l.start()
	f.await(func(*agentv1.StatusResponse) error { return nil })
	f.awaitEnforced("cali-web")
	f.kill()
	lab.Await(t, func() error { // the container ends after its parent process
		if _, err := f.status(); err == nil {
			return errors.New("it still answers")
		}
		return nil
	})
	if n := l.programs("cali-web"); n != 2 {
		t.Errorf("%d programs are left", n)
	}
	l.within = nil
}
