package datastore

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/margay-project/margay/datastore/clustertest"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	clientv3 "go.etcd.io/etcd/client/v3"
	"sigs.k8s.io/yaml"
)

// The certificates of a whole cluster are replaced, those of its authority too, while it is written to and watched.
func TestTheCertificatesOfAClusterAreReplaced(t *testing.T) {
	t.Parallel()
	f, before := clustertest.Certificates{Dir: t.TempDir()}, clustertest.NewAuthority(t)
	before.Write(t, f.Path("ca"))
	f.Issue(t, before)
	o := f.Options()
	o.Admin.Username, o.Admin.Password = "root", "secret"
	e := &exercise{T: t, Cluster: clustertest.Start(t, o)}
	clustertest.EnableAuth(t, e.Members[0].Client(t), "secret")
	log, lines := test.NewNullLogger()
	e.config = Config{CAFile: f.Path("ca"), CertFile: f.Path("client"), KeyFile: f.Path("client-key")}
	e.config.Username, e.config.Password, e.config.Log = "root", "secret", logrus.NewEntry(log)
	e.begin()

	after := clustertest.NewAuthority(t)
	after.Write(t, f.Path("new"))
	appendFile(t, f.Path("ca"), f.Path("new"))
	e.restartEach("both authorities are trusted")

	f.Issue(t, after)
	whole, err := os.ReadFile(f.Path("client-key"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, f.Path("client-key"), whole[:len(whole)/2])
	e.Members[0].Restart(t)
	e.settle("the key is half written")
	e.consumer.until("somebody says that "+f.Path("client-key")+" is damaged", func() bool {
		return slices.ContainsFunc(lines.AllEntries(), func(entry *logrus.Entry) bool {
			problem := fmt.Sprint(entry.Data[logrus.ErrorKey])
			return strings.Contains(entry.Message, "read before are used further") && strings.Contains(problem, f.Path("client-key"))
		})
	})
	writeFile(t, f.Path("client-key"), whole)

	after.Write(t, f.Path("ca"))
	e.restartEach("only the new authority is trusted")
	e.finish(1)
}

// restartEach restarts the members, one after the other.
func (e *exercise) restartEach(why string) {
	e.Helper()
	for _, m := range e.Members {
		m.Restart(e)
		e.settle(why)
	}
}

func writeFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendFile(t *testing.T, path, more string) {
	t.Helper()
	var whole []byte
	for _, part := range []string{path, more} {
		text, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, text...)
	}
	writeFile(t, path, whole)
}

func TestTokensOfAClusterExpire(t *testing.T) {
	onEveryVersion(t, func(t *testing.T, o clustertest.Options) {
		t.Parallel()
		o.Arguments, o.Admin = []string{"--auth-token-ttl=1"}, clientv3.Config{Username: "root", Password: "secret"}
		e := &exercise{T: t, Cluster: clustertest.Start(t, o), config: Config{Username: "root", Password: "secret"}}
		clustertest.EnableAuth(t, e.Members[0].Client(t), "secret")
		e.begin()
		for range 2 {
			resume := e.writers.pause()
			time.Sleep(3 * time.Second)
			resume()
			e.settle("the tokens have expired")
			e.watched().Restart(t) // the next stream needs a token too
			e.settle("the watch goes on elsewhere")
		}
		e.finish(1)
	})
}

// The members are found by their domain, trusted by certificates that the configuration file holds itself, and followed
// when their records change.
func TestAClusterIsFoundByItsRecordsAndTrustedInline(t *testing.T) {
	t.Parallel()
	f, a := clustertest.Certificates{Dir: t.TempDir()}, clustertest.NewAuthority(t)
	a.Write(t, f.Path("ca"))
	f.Issue(t, a)
	c := clustertest.Start(t, f.Options())
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
		return c.Client.Dial(ctx, network, net.JoinHostPort(found[0], port))
	}}
	config, err := ConfigFromEnvironment(nil, inline(t, f))
	if err != nil {
		t.Fatal(err)
	}
	store, err := DialOver(testContext(t), config, way)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	raw(t, store, policies+"a", "{}")

	dns.announce(service, "m2.cluster.test", "m3.cluster.test")
	store.discoverAgain(testContext(t), dns.resolver)
	want := []string{"https://m2.cluster.test:2379", "https://m3.cluster.test:2379"}
	if diff := cmp.Diff(want, store.Endpoints()); diff != "" {
		t.Error(diff)
	}
	c.Members[0].Kill()
	if got := stored(t, store, policies+"a"); got != "{}" {
		t.Errorf("read %q", got)
	}
	// Whoever can change records does not get to read what is sent.
	dns.announce(service)
	dns.announce("_etcd-client._tcp.cluster.test", "m1.cluster.test")
	store.discoverAgain(testContext(t), dns.resolver)
	if diff := cmp.Diff(want, store.Endpoints()); diff != "" {
		t.Error(diff)
	}
}

// inline writes a configuration file that holds the certificates.
func inline(t *testing.T, f clustertest.Certificates) string {
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
	writeFile(t, file, text)
	return file
}
