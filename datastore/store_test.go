package datastore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// behaviours of the store, each against memory and a real etcd that was initialized.
var behaviours = []struct {
	name string
	test func(t *testing.T, ctx context.Context, s *Store)
}{
	{"a created object carries what identifies it", testCreate},
	{"a stale write is a conflict and changes nothing", testConflict},
	{"the texts of errors are those of the dialect", testErrorTexts},
	{"a policy needs its tier", testPolicyNeedsTier},
	{"a tier that holds policies cannot be deleted", testTierInUse},
	{"a policy under an old key answers to its name and moves when it is written", testLegacyName},
	{"the default profile exists without being stored", testSyntheticProfile},
	{"fields that this version does not know survive an update", testUnknownFields},
	{"pools do not overlap and keep their shape", testPools},
	{"deleting a pool takes its blocks from their owners", testDeletePool},
	{"deleting a node deletes what belongs to it", testDeleteNode},
	{"a list has only what can be read, in one namespace or in all", testList},
	{"a workload endpoint is named by what identifies it", testEndpointName},
	{"initializing twice changes nothing", testInitialize},
	{"an unreadable value can be replaced and deleted", testUnreadable},
}

func TestStore(t *testing.T) {
	onBoth(t, func(t *testing.T, kv KV) {
		for _, b := range behaviours {
			t.Run(b.name, func(t *testing.T) {
				ctx := testContext(t)
				if _, err := kv.Commit(ctx, nil, everything(t, kv)); err != nil {
					t.Fatal(err)
				}
				s := New(kv)
				if err := s.EnsureInitialized(ctx); err != nil {
					t.Fatal(err)
				}
				b.test(t, ctx, s)
			})
		}
	})
}

