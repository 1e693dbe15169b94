package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// zone answers from a map. A name that is not in it does not exist; a lookup of a name without records fails.
type zone map[string][]*net.SRV

func (z zone) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	name = "_" + service + "._" + proto + "." + name
	records, ok := z[name]
	switch {
	case !ok:
		return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case len(records) == 0:
		return "", nil, errors.New("server misbehaving")
	}
	return name, records, nil
}

func TestEtcdIsFoundByItsDomain(t *testing.T) {
	t.Parallel()
	servers := []*net.SRV{{Target: "e1.example.org.", Port: 2379}, {Target: "e2.example.org.", Port: 2380}}
	const tls, plain = "_etcd-client-ssl._tcp.example.org", "_etcd-client._tcp.example.org"
	for name, c := range map[string]struct {
		zone    zone
		want    []string
		problem string
	}{
		"plain":                     {zone{plain: servers}, []string{"http://e1.example.org:2379", "http://e2.example.org:2380"}, ""},
		"tls":                       {zone{tls: servers[:1]}, []string{"https://e1.example.org:2379"}, ""},
		"tls is preferred":          {zone{tls: servers[:1], plain: servers}, []string{"https://e1.example.org:2379"}, ""},
		"tls cannot be asked for":   {zone{tls: nil, plain: servers}, nil, "server misbehaving"},
		"plain cannot be asked for": {zone{plain: nil}, nil, "server misbehaving"},
		"nothing":                   {nil, nil, "there is no SRV record " + tls + " or " + plain},
	} {
		got, err := discover(context.Background(), c.zone, "example.org")
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if (err != nil) != (c.problem != "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The members are found by their domain, trusted by certificates that the configuration file holds itself, and followed
// when their records change.
func TestAClusterIsFoundByItsRecordsAndTrustedInline(t *testing.T) {
	t.Parallel()
	f, a := etcdlab.Certificates{Dir: t.TempDir()}, etcdlab.NewAuthority(t)
	a.Write(t, f.Path("ca"))
	f.Issue(t, a)
	c := etcdlab.StartCluster(t, f.Options())
	dns := serveNames(t)
	const service = "_etcd-client-ssl._tcp.cluster.test"
	for i, m := range c.Members {
		dns.hosts[fmt.Sprintf("m%d.cluster.test", i+1)] = m.Address
	}
	dns.announce(service, "m1.cluster.test", "m2.cluster.test")
	way := Transport{DNS: dns.resolver, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		found, err := dns.resolver.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		return c.Client.DialContext(ctx, network, net.JoinHostPort(found[0], port))
	}}
	config, err := ConfigFromEnvironment(nil, inline(t, f))
	if err != nil {
		t.Fatal(err)
	}
	store, err := DialOver(t.Context(), config, way)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const key = kv.Root + "key"
	if _, err := store.Commit(t.Context(), nil, []kv.Write{{Key: key, Value: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}

	dns.announce(service, "m2.cluster.test", "m3.cluster.test")
	store.discoverAgain(t.Context(), dns.resolver)
	want := []string{"https://m2.cluster.test:2379", "https://m3.cluster.test:2379"}
	if diff := cmp.Diff(want, store.Endpoints()); diff != "" {
		t.Error(diff)
	}
	c.Members[0].Kill()
	if got, err := kv.Get(t.Context(), store, key, 0); err != nil || got == nil || string(got.Value) != "{}" {
		t.Errorf("read %v: %v", got, err)
	}
	// Somebody who can change records must not be able to read the traffic.
	dns.announce(service)
	dns.announce("_etcd-client._tcp.cluster.test", "m1.cluster.test")
	store.discoverAgain(t.Context(), dns.resolver)
	if diff := cmp.Diff(want, store.Endpoints()); diff != "" {
		t.Error(diff)
	}
}

// inline writes a configuration file that holds the certificates.
func inline(t *testing.T, f etcdlab.Certificates) string {
	t.Helper()
	spec := map[string]string{"datastoreType": "etcdv3", "etcdDiscoverySrv": "cluster.test"}
	for field, file := range map[string]string{"etcdCACert": "ca", "etcdCert": "client", "etcdKey": "client-key"} {
		text, err := os.ReadFile(f.Path(file))
		if err != nil {
			t.Fatal(err)
		}
		spec[field] = string(text)
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "projectcalico.org/v3", "kind": "CalicoAPIConfig", "metadata": map[string]any{}, "spec": spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	file := f.Path("calicoctl.cfg")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
