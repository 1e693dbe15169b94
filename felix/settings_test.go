package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFlagsOverrideTheEnvironment(t *testing.T) {
	t.Parallel()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(authority, []byte("certificate"), 0o600))
	s, err := parseSettings(
		[]string{"--node-name", "flag", "--labels", "rack=r1,zone=a"},
		[]string{"FELIX_NODENAME=environment", "FELIX_ETCDENDPOINTS=http://a:1,http://b:2", "ETCD_ENDPOINTS=http://c:3", "FELIX_ASNUMBER=64512",
			"felix_logLevel=debug", "FELIX_IP=", "FELIX_BPFLogLevel=Info", "FELIX_UNINSTALL=true", "FELIXIR=1", "PATH=/bin",
			"ETCD_USERNAME=u", "ETCD_PASSWORD=other", "FELIX_ETCDPASSWORD=secret", "ETCD_CA_CERT_FILE=" + authority})
	must(t, err)
	got := map[string]any{
		"node": s.nodeName, "endpoints": s.datastore.Endpoints, "as": s.asNumber, "level": s.logLevel, "labels": s.labels,
		"user": s.datastore.Username, "password": s.datastore.Password, "ca": s.datastore.CAFile, "uninstall": s.uninstall,
		"parameters": s.parameters,
	}
	want := map[string]any{
		"node": "flag", "endpoints": []string{"http://a:1", "http://b:2"}, "as": uint32(64512), "level": "debug",
		"labels": map[string]string{"rack": "r1", "zone": "a"}, "user": "u", "password": "secret", "ca": authority, "uninstall": false,
		"parameters": map[string]string{"bpfloglevel": "Info", "uninstall": "true"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheNodeNameDefaultsToTheHostName(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	must(t, err)
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{nil, strings.ToLower(host)},
		{[]string{"FELIX_FELIXHOSTNAME=calico"}, "calico"},
		{[]string{"FELIX_FELIXHOSTNAME=calico", "FELIX_NODENAME=ours"}, "ours"},
	} {
		s, err := parseSettings([]string{"--embedded-etcd", "/x"}, c.environ)
		must(t, err)
		if s.nodeName != c.want {
			t.Errorf("%v: %s", c.environ, s.nodeName)
		}
	}
}

func TestInvalidSettingsAreRefusedWithAdvice(t *testing.T) {
	t.Parallel()
	etcd := "--etcd-endpoints=http://a:1"
	for _, c := range []struct {
		args, environ []string
		says          string
	}{
		{nil, nil, "give --etcd-endpoints or --etcd-discovery-srv, or --embedded-etcd DIR"},
		{[]string{etcd}, []string{"ETCD_DISCOVERY_SRV=example.org"}, "--etcd-endpoints and --etcd-discovery-srv exclude each other"},
		{[]string{"--embedded-etcd", "/x", "--etcd-discovery-srv", "example.org"}, nil, "--embedded-etcd and --etcd-discovery-srv exclude each other"},
		{[]string{"--embedded-etcd", "/x"}, []string{"ETCD_ENDPOINTS=http://a:1"}, "ETCD_ENDPOINTS and ETCD_DISCOVERY_SRV in the environment count"},
		{[]string{"--nod-name", "x"}, nil, "felix --help lists the flags"},
		{[]string{etcd, "extra"}, nil, `unexpected argument "extra"`},
		{[]string{etcd, "--embedded-etcd", "/x"}, nil, "exclude each other"},
		{[]string{etcd, "--embedded-etcd-listen", "1.2.3.4:5"}, nil, "needs --embedded-etcd DIR"},
		{[]string{etcd, "--ip", "192.0.2.1"}, nil, "with a prefix length"},
		{[]string{etcd, "--ip6", "192.0.2.1/24"}, nil, "of its family"},
		{[]string{etcd, "--ip-autodetection-method", "guess"}, nil, "want first-found, can-reach="},
		{[]string{etcd}, []string{"IP6_AUTODETECTION_METHOD=interface=["}, "--ip6-autodetection-method \"interface=[\": the interface's name"},
		{[]string{etcd, "--node-name", "H_1!"}, nil, `--node-name "H_1!" is impossible: give --node-name a name of a-z, 0-9, and dashes`},
		{[]string{etcd, "--log-level", "loud"}, nil, "want trace, debug"},
		{[]string{etcd, "--etcd-key-file", "x"}, nil, "give both or neither"},
		{[]string{etcd, "--etcd-username", "x"}, nil, "FELIX_ETCDPASSWORD belong together"},
		{[]string{etcd, "--etcd-ca-file", "/nonexistent/ca"}, nil, "--etcd-ca-file: open /nonexistent/ca: no such file"},
		{[]string{etcd, "--etcd-cert-file", "/dev/null", "--etcd-key-file", "/nonexistent/key"}, nil, "--etcd-key-file: open /nonexistent/key: no such file"},
		{[]string{"--etcd-only"}, nil, "--etcd-only needs --embedded-etcd DIR"},
		{[]string{"--etcd-endpoints", "ftp://x"}, nil, "want http://HOST:PORT"},
		{[]string{etcd}, []string{"FELIX_ASNUMBER=many"}, `FELIX_ASNUMBER="many"`},
	} {
		if _, err := parseSettings(c.args, c.environ); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v %v: %v", c.args, c.environ, err)
		}
	}
}

func TestVersionCheckAndUninstallNeedNoDatastore(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--version", "--check", "--uninstall"} {
		if _, err := parseSettings([]string{flag}, nil); err != nil {
			t.Errorf("%s: %v", flag, err)
		}
	}
	var out strings.Builder
	must(t, run(t.Context(), []string{"--version"}, nil, &out, io.Discard))
	if !strings.HasPrefix(out.String(), "felix ") {
		t.Errorf("version: %q", out.String())
	}
}

// Settings in the environment apply before the datastore is read.
func TestTheLogStartsAtTheConfiguredLevel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{nil, "info"}, {[]string{"FELIX_LOGLEVEL=debug"}, "debug"}, {[]string{"FELIX_LOGSEVERITYSCREEN=Warning"}, "warning"},
		{[]string{"FELIX_LOGSEVERITYSCREEN=loud"}, "info"},
	} {
		s, err := parseSettings([]string{"--embedded-etcd", "/x"}, c.environ)
		must(t, err)
		if got := newLog(io.Discard, s).Logger.GetLevel().String(); got != c.want {
			t.Errorf("%v: %s", c.environ, got)
		}
	}
}

func TestARestartDiffersFromTheFirstStartAfterABoot(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "boot")
	var got []bool
	for _, node := range []string{"n1", "n1", "n2", "n2"} {
		same, err := sameBoot(file, node)
		must(t, err)
		got = append(got, same)
	}
	must(t, os.WriteFile(file, []byte("n2 another-boot\n"), 0o600))
	same, err := sameBoot(file, "n2")
	must(t, err)
	if got = append(got, same); !slices.Equal(got, []bool{false, true, false, true, false}) {
		t.Error(got)
	}
	if _, err := sameBoot(filepath.Join(file, "x"), "n1"); err == nil {
		t.Error("a file that cannot be written causes no error")
	}
}

func TestACommonHostNameIsRefusedAsNodeName(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{
		"localhost": true, "localhost.localdomain": true, "web_1": true, "web-1": false, "web-1.example.org": false, "localhost2": false,
	} {
		s := &settings{nodeName: name, hostNamed: true}
		if err := s.checkNodeName(); (err != nil) != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&settings{nodeName: "localhost"}).checkNodeName(); err != nil {
		t.Errorf("a name that was configured is refused: %v", err)
	}
}