// everything is the deletion of all that is stored.
func everything(t *testing.T, store KV) (deletions []Write) {
	page, err := store.Range(testContext(t), Span{From: "/", To: "0"}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range page.Entries {
		deletions = append(deletions, Write{Key: entry.Key, Delete: true})
	}
	return deletions
}

func testCreate(t *testing.T, ctx context.Context, s *Store) {
	given := policy("allow-ssh", "role == 'bastion' && x == 'y'")
	made := must[*api.GlobalNetworkPolicy](t)(s.Create(ctx, given))
	if len(made.UID) != 36 || made.CreationTimestamp.IsZero() || made.ResourceVersion == "" || made.Labels[tierLabel] != "default" {
		t.Errorf("created %+v", made.Metadata)
	}
	if given.UID != "" || given.Labels != nil {
		t.Errorf("the caller's object was changed: %+v", given.Metadata)
	}
	value := stored(t, s.kv, policies+"allow-ssh")
	for _, part := range []string{
		`{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"allow-ssh","uid":"`,
		`"labels":{"projectcalico.org/tier":"default"},"annotations":{"projectcalico.org/metadata":"{\"name\":\"allow-ssh\"}"}`,
		`"selector":"role == 'bastion' \u0026\u0026 x == 'y'"`,
	} {
		if !strings.Contains(value, part) {
			t.Errorf("stored %s\nwithout %s", value, part)
		}
	}
	if strings.Contains(value, "resourceVersion") {
		t.Errorf("stored %s", value)
	}
	read := must[*api.GlobalNetworkPolicy](t)(s.Get(ctx, api.KeyOf(given)))
	if read.ResourceVersion != made.ResourceVersion || len(read.Annotations) > 0 {
		t.Errorf("read %+v", read.Metadata)
	}
}

func testConflict(t *testing.T, ctx context.Context, s *Store) {
	first := must[*api.GlobalNetworkPolicy](t)(s.Create(ctx, policy("a", "all()")))
	second := must[*api.GlobalNetworkPolicy](t)(s.Update(ctx, first))
	if second.ResourceVersion == first.ResourceVersion {
		t.Error("an update made no new version")
	}
	var conflict ConflictError
	if _, err := s.Update(ctx, first); !errors.As(err, &conflict) {
		t.Errorf("stale update: %v", err)
	}
	if _, err := s.Delete(ctx, api.KeyOf(first), first.ResourceVersion); !errors.As(err, &conflict) {
		t.Errorf("stale deletion: %v", err)
	}
	gone := must[*api.GlobalNetworkPolicy](t)(s.Delete(ctx, api.KeyOf(first), second.ResourceVersion))
	if gone.UID != first.UID {
		t.Errorf("deleted %+v", gone)
	}
	var missing NotFoundError
	if _, err := s.Update(ctx, second); !errors.As(err, &missing) {
		t.Errorf("update of what is gone: %v", err)
	}
}

func testErrorTexts(t *testing.T, ctx context.Context, s *Store) {
	made, err := s.Create(ctx, policy("a", "all()"))
	if err != nil {
		t.Fatal(err)
	}
	_, again := s.Create(ctx, policy("a", "all()"))
	_, missing := s.Get(ctx, api.Key{Kind: "WorkloadEndpoint", Namespace: "prod", Name: "w"})
	_, gone := s.Delete(ctx, api.Key{Kind: "Tier", Name: "none"}, "")
	_, builtin := s.Delete(ctx, api.Key{Kind: "Tier", Name: "default"}, "")
	made.Meta().ResourceVersion = "x"
	_, number := s.Update(ctx, made)
	for _, c := range []struct {
		err  error
		want string
	}{
		{again, "resource already exists: GlobalNetworkPolicy(a)"},
		{missing, "resource does not exist: WorkloadEndpoint(prod/w)"},
		{gone, "resource does not exist: Tier(none)"},
		{builtin, "operation Delete is not supported on Tier(default): it is built in"},
		{number, "error with field ResourceVersion = 'x' (must be a number)"},
		{ConflictError{api.KeyOf(made)}, "update conflict: GlobalNetworkPolicy(a)"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", c.err, c.want)
		}
	}
	var exists ExistsError
	if !errors.As(again, &exists) || exists.Current == nil {
		t.Errorf("the error does not carry what exists: %#v", again)
	}
}

func testPolicyNeedsTier(t *testing.T, ctx context.Context, s *Store) {
	p := policy("a", "all()")
	p.Spec.Tier = "security"
	_, err := s.Create(ctx, p)
	if err == nil || err.Error() != "resource does not exist: Tier(security), named in spec.tier of GlobalNetworkPolicy(a): create it first, or correct the name" {
		t.Errorf("created without a tier: %v", err)
	}
}

func testTierInUse(t *testing.T, ctx context.Context, s *Store) {
	must[*api.Tier](t)(s.Create(ctx, &api.Tier{TypeMeta: api.TypeMeta{Kind: "Tier"}, Metadata: api.Metadata{Name: "security"}}))
	// Also by policies of other kinds.
	raw(t, s.kv, resourceRoot+"networkpolicies/web/x", `{"kind":"NetworkPolicy","spec":{"tier":"security"}}`)
	key := api.Key{Kind: "Tier", Name: "security"}
	var unsupported UnsupportedError
	if _, err := s.Delete(ctx, key, ""); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "NetworkPolicy(web/x)") {
		t.Errorf("deleted a tier in use: %v", err)
	}
	if _, err := s.kv.Commit(ctx, nil, []Write{{Key: resourceRoot + "networkpolicies/web/x", Delete: true}}); err != nil {
		t.Fatal(err)
	}
	must[*api.Tier](t)(s.Delete(ctx, key, ""))
}

func testLegacyName(t *testing.T, ctx context.Context, s *Store) {
	raw(t, s.kv, policies+"default.foo", `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.foo","uid":"u",`+
		`"creationTimestamp":"2020-01-01T00:00:00Z"},"spec":{"tier":"default","selector":"all()","types":["Ingress"],"ingress":[{"action":"Allow","source":{},"destination":{}}]}}`)
	foo := must[*api.GlobalNetworkPolicy](t)(s.Get(ctx, api.Key{Kind: "GlobalNetworkPolicy", Name: "foo"}))
	if foo.Name != "foo" || foo.Labels[tierLabel] != "default" {
		t.Errorf("read %+v", foo.Metadata)
	}
	var exists ExistsError
	if _, err := s.Create(ctx, policy("foo", "all()")); !errors.As(err, &exists) || exists.Current.Meta().Name != "foo" {
		t.Errorf("created beside the one under the old name: %v", err)
	}
	raw(t, s.kv, policies+"default.bar", `{"kind":"GlobalNetworkPolicy","metadata":{"name":"default.bar","annotations":{"projectcalico.org/metadata":"{\"name\":\"default.bar\"}"}},"spec":{}}`)
	must[*api.GlobalNetworkPolicy](t)(s.Create(ctx, policy("bar", "all()"))) // default.bar is the other one's own name
	must[*api.GlobalNetworkPolicy](t)(s.Update(ctx, foo))
	if stored(t, s.kv, policies+"default.foo") != "" || stored(t, s.kv, policies+"foo") == "" {
		t.Error("the policy did not move")
	}
	must[*api.GlobalNetworkPolicy](t)(s.Delete(ctx, api.KeyOf(foo), ""))
}

