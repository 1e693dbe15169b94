package vm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
	"github.com/margay-project/margay/internal/skip"
)

const objectsForLibvirt = `
{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: host1}}
---
{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: vms}, spec: {cidr: 10.65.0.0/24}}
---
{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: vm}}
`

const fromLibvirt = `== install
== start a routed and a bridged domain
| shop | db | eth0 | host1 | vnet0 | 192.168.122.57 | 52:54:00:12:34:57 | role=db | margayctl vm |
| shop | db | storage | host1 | tap-db1 | 10.20.0.57 | 52:54:00:12:34:58 | network=storage, role=db | margayctl vm |
| shop | web | eth0 | host1 | cali-web | ADDRESS | 52:54:00:12:34:56 | role=web | margayctl vm |
== attach changes nothing
WorkloadEndpoint(shop/host1-libvirt-web-eth0) unchanged: interface cali-web, ADDRESS/32
== wrong metadata
metadata of domain wrong: <lable> is not known: want label, profile, address, pool or interface
web
db
== stop
| shop | db | eth0 | host1 | vnet0 | 192.168.122.57 | 52:54:00:12:34:57 | role=db | margayctl vm |
| shop | db | storage | host1 | tap-db1 | 10.20.0.57 | 52:54:00:12:34:58 | network=storage, role=db | margayctl vm |
== the datastore does not answer
domain web does not start: its endpoints could not be made (CAUSE), and its packets would pass without policy on cali-web
db
== libvirt starts again meanwhile
db
== the datastore answers again
Check complete; found 0 problems.
`

// A real libvirt runs the example domains with the hook: endpoints come and go with them, and what cannot be under policy does not
// start. A domain that runs goes on whatever happens.
func TestLibvirtRunsTheHook(t *testing.T) {
	for _, program := range []string{"libvirtd", "virsh", "qemu-system-x86_64", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			skip.For(t, "needs %s, of libvirt-daemon-driver-qemu, libvirt-clients and qemu-system-x86: %v", program, err)
		}
	}
	if os.Getuid() != 0 {
		skip.For(t, "needs root, for namespaces with a libvirt of their own")
	}
	dir := lab.ShortDir(t)
	etcdlab.StartServer(t, dir)
	margayctl, config := filepath.Join(dir, "margayctl"), filepath.Join(dir, "etcd.yaml")
	command := func(stdin, name string, arguments ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*lab.Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, arguments...)
		cmd.Stdin = strings.NewReader(stdin)
		var failure bytes.Buffer
		cmd.Stderr = &failure
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s%s", name, arguments, err, out, failure.Bytes())
		}
		return string(out)
	}
	command("", "go", "build", "-o", margayctl, "..")
	text := "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata: {}\nspec:\n  datastoreType: etcdv3\n  etcdEndpoints: unix://" + dir + "/etcd.sock\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command(objectsForLibvirt, margayctl, "-c", config, "apply", "-f", "-")
	examples, err := filepath.Abs("../../docs/examples")
	if err != nil {
		t.Fatal(err)
	}
	got := command("", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "testdata/libvirtd.sh", margayctl, config, examples)
	got = regexp.MustCompile(`10\.65\.0\.\d+`).ReplaceAllString(got, "ADDRESS")
	got = regexp.MustCompile(`could not be made \(.*\), and`).ReplaceAllString(got, "could not be made (CAUSE), and")
	got = regexp.MustCompile(`\n\n+`).ReplaceAllString(got, "\n") // virsh list ends with an empty line
	if diff := cmp.Diff(fromLibvirt, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
