package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
	"github.com/margay-project/margay/internal/skip"
)

// invoke runs the command with an environment and without a socket of an embedded etcd, unless one is given.
func invoke(t *testing.T, env map[string]string, embedded string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	s := newSession(strings.NewReader(""), &out, &errs, func(name string) string { return env[name] })
	s.embedded, s.patience = embedded, 2*time.Second
	code = s.run(t.Context(), args)
	return code, out.String(), errs.String()
}

func embeddedEtcd(t testing.TB) (socket string) {
	t.Helper()
	dir := lab.ShortDir(t)
	etcdlab.StartServer(t, dir)
	return filepath.Join(dir, "etcd.sock")
}

func TestEmbeddedEtcdIsUsedWhenNothingElseIsNamed(t *testing.T) {
	t.Parallel()
	socket := embeddedEtcd(t)
	manifest := filepath.Join(t.TempDir(), "tier.yaml")
	text := "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: platform}\nspec: {order: 50}\n"
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := invoke(t, nil, socket, "apply", "-f", manifest)
	if code != 0 || stdout != "Successfully applied 1 'Tier' resource(s)\n" || stderr != "" {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	// The same datastore, named by the environment and by a file.
	code, stdout, _ = invoke(t, map[string]string{"ETCD_ENDPOINTS": "unix://" + socket}, "/none", "get", "tier", "platform")
	if code != 0 || !strings.Contains(stdout, "platform   50") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	file := filepath.Join(t.TempDir(), "margay.cfg")
	config := "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata: {}\nspec: {etcdEndpoints: \"unix://" + socket + "\"}\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = invoke(t, nil, "/none", "get", "tier", "platform", "-c", file)
	if code != 0 || !strings.Contains(stdout, "platform   50") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
}

func TestDatastoreThatCannotBeUsedIsOneClearLine(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(defaultConfig); err == nil {
		skip.For(t, "%s exists on this machine", defaultConfig)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := listener.Addr().String()
	listener.Close()
	for name, c := range map[string]struct {
		env   map[string]string
		flags []string
		want  string
	}{
		"nothing is named":     {nil, nil, "set ETCD_ENDPOINTS"},
		"no file":              {nil, []string{"-c", "/no/such.cfg"}, "Error reading config file: /no/such.cfg"},
		"kubernetes":           {map[string]string{"DATASTORE_TYPE": "kubernetes"}, nil, "kubernetes"},
		"half of the login":    {map[string]string{"ETCD_ENDPOINTS": "http://" + free, "ETCD_USERNAME": "u"}, nil, "ETCD_PASSWORD"},
		"nobody listens":       {map[string]string{"ETCD_ENDPOINTS": "http://" + free}, nil, free},
		"prefix wins":          {map[string]string{"ETCD_ENDPOINTS": "http://x", "CALICO_ETCD_ENDPOINTS": "ftp://y"}, nil, "ftp://y"},
		"a socket that is not": {map[string]string{"ETCD_ENDPOINTS": "unix:///no/such.sock"}, nil, "/no/such.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := invoke(t, c.env, "/none", append([]string{"get", "tier"}, c.flags...)...)
			if code != 1 || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, stdout %q, stderr\n%s", code, stdout, stderr)
			}
		})
	}
}

func TestVersionIsStampedByTheLinker(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "margayctl")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v1.2.3 -X main.commit=abcdef", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "version", "--client").CombinedOutput()
	if want := "Client Version:    v1.2.3\nGit commit:        abcdef\n"; err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
	err = exec.CommandContext(ctx, binary, "aply").Run()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Errorf("a misspelt command: %v, want exit code 1", err)
	}
}