func testSyntheticProfile(t *testing.T, ctx context.Context, s *Store) {
	key := api.Key{Kind: "Profile", Name: "projectcalico-default-allow"}
	profile := must[*api.Profile](t)(s.Get(ctx, key))
	if profile.ResourceVersion != "1" || len(profile.Spec.Ingress) != 1 {
		t.Errorf("got %+v", profile)
	}
	if list, _, err := s.List(ctx, "Profile", ""); err != nil || len(list) != 1 {
		t.Errorf("list %v, %v", list, err)
	}
	var unsupported UnsupportedError
	var exists ExistsError
	if _, err := s.Delete(ctx, key, ""); !errors.As(err, &unsupported) {
		t.Errorf("delete: %v", err)
	}
	profile.ResourceVersion = ""
	if _, err := s.Create(ctx, profile); !errors.As(err, &exists) {
		t.Errorf("create: %v", err)
	}
}

func testUnknownFields(t *testing.T, ctx context.Context, s *Store) {
	key := resourceRoot + "felixconfigurations/default"
	raw(t, s.kv, key, `{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default","uid":"u",`+
		`"creationTimestamp":"2020-01-01T00:00:00Z","newMeta":{"a":1}},"spec":{"bpfLogLevel":"Off","fromTheFuture":{"x":[1,2]}}}`)
	read := must[*api.FelixConfiguration](t)(s.Get(ctx, api.Key{Kind: "FelixConfiguration", Name: "default"}))
	read.Spec.BPFLogLevel = "Debug"
	changed := must[*api.FelixConfiguration](t)(s.Update(ctx, read))
	manifest := &api.FelixConfiguration{TypeMeta: changed.TypeMeta, Metadata: changed.Metadata, Spec: api.FelixConfigurationSpec{BPFLogLevel: "Info"}}
	manifest.Rest = nil // a manifest does not know
	must[*api.FelixConfiguration](t)(s.Update(ctx, manifest))
	value := stored(t, s.kv, key)
	for _, part := range []string{`"newMeta":{"a":1}`, `"fromTheFuture":{"x":[1,2]}`, `"bpfLogLevel":"Info"`} {
		if strings.Count(value, part) != 1 {
			t.Errorf("stored %s\nwithout %s", value, part)
		}
	}
}

func testPools(t *testing.T, ctx context.Context, s *Store) {
	a := must[*api.IPPool](t)(s.Create(ctx, pool("a", "10.0.0.0/16")))
	if a.Spec.BlockSize != 26 || a.Spec.NodeSelector != "all()" {
		t.Errorf("created %+v", a.Spec)
	}
	var bad api.Errors
	if _, err := s.Create(ctx, pool("b", "10.0.128.0/24")); !errors.As(err, &bad) || !strings.Contains(err.Error(), "overlaps with IPPool(a)") {
		t.Errorf("overlap: %v", err)
	}
	smaller := *a
	smaller.Spec.BlockSize = 28
	if _, err := s.Update(ctx, &smaller); !errors.As(err, &bad) {
		t.Errorf("another block size: %v", err)
	}
	moved := *a
	moved.Spec.CIDR = "10.1.0.0/16"
	if _, err := s.Update(ctx, &moved); !errors.As(err, &bad) {
		t.Errorf("another CIDR: %v", err)
	}
	disabled := *a
	disabled.Spec.Disabled = true
	must[*api.IPPool](t)(s.Update(ctx, &disabled))
	raw(t, s.kv, "/calico/ipam/v2/assignment/ipv4/block/10.9.0.0-24", "{}")
	if _, err := s.Create(ctx, pool("c", "10.9.0.0/16")); !errors.As(err, &bad) || !strings.Contains(err.Error(), "10.9.0.0/24") {
		t.Errorf("blocks of another size: %v", err)
	}
}

