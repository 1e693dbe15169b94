package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	agentv1 "github.com/margay-project/margay/api/agent/v1"
	"github.com/margay-project/margay/internal/lab"
)

// testStopper ends a fake agent with its test.
type testStopper struct{ *testing.T }

func (t testStopper) Check(err error) {
	if err != nil {
		t.Fatal(err)
	}
}
func (t testStopper) Defer(end func()) { t.Cleanup(end) }

// written makes a file below a root.
func written(t *testing.T, root, path, content string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// diagnosed runs node diags on a host with a root of its own, and returns what it printed and the files of its file.
func diagnosed(t *testing.T, root, socket string) (stdout string, files map[string]string) {
	t.Helper()
	var out, errs bytes.Buffer
	tmp := t.TempDir()
	s := newSession(strings.NewReader(""), &out, &errs, func(name string) string {
		return map[string]string{"TMPDIR": tmp, "MARGAY_AGENT": "unix://" + socket}[name]
	})
	s.now = func() time.Time { return time.Unix(1_800_000_000, 0) }
	s.host = host{files: root, run: func(_ context.Context, command []string) ([]byte, error) {
		if command[0] == "bpftool" {
			return nil, &exec.Error{Name: "bpftool", Err: exec.ErrNotFound}
		}
		return []byte("output of " + strings.Join(command, " ") + "\nEnvironment=FELIX_ETCDPASSWORD=hush\n"), nil
	}}
	if code := s.run(t.Context(), []string{"node", "diags", "-c", "/etc/calico/calicoctl.cfg", "--log-dir", "/var/log/margay"}); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	path := filepath.Join(tmp, "margay-diags-20270115-080000.tar.gz")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if !strings.HasSuffix(out.String(), "\nDiags saved to "+path+"\n") {
		t.Errorf("the last line does not name the file:\n%s", out.String())
	}
	return out.String(), unpacked(t, path)
}

func unpacked(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for reader := tar.NewReader(plain); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(content)
	}
}

func TestDiagnosticsHaveEverythingButSecrets(t *testing.T) {
	t.Parallel()
	root, socket := t.TempDir(), filepath.Join(lab.ShortDir(t), "felix.sock")
	for _, path := range hostFiles() {
		written(t, root, path, "content of "+path+"\n")
	}
	written(t, root, "/etc/calico/calicoctl.cfg", "spec:\n  etcdEndpoints: https://etcd:2379\n  etcdUsername: root\n  etcdPassword: hush\n"+
		"  etcdKey: |\n    -----BEGIN RSA PRIVATE KEY-----\n    hush\n    -----END RSA PRIVATE KEY-----\n")
	written(t, root, "/var/log/margay/felix/current", "level=info password=\"hush\\\"hush\" msg=ok\n")
	agent := &fakeAgent{
		status: &agentv1.StatusResponse{Node: "node-a"}, dump: &agentv1.DumpResponse{Node: "node-a"},
		system: &agentv1.CheckSystemResponse{Requirements: []*agentv1.Requirement{{Name: "tcx", Found: "there"}}},
	}
	agent.serve(testStopper{t}, socket)
	stdout, files := diagnosed(t, root, socket)

	want := []string{"margayctl.txt", "missing.txt", "config/calicoctl.cfg", "logs/felix/current",
		"agent/status.json", "agent/dump.json", "agent/system.json", "agent/settings.txt", "agent/heap.pprof"}
	for name, command := range hostCommands() {
		if !strings.HasPrefix(command, "bpftool") {
			want = append(want, name)
		}
	}
	for _, path := range hostFiles() {
		want = append(want, "host"+path)
	}
	var names []string
	for name, content := range files {
		names = append(names, strings.TrimPrefix(name, "margay-diags/"))
		if strings.Contains(content, "hush") {
			t.Errorf("%s has a secret:\n%s", name, content)
		}
	}
	slices.Sort(want)
	slices.Sort(names)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	missing := "host/bpf-net.txt: bpftool net show: exec: \"bpftool\": executable file not found in $PATH\n" +
		"host/bpf-progs.txt: bpftool prog show: exec: \"bpftool\": executable file not found in $PATH\n"
	if files["margay-diags/missing.txt"] != missing || !strings.Contains(stdout, missing) {
		t.Errorf("missing is said to be\n%s\nand\n%s", files["margay-diags/missing.txt"], stdout)
	}
	for name, content := range map[string]string{
		"agent/status.json":  "{\n  \"node\": \"node-a\"\n}\n",
		"agent/heap.pprof":   "\x1f\x8b\xff password: not text",
		"agent/settings.txt": "etcd-endpoints: http://(removed)@10.0.0.1:2379\n",
		"logs/felix/current": "level=info password=(removed) msg=ok\n",
		"host/links.txt":     "output of ip -d -s link\nEnvironment=FELIX_ETCDPASSWORD=(removed)\n",
	} {
		if got := files["margay-diags/"+name]; got != content {
			t.Errorf("%s: got %q, want %q", name, got, content)
		}
	}
}

