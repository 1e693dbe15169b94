package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/margay-project/margay/datastore/kv"
	"github.com/margay-project/margay/internal/lab"
	"github.com/margay-project/margay/internal/lab/etcdlab"
)

// refused dials and returns the one line that an operator sees.
func refused(t *testing.T, c Config, parts ...string) {
	t.Helper()
	if c.DialTimeout == 0 {
		c.DialTimeout = time.Second
	}
	store, err := Dial(t.Context(), c)
	if err == nil {
		_ = store.Close()
		t.Errorf("%+v: connected", c)
		return
	}
	for _, part := range append(parts, ": ") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q\nlacks %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
		t.Errorf("not one readable line: %v", err)
	}
}

func TestDialSaysWhatToDo(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + free.Addr().String()
	free.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	refused(t, Config{Endpoints: []string{nobody}}, nobody, "does not answer", "connection refused", "ETCD_ENDPOINTS")
	refused(t, Config{Endpoints: []string{"http://" + silent.Addr().String()}}, "does not answer", "ETCD_ENDPOINTS")
	refused(t, Config{Endpoints: []string{"unix:///nonexistent/etcd.sock"}}, "does not answer", "no such file")
	refused(t, Config{}, "ETCD_ENDPOINTS")
	refused(t, Config{Endpoints: []string{"ftp://x"}}, `"ftp://x"`, "want http://")
	refused(t, Config{Endpoints: []string{nobody}, Username: "u"}, "ETCD_PASSWORD")
	refused(t, Config{Endpoints: []string{nobody}, CertFile: "x"}, "ETCD_KEY_FILE")
	refused(t, Config{Endpoints: []string{nobody}, CAFile: "/nonexistent"}, "ETCD_CA_CERT_FILE", "no such file")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, Config{Endpoints: []string{nobody}, CAFile: empty}, "has no PEM certificate")
	refused(t, Config{Endpoints: []string{nobody}, CertFile: empty, KeyFile: empty}, "ETCD_CERT_FILE", "ETCD_KEY_FILE")
}

