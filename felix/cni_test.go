package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/datastore/ipam"
	"github.com/margay-project/margay/internal/lab"
)

// plugin is margay-cni on the host of a site, as a container runtime calls it.
type plugin struct {
	*site
	path string
}

func (l *site) plugin() plugin {
	l.Helper()
	path := filepath.Join(l.dir, "margay-cni")
	out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "github.com/margay-project/margay/ctl").CombinedOutput()
	if err != nil {
		l.Fatalf("build margay-cni: %v\n%s", err, out)
	}
	return plugin{l, path}
}

// conf is a network configuration, with more fields.
func (p plugin) conf(more string) string {
	return `{"cniVersion": "1.1.0", "name": "containers", "type": "margay-cni", "node": "host1", "pools": ["four", "six"], "ipv6Count": 1,
		"profiles": ["open"], "labels": {"role": "web"}` + more + `}`
}

// container is a network namespace with an identifier.
type container struct {
	*lab.Host
	id string
}

func (p plugin) container(id string) container { return container{lab.NewHost(p), id} }

func (c container) path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(c.Namespace()))
}

// call runs a command of the plugin and returns its answer.
func (p plugin) call(command string, c container, conf string, environment ...string) (string, error) {
	cmd := exec.Command(p.path)
	cmd.Stdin = strings.NewReader(conf)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_PATH="+p.dir, "CNI_IFNAME=eth0", "CNI_CONTAINERID="+c.id,
		"ETCD_ENDPOINTS="+p.endpoint(), "MARGAY_AGENT="+p.socket())
	if c.Host != nil {
		cmd.Env = append(cmd.Env, "CNI_NETNS="+c.path())
	}
	cmd.Env = append(cmd.Env, environment...)
	out, err := p.host.Run(cmd)
	p.Logf("%s %s: %v\n%s", command, c.id, err, out)
	return out, err
}

// result is the part of an answer to ADD that the test looks at.
type result struct {
	Interfaces []struct{ Name, Sandbox string }
	IPs        []struct{ Address, Gateway string }
}

func (p plugin) add(c container, conf string) (r result) {
	p.Helper()
	out, err := p.call("ADD", c, conf)
	must(p, err)
	must(p, json.Unmarshal([]byte(out), &r))
	if len(r.IPs) != 2 || len(r.Interfaces) != 2 {
		p.Fatalf("the result is %+v", r)
	}
	return r
}

func (r result) addresses() (list []netip.Addr) {
	for _, ip := range r.IPs {
		list = append(list, netip.MustParsePrefix(ip.Address).Addr())
	}
	return list
}

// endpoints lists the stored endpoints.
func (l *site) endpoints() (names []string) {
	l.Helper()
	objects, _, err := l.store.List(context.Background(), api.KindWorkloadEndpoint, "")
	must(l, err)
	for _, o := range objects {
		names = append(names, o.Meta().Name)
	}
	return names
}

const containerPools = `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: four}
spec: {cidr: 10.65.0.0/26}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: six}
spec: {cidr: "fd00:65::/122"}
---
`

func TestContainersAreConnectedByCNI(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.apply(openProfile + containerPools)
	p := l.plugin()
	one, two, three := p.container("0123one"), p.container("4567two"), p.container("89abthree")

	if out, err := p.call("STATUS", container{}, p.conf("")); err == nil || !strings.Contains(out, `"code": 50`) {
		t.Errorf("without an agent the status is %v: %s", err, out)
	}
	f := l.startSynced()
	if out, err := p.call("STATUS", container{}, p.conf("")); err != nil {
		t.Errorf("the status is %v: %s", err, out)
	}
	first, second := p.add(one, p.conf("")), p.add(two, p.conf(""))
	two.Echo(port)
	for _, to := range second.addresses() {
		if !one.Reaches("tcp", to, port) {
			t.Errorf("a container does not reach %v of another", to)
		}
	}
	f.awaitEnforced(first.Interfaces[0].Name)
	if out, err := p.call("CHECK", one, p.conf(`, "prevResult": {"cniVersion": "1.1.0"}`)); err != nil {
		t.Errorf("the check is %v: %s", err, out)
	}
	one.MustRun("ip", "addr", "flush", "dev", "eth0")
	if out, err := p.call("CHECK", one, p.conf(`, "prevResult": {"cniVersion": "1.1.0"}`)); err == nil || !strings.Contains(out, "has not the address") {
		t.Errorf("without its addresses the check is %v: %s", err, out)
	}

	for range 2 { // the second one finds nothing
		if out, err := p.call("DEL", one, p.conf("")); err != nil {
			t.Errorf("the deletion is %v: %s", err, out)
		}
	}
	l.awaitHeld(first.addresses()[0], false)
	if left := l.endpoints(); len(left) != 1 {
		t.Errorf("the endpoints are %v", left)
	}
	if out, err := one.Run(exec.Command("ip", "link", "show", "eth0")); err == nil {
		t.Errorf("the interface is left: %s", out)
	}

	third := p.add(three, p.conf(""))
	valid := `, "cni.dev/valid-attachments": [{"containerID": "89abthree", "ifname": "eth0"}]`
	if out, err := p.call("GC", container{}, p.conf(valid)); err != nil {
		t.Errorf("the collection is %v: %s", err, out)
	}
	if left := l.endpoints(); len(left) != 1 || !strings.Contains(left[0], "89abthree") {
		t.Errorf("after the collection the endpoints are %v", left)
	}
	if out, err := p.call("CHECK", three, p.conf(`, "prevResult": {"cniVersion": "1.1.0"}`)); err != nil {
		t.Errorf("the collection has harmed a valid attachment %+v: %v %s", third, err, out)
	}
}

// Nothing is left of an ADD that fails.
func TestAFailedADDLeavesNothing(t *testing.T) {
	l := newSite(t)
	l.startEtcd()
	l.apply(openProfile + containerPools)
	p := l.plugin()
	l.startSynced()
	c := p.container("0123one")
	lab.Cable(c.Host, "eth0", l.client, "peer")
	for _, bad := range []struct{ name, conf, want string }{
		{"an interface that exists", p.conf(""), "file exists"},
		{"a pool that does not exist", strings.Replace(p.conf(""), `"four"`, `"none"`, 1), "IPPool none does not exist"},
		{"an unknown field", p.conf(`, "label": {"a": "b"}`), "unknown field"},
		{"a plugin for addresses", p.conf(`, "ipam": {"type": "host-local"}`), "remove ipam"},
		{"a network too many", p.conf(`, "mtu": 100`), "want 576 to 65535"},
	} {
		out, err := p.call("ADD", c, bad.conf)
		if err == nil || !strings.Contains(out, bad.want) {
			t.Errorf("%s: %v %s", bad.name, err, out)
		}
		if left := l.endpoints(); len(left) != 0 {
			t.Errorf("%s: the endpoints are %v", bad.name, left)
		}
		if links := l.host.MustRun("ip", "-br", "link"); strings.Contains(links, "cali") {
			t.Errorf("%s: the interfaces are\n%s", bad.name, links)
		}
	}
	if _, held, err := ipam.Lookup(context.Background(), l.store.KV(), netip.MustParseAddr("10.65.0.0")); err != nil || held {
		t.Errorf("an address is held: %v", err)
	}
}