func testDeletePool(t *testing.T, ctx context.Context, s *Store) {
	must[*api.IPPool](t)(s.Create(ctx, pool("a", "10.0.0.0/16")))
	block := func(cidr, allocations string) string {
		return `{"cidr":"` + cidr + `","affinity":"host:n1","allocations":` + allocations +
			`,"unallocated":[1,2,3],"attributes":[{"handle_id":"h"}],"sequenceNumber":7,"sequenceNumberForAllocation":{},"deleted":false}`
	}
	const root = "/calico/ipam/v2/"
	raw(t, s.kv, root+"assignment/ipv4/block/10.0.0.0-30", block("10.0.0.0/30", "[null,null,null,null]"))
	raw(t, s.kv, root+"assignment/ipv4/block/10.0.0.4-30", block("10.0.0.4/30", "[0,null,null,null]"))
	raw(t, s.kv, root+"host/n1/ipv4/block/10.0.0.0-30", `{"state":"confirmed","deleted":false}`)
	raw(t, s.kv, root+"host/n1/ipv4/block/10.0.0.4-30", `{"state":"confirmed","deleted":false}`)
	raw(t, s.kv, root+"host/n1/ipv4/block/10.7.0.0-30", `{"state":"confirmed","deleted":false}`)
	must[*api.IPPool](t)(s.Delete(ctx, api.Key{Kind: "IPPool", Name: "a"}, ""))
	for key, want := range map[string]string{
		resourceRoot + "ippools/a":                 "",
		root + "assignment/ipv4/block/10.0.0.0-30": "",
		root + "assignment/ipv4/block/10.0.0.4-30": `"affinity":null`,
		root + "host/n1/ipv4/block/10.0.0.0-30":    "",
		root + "host/n1/ipv4/block/10.0.0.4-30":    "",
		root + "host/n1/ipv4/block/10.7.0.0-30":    "confirmed",
	} {
		if got := stored(t, s.kv, key); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func testDeleteNode(t *testing.T, ctx context.Context, s *Store) {
	node := &api.Node{TypeMeta: api.TypeMeta{Kind: "Node"}, Metadata: api.Metadata{Name: "n1"}}
	must[*api.Node](t)(s.Create(ctx, node))
	for _, n := range []string{"n1", "n2"} {
		must[*api.WorkloadEndpoint](t)(s.Create(ctx, workload(n, "vm")))
		must[*api.HostEndpoint](t)(s.Create(ctx, &api.HostEndpoint{TypeMeta: api.TypeMeta{Kind: "HostEndpoint"},
			Metadata: api.Metadata{Name: n + "-eth0"}, Spec: api.HostEndpointSpec{Node: n, InterfaceName: "eth0"}}))
	}
	raw(t, s.kv, "/calico/ipam/v2/host/n1", "{}")
	raw(t, s.kv, "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-30", `{"state":"confirmed","deleted":false}`)
	must[*api.Node](t)(s.Delete(ctx, api.KeyOf(node), ""))
	left := []string{}
	for _, write := range everything(t, s.kv) {
		if strings.Contains(write.Key, "n1") {
			left = append(left, write.Key)
		}
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if list, _, err := s.List(ctx, "WorkloadEndpoint", ""); err != nil || len(list) != 1 {
		t.Errorf("endpoints of other nodes: %v, %v", list, err)
	}
}

func workload(node, name string) *api.WorkloadEndpoint {
	return &api.WorkloadEndpoint{
		TypeMeta: api.TypeMeta{Kind: "WorkloadEndpoint"},
		Metadata: api.Metadata{Namespace: "prod"},
		Spec: api.WorkloadEndpointSpec{Node: node, Orchestrator: "libvirt", Workload: name, Endpoint: "eth0",
			InterfaceName: "tap0", IPNetworks: []string{"10.0.0.7/32"}},
	}
}

func testList(t *testing.T, ctx context.Context, s *Store) {
	must[*api.WorkloadEndpoint](t)(s.Create(ctx, workload("n1", "a")))
	other := workload("n1", "b")
	other.Namespace = "prod2"
	must[*api.WorkloadEndpoint](t)(s.Create(ctx, other))
	raw(t, s.kv, resourceRoot+"workloadendpoints/prod/broken", `{"kind":`)
	raw(t, s.kv, resourceRoot+"workloadendpoints/odd", `{}`)
	for namespace, want := range map[string]int{"": 2, "prod": 1, "prod2": 1, "pro": 0} {
		list, version, err := s.List(ctx, "wep", namespace)
		if err != nil || len(list) != want || version == "" {
			t.Errorf("namespace %q: %v, %q, %v", namespace, list, version, err)
		}
	}
}

func testEndpointName(t *testing.T, ctx context.Context, s *Store) {
	made := must[*api.WorkloadEndpoint](t)(s.Create(ctx, workload("vm-host1", "vm-42")))
	if made.Name != "vm--host1-libvirt-vm--42-eth0" || made.Labels["projectcalico.org/namespace"] != "prod" ||
		made.Labels["projectcalico.org/orchestrator"] != "libvirt" {
		t.Errorf("created %+v", made.Metadata)
	}
	wrong := workload("n1", "x")
	wrong.Name = "n1-libvirt-y-eth0"
	var bad api.Errors
	if _, err := s.Create(ctx, wrong); !errors.As(err, &bad) {
		t.Errorf("another name: %v", err)
	}
}

func testInitialize(t *testing.T, ctx context.Context, s *Store) {
	before := stored(t, s.kv, resourceRoot+"clusterinformations/default")
	if err := s.EnsureInitialized(ctx); err != nil {
		t.Fatal(err)
	}
	if after := stored(t, s.kv, resourceRoot+"clusterinformations/default"); after != before || before == "" {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	tiers, _, err := s.List(ctx, "Tier", "")
	if err != nil || len(tiers) != 3 {
		t.Errorf("tiers %v, %v", tiers, err)
	}
}

func testUnreadable(t *testing.T, ctx context.Context, s *Store) {
	raw(t, s.kv, policies+"bad", `{"kind":"GlobalNetworkPolicy","spec":{"order":"not a number"}}`)
	key := api.Key{Kind: "GlobalNetworkPolicy", Name: "bad"}
	var unreadable UnreadableError
	if _, err := s.Get(ctx, key); !errors.As(err, &unreadable) || !strings.Contains(err.Error(), "replace") {
		t.Errorf("get: %v", err)
	}
	mended := policy("bad", "all()")
	mended.ResourceVersion = unreadable.Current.Meta().ResourceVersion
	must[*api.GlobalNetworkPolicy](t)(s.Update(ctx, mended))
	raw(t, s.kv, policies+"bad", `{"kind":`)
	if _, err := s.Delete(ctx, key, ""); err != nil {
		t.Errorf("delete: %v", err)
	}
}

func TestLargeObjects(t *testing.T) {
	t.Parallel()
	s := New(dial(t, etcdlab.StartServer(t, lab.ShortDir(t)).Endpoint()))
	set := func(name string, nets int) *api.GlobalNetworkSet {
		o := &api.GlobalNetworkSet{TypeMeta: api.TypeMeta{Kind: "GlobalNetworkSet"}, Metadata: api.Metadata{Name: name}}
		for i := range nets {
			o.Spec.Nets = append(o.Spec.Nets, fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255))
		}
		return o
	}
	must[*api.GlobalNetworkSet](t)(s.Create(testContext(t), set("large", 200_000)))
	if _, err := s.Create(testContext(t), set("too-large", 600_000)); err == nil || !strings.Contains(err.Error(), "split it") {
		t.Errorf("created, or no advice: %v", err)
	}
	if list, _, err := s.List(testContext(t), "GlobalNetworkSet", ""); err != nil || len(list) != 1 {
		t.Errorf("%d objects, %v", len(list), err)
	}
}
