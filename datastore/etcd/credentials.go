package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"
)

// secure says whether connections use TLS.
func (c Config) secure() bool {
	return c.CAFile+c.CertFile+c.CAPEM+c.CertPEM != "" || strings.HasPrefix(strings.Join(c.Endpoints, " "), "https://")
}

// fileCredentials reads the certificates from the files at each handshake, so that they can be replaced while the process runs. While
// the files are unreadable, for example half written, it uses the certificates of the last handshake. mu guards last.
type fileCredentials struct {
	config  Config
	trouble *trouble

	mu   *sync.Mutex
	last *tls.Config
	credentials.TransportCredentials
}

func newFileCredentials(c Config, t *trouble) (*fileCredentials, error) {
	loaded, err := c.loadTLS()
	if err != nil {
		return nil, err
	}
	return &fileCredentials{config: c, trouble: t, mu: &sync.Mutex{}, last: loaded, TransportCredentials: credentials.NewTLS(loaded)}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (f *fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	current, unread := f.load()
	secured, info, err := credentials.NewTLS(current).ClientHandshake(ctx, authority, conn)
	switch {
	case err != nil && unread != nil:
		err = fmt.Errorf("%w; the newer certificates cannot be read: %w", err, unread)
	case unread != nil && f.config.Log != nil:
		f.config.Log.WithError(unread).Warn("the certificates for etcd cannot be read: the ones read before stay in use")
	}
	if err != nil {
		f.trouble.note(err)
		return secured, info, err
	}
	return &alertedConn{Conn: secured, trouble: f.trouble}, info, nil
}

// alertedConn notes an alert that the server sends after the handshake. With TLS 1.3 a refused client certificate comes
// that way (RFC 8446 §4.4.2.4), because the client has ended its handshake before the server reads the certificate. So
// the trouble of the previous attempt is cleared by the first bytes of the server, and not by the handshake.
type alertedConn struct {
	net.Conn
	trouble *trouble
	heard   bool // one goroutine reads
}

func (c *alertedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	switch {
	case err != nil && isAlert(err):
		c.trouble.note(err)
	case n > 0 && !c.heard:
		c.heard = true
		c.trouble.note(nil)
	}
	return n, err
}

func isAlert(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "remote error"
}

// load returns the certificates in the files. With an error, it returns the ones read before, and the reason.
func (f *fileCredentials) load() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	loaded, err := f.config.loadTLS()
	if err == nil {
		f.last = loaded
	}
	return f.last, err
}

// Clone implements credentials.TransportCredentials.
func (f *fileCredentials) Clone() credentials.TransportCredentials {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fileCredentials{config: f.config, trouble: f.trouble, mu: &sync.Mutex{}, last: f.last, TransportCredentials: f.TransportCredentials.Clone()}
}

func (c Config) loadTLS() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	authority, err := orFile(c.CAPEM, c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority of etcd (ETCD_CA_CERT_FILE): %w", err)
	}
	if len(authority) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authority) {
			return nil, fmt.Errorf("the certificate authority of etcd (ETCD_CA_CERT_FILE): %s has no PEM certificate", cmp.Or(c.CAFile, "the configuration"))
		}
	}
	certificate, err := orFile(c.CertPEM, c.CertFile)
	if err != nil {
		return nil, fmt.Errorf("read the client certificate for etcd (ETCD_CERT_FILE): %w", err)
	}
	key, err := orFile(c.KeyPEM, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the client key for etcd (ETCD_KEY_FILE): %w", err)
	}
	if len(certificate) > 0 {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("the client certificate for etcd (ETCD_CERT_FILE, ETCD_KEY_FILE): %s and %s are not a pair, or not PEM: %w",
				cmp.Or(c.CertFile, "the certificate in the configuration"), cmp.Or(c.KeyFile, "its key"), err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// orFile returns the inline text, or else the content of the file; nothing if both are empty.
func orFile(inline, file string) ([]byte, error) {
	if inline != "" || file == "" {
		return []byte(inline), nil
	}
	text, err := os.ReadFile(file)
	if err == nil && len(text) == 0 {
		err = fmt.Errorf("%s is empty", file)
	}
	return text, err
}