// A connection that takes its time, as over a long distance, is waited for.
func TestDialHasPatience(t *testing.T) {
	t.Parallel()
	slow := Transport{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		select {
		case <-time.After(2 * time.Second):
			return (&net.Dialer{}).DialContext(ctx, network, address)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	store, err := DialOver(t.Context(), Config{Endpoints: []string{etcdlab.StartServer(t, lab.ShortDir(t)).Endpoint()}, DialTimeout: lab.Patience}, slow)
	if err != nil {
		t.Fatal(err)
	}
	_ = store.Close()
}

// A server over a slow line gets the time that a large value needs.
func TestALargeValueHasTimeOnASlowLine(t *testing.T) {
	t.Parallel()
	const value, bytesPerSecond = 1_400_000, 200_000
	line := Transport{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return slowLine{conn, bytesPerSecond}, err
	}}
	store, err := DialOver(t.Context(), Config{Endpoints: []string{etcdlab.StartServer(t, lab.ShortDir(t)).Endpoint()}}, line)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	writes := []kv.Write{{Key: "/large", Value: bytes.Repeat([]byte{'x'}, value)}}
	created, err := store.Commit(t.Context(), []kv.Condition{{Key: "/large"}}, writes)
	if err != nil || !created.Done {
		t.Errorf("%+v, %v", created, err)
	}
}

// slowLine carries so many bytes a second to the server.
type slowLine struct {
	net.Conn
	bytesPerSecond int
}

func (l slowLine) Write(data []byte) (int, error) {
	lab.LetPass(time.Second * time.Duration(len(data)) / time.Duration(l.bytesPerSecond))
	return l.Conn.Write(data)
}

func TestDialWithAPassword(t *testing.T) {
	t.Parallel()
	server := etcdlab.StartServer(t, lab.ShortDir(t))
	admin, ctx := dial(t, server.Endpoint()).client, t.Context()
	for _, step := range []func() error{
		func() error { _, err := admin.RoleAdd(ctx, "reader"); return err },
		func() error {
			_, err := admin.RoleGrantPermission(ctx, "reader", "/elsewhere", "/elsewherf", clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := admin.UserAdd(ctx, "stranger", "secret"); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "stranger", "reader"); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	etcdlab.EnableAuth(t, admin, "secret")
	endpoints := []string{server.Endpoint()}
	refused(t, Config{Endpoints: endpoints, DialTimeout: lab.Patience}, "refused", "ETCD_USERNAME")
	refused(t, Config{Endpoints: endpoints, DialTimeout: lab.Patience, Username: "root", Password: "wrong"}, `refused user "root"`, "ETCD_PASSWORD")
	// Somebody may have a part of the keys, such as those of one kind.
	stranger, err := Dial(ctx, Config{Endpoints: endpoints, DialTimeout: lab.Patience, Username: "stranger", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Range(ctx, kv.Prefix("/elsewhere"), 0, 1); err != nil {
		t.Errorf("what the user may read: %v", err)
	}
	_, err = stranger.Range(ctx, kv.Single(kv.Root), 0, 1)
	if err == nil || !strings.Contains(err.Error(), `denies user "stranger" access`) || !strings.Contains(err.Error(), "grant") {
		t.Errorf("what the user may not read: %v", err)
	}
	store, err := Dial(ctx, Config{Endpoints: endpoints, DialTimeout: lab.Patience, Username: "root", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	_ = store.Close()
}

// certificates is a TLS server's configuration that reads its files for each connection.
func certificates(caFile, certFile, keyFile string) *tls.Config {
	config := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		fresh := config.Clone()
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		text, err := os.ReadFile(caFile)
		pool.AppendCertsFromPEM(text)
		fresh.Certificates, fresh.ClientCAs, fresh.GetConfigForClient = []tls.Certificate{pair}, pool, nil
		return fresh, err
	}
	return config
}

func TestCertificatesCanBeReplacedWhileConnected(t *testing.T) {
	t.Parallel()
	server, dir := etcdlab.StartServer(t, lab.ShortDir(t)), t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	renew := func() {
		a := etcdlab.NewAuthority(t)
		a.Write(t, path("ca"))
		a.Issue(t, path("server"), path("server-key"))
		a.Issue(t, path("client"), path("client-key"))
	}
	renew()
	address, disconnect := etcdlab.Front(t, strings.TrimPrefix(server.Endpoint(), "unix://"), certificates(path("ca"), path("server"), path("server-key")))
	address = "https://" + address
	config := Config{Endpoints: []string{address}, CAFile: path("ca"), CertFile: path("client"), KeyFile: path("client-key")}
	store, err := Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	stranger := etcdlab.NewAuthority(t)
	stranger.Write(t, path("other-ca"))
	stranger.Issue(t, path("other"), path("other-key"))
	refused(t, Config{Endpoints: []string{address}, CAFile: path("other-ca")}, "x509: certificate signed by unknown authority", "ETCD_CA_CERT_FILE")
	refused(t, Config{Endpoints: []string{address}, CAFile: path("ca"), CertFile: path("other"), KeyFile: path("client-key")}, "are not a pair")

	// With TLS 1.3 the server refuses a certificate only after the client's handshake has succeeded.
	stranger.Issue(t, path("other"), path("other-key"))
	enough := 5 * time.Second // for some handshakes on a busy machine
	refused(t, Config{Endpoints: []string{address}, CAFile: path("ca"), CertFile: path("other"), KeyFile: path("other-key"), DialTimeout: enough},
		"refuses this client's certificate", "ETCD_CERT_FILE")
	refused(t, Config{Endpoints: []string{address}, CAFile: path("ca"), DialTimeout: enough}, "asks for a client certificate", "ETCD_CERT_FILE")

	renew()
	disconnect()
	deadline := time.Now().Add(lab.Patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := store.Range(ctx, kv.Single(kv.Root), 0, 1)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not connected with the new certificates: %v", err)
		}
	}
}
