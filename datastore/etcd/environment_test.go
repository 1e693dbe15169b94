package etcd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/margay-project/margay/internal/skip"
)

func TestConfigFromFile(t *testing.T) {
	const head = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata: {}\nspec:\n"
	file := filepath.Join(t.TempDir(), "calicoctl.cfg")
	environment := func(string) string { return "never read" }
	for _, c := range []struct {
		name, text string
		want       Config
		problem    string
	}{
		{"endpoints", head + "  datastoreType: etcdv3\n  etcdEndpoints: http://10.0.0.1:2379, http://10.0.0.2:2379\n",
			Config{Endpoints: []string{"http://10.0.0.1:2379", "http://10.0.0.2:2379"}}, ""},
		{"certificates", head + "  etcdEndpoints: https://a:1\n  etcdUsername: u\n  etcdPassword: p\n  etcdKeyFile: k\n  etcdCertFile: c\n  etcdCACertFile: ca\n  kubeconfig: x\n",
			Config{Endpoints: []string{"https://a:1"}, Username: "u", Password: "p", KeyFile: "k", CertFile: "c", CAFile: "ca"}, ""},
		{"inline", head + "  etcdEndpoints: https://a:1\n  etcdCACert: |\n    PEM\n", Config{Endpoints: []string{"https://a:1"}, CAPEM: "PEM\n"}, ""},
		{"json", `{"apiVersion":"projectcalico.org/v3","kind":"CalicoAPIConfig","spec":{"etcdEndpoints":"http://a:1"}}`,
			Config{Endpoints: []string{"http://a:1"}}, ""},
		{"version", "apiVersion: v9\nkind: CalicoAPIConfig\n", Config{}, "invalid config file: unknown APIVersion 'v9'"},
		{"kind", "apiVersion: projectcalico.org/v3\nkind: Tier\n", Config{}, "invalid config file: expected kind 'CalicoAPIConfig', got 'Tier'"},
		{"unknown field", head + "  etcdEndpoint: x\n", Config{}, "syntax error in " + file + ": "},
		{"kubernetes", head + "  datastoreType: kubernetes\n", Config{}, "datastore type 'kubernetes' is not supported"},
		{"both kinds of certificates", head + "  etcdCACert: x\n  etcdCACertFile: y\n", Config{}, "etcd certificates are given both"},
		{"text that looks like something else", head + "  etcdEndpoints: https://a:1\n  etcdUsername: true\n  etcdPassword: 123456\n",
			Config{Endpoints: []string{"https://a:1"}, Username: "true", Password: "123456"}, ""},
		{"text that looks like a date", head + "  EtcdEndpoints: https://a:1\n  etcdUsername: 2026-11-30\n  etcdPassword: yes\n",
			Config{Endpoints: []string{"https://a:1"}, Username: "2026-11-30", Password: "yes"}, ""},
		{"a field twice", head + "  etcdEndpoints: a\n  etcdEndpoints: b\n", Config{}, "syntax error in " + file + ": "},
		{"discovery", head + "  etcdDiscoverySrv: example.org\n", Config{DiscoverySRV: "example.org"}, ""},
		{"discovery and endpoints", head + "  etcdDiscoverySrv: example.org\n  etcdEndpoints: http://a:1\n", Config{}, "keep one of ETCD_ENDPOINTS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ConfigFromEnvironment(environment, file)
			expect(t, got, err, c.want, c.problem)
		})
	}
}

func TestConfigFromVariables(t *testing.T) {
	if _, err := os.Stat(DefaultConfigFile); err == nil {
		skip.For(t, "%s exists here and wins over the environment", DefaultConfigFile)
	}
	for _, c := range []struct {
		name    string
		env     map[string]string
		want    Config
		problem string
	}{
		{"plain", map[string]string{"ETCD_ENDPOINTS": "http://a:1", "ETCD_CA_CERT_FILE": "ca"}, Config{Endpoints: []string{"http://a:1"}, CAFile: "ca"}, ""},
		{"the prefix wins", map[string]string{"ETCD_ENDPOINTS": "http://a:1", "CALICO_ETCD_ENDPOINTS": "http://b:1"}, Config{Endpoints: []string{"http://b:1"}}, ""},
		{"nothing", nil, Config{}, ""},
		{"kubernetes", map[string]string{"CALICO_DATASTORE_TYPE": "kubernetes"}, Config{}, "datastore type 'kubernetes' is not supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ConfigFromEnvironment(func(name string) string { return c.env[name] }, "")
			expect(t, got, err, c.want, c.problem)
		})
	}
	_, err := ConfigFromEnvironment(os.Getenv, "/nonexistent/x.cfg")
	expect(t, Config{}, err, Config{}, "Error reading config file: /nonexistent/x.cfg")
}

func expect(t *testing.T, got Config, err error, want Config, problem string) {
	t.Helper()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if problem == "" && text != "" || !strings.Contains(text, problem) {
		t.Errorf("error %q, want %q", text, problem)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