func TestDiagnosticsAreCollectedWithoutAnAgent(t *testing.T) {
	t.Parallel()
	stdout, files := diagnosed(t, t.TempDir(), filepath.Join(t.TempDir(), "none.sock"))
	if _, there := files["margay-diags/host/links.txt"]; !there {
		t.Error("the links of the host are not in it")
	}
	for _, line := range []string{"agent/status.json: the agent does not answer on ", "host/proc/version: open "} {
		if !strings.Contains(files["margay-diags/missing.txt"], line) || !strings.Contains(stdout, line) {
			t.Errorf("it is not said that there is no %s\n%s", line, stdout)
		}
	}
}

func TestDiagnosticsThatCannotBeWrittenLeaveNothing(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	s := newSession(strings.NewReader(""), &out, &errs, func(name string) string { return map[string]string{"TMPDIR": "/none"}[name] })
	if code := s.run(t.Context(), []string{"node", "diags"}); code != 1 || !strings.Contains(errs.String(), "choose another directory with TMPDIR") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	tmp := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	s = newSession(strings.NewReader(""), &out, &errs, func(name string) string { return map[string]string{"TMPDIR": tmp}[name] })
	s.host = host{files: t.TempDir(), run: func(ctx context.Context, _ []string) ([]byte, error) { cancel(); return nil, ctx.Err() }}
	if code := s.run(ctx, []string{"node", "diags", "--agent", "/none.sock"}); code != 1 {
		t.Errorf("interrupted: exit code %d", code)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestThisHostCanBeDiagnosed(t *testing.T) {
	t.Parallel()
	h := thisHost()
	if out, err := h.run(t.Context(), []string{"uname", "-s"}); err != nil || string(out) != "Linux\n" {
		t.Errorf("%q, %v", out, err)
	}
	if content, err := readEnd("/proc/version"); err != nil || !strings.HasPrefix(string(content), "Linux version") {
		t.Errorf("%q, %v", content, err)
	}
}

func TestSecretsAreRemoved(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"password": "a b", "passwordSecret": {"name": "x"}}`:           `{"password": (removed), "passwordSecret": {"name": "x"}}`,
		`ETCD_PASSWORD='a b' felix`:                                      `ETCD_PASSWORD=(removed) felix`,
		`k8sAPIToken: abc.def-1`:                                         `k8sAPIToken: (removed)`,
		`connect to https://u:p@etcd:2379,http://etcd2`:                  `connect to https://(removed)@etcd:2379,http://etcd2`,
		"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nx": "(removed)\nx",
		"-----BEGIN PRIVATE KEY-----\ncut short":                         "(removed)",
		"-----BEGIN CERTIFICATE-----\nabc":                               "-----BEGIN CERTIFICATE-----\nabc",
		`msg="login: {\"password\":\"x\"}"`:                              `msg="login: {\"password\":(removed)}"`,
		"no passwords here":                                              "no passwords here",
	} {
		if got := string(withoutSecrets([]byte(text))); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
