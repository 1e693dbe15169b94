package datastore

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
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

// files are the certificates of a cluster that wants them of its clients too.
type files struct{ dir string }

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) config() Config {
	return Config{CAFile: f.path("ca"), CertFile: f.path("client"), KeyFile: f.path("client-key")}
}

// serverNames are what the members of a cluster are called.
var serverNames = []string{"10.77.0.1", "10.77.0.2", "10.77.0.3", "m1.cluster.test", "m2.cluster.test", "m3.cluster.test"}

func (f files) issue(t *testing.T, a authority) {
	t.Helper()
	a.issue(t, f.path("server"), f.path("server-key"), serverNames...)
	a.issue(t, f.path("client"), f.path("client-key"))
}

// options are those of a cluster with these files.
func (f files) options() clustertest.Options {
	return clustertest.Options{
		Scheme: "https",
		Arguments: []string{
			"--cert-file=" + f.path("server"), "--key-file=" + f.path("server-key"), "--trusted-ca-file=" + f.path("ca"), "--client-cert-auth",
		},
		Admin: clientv3.Config{TLS: &tls.Config{
			InsecureSkipVerify: true, // it is the cluster's own namespace
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				pair, err := tls.LoadX509KeyPair(f.path("client"), f.path("client-key"))
				return &pair, err
			},
		}},
	}
}

// enableAuth gives the cluster the user root.
func enableAuth(t *testing.T, admin *clientv3.Client, password string) {
	t.Helper()
	ctx := testContext(t)
	for _, step := range []func() error{
		func() error { _, err := admin.RoleAdd(ctx, "root"); return err },
		func() error { _, err := admin.UserAdd(ctx, "root", password); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// The certificates of a whole cluster are replaced, those of its authority too, while it is written to and watched.
func TestTheCertificatesOfAClusterAreReplaced(t *testing.T) {
	t.Parallel()
	f, before := files{t.TempDir()}, newAuthority(t)
	before.write(t, f.path("ca"))
	f.issue(t, before)
	o := f.options()
	o.Admin.Username, o.Admin.Password = "root", "secret"
	e := &exercise{T: t, Cluster: clustertest.Start(t, o)}
	enableAuth(t, e.Members[0].Client(t), "secret")
	log, lines := test.NewNullLogger()
	e.config = f.config()
	e.config.Username, e.config.Password, e.config.Log = "root", "secret", logrus.NewEntry(log)
	e.begin()

	after := newAuthority(t)
	after.write(t, f.path("new"))
	appendFile(t, f.path("ca"), f.path("new"))
	e.restartEach("both authorities are trusted")

	f.issue(t, after)
	whole, err := os.ReadFile(f.path("client-key"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, f.path("client-key"), whole[:len(whole)/2])
	e.Members[0].Restart(t)
	e.settle("the key is half written")
	e.consumer.until("somebody says that "+f.path("client-key")+" is damaged", func() bool {
		return slices.ContainsFunc(lines.AllEntries(), func(entry *logrus.Entry) bool {
			problem := fmt.Sprint(entry.Data[logrus.ErrorKey])
			return strings.Contains(entry.Message, "read before are used further") && strings.Contains(problem, f.path("client-key"))
		})
	})
	writeFile(t, f.path("client-key"), whole)

	after.write(t, f.path("ca"))
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
		enableAuth(t, e.Members[0].Client(t), "secret")
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
	f, a := files{t.TempDir()}, newAuthority(t)
	a.write(t, f.path("ca"))
	f.issue(t, a)
	c := clustertest.Start(t, f.options())
	dns := serveNames(t)
	const service = "_etcd-client-ssl._tcp.cluster.test"
	for i, m := range c.Members {
		dns.hosts[fmt.Sprintf("m%d.cluster.test", i+1)] = m.Address
	}
	dns.announce(service, "m1.cluster.test", "m2.cluster.test")
	way := transport{dns: dns.resolver, dial: func(ctx context.Context, network, address string) (net.Conn, error) {
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
	config, err := ConfigFromEnvironment(nil, f.inline(t))
	if err != nil {
		t.Fatal(err)
	}
	store, err := dialOver(testContext(t), config, way)
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
func (f files) inline(t *testing.T) string {
	t.Helper()
	spec := map[string]string{"datastoreType": "etcdv3", "etcdDiscoverySrv": "cluster.test"}
	for field, file := range map[string]string{"etcdCACert": "ca", "etcdCert": "client", "etcdKey": "client-key"} {
		text, err := os.ReadFile(f.path(file))
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
	file := f.path("calicoctl.cfg")
	writeFile(t, file, text)
	return file
}
