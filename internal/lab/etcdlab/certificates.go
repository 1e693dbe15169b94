package etcdlab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/margay-project/margay/internal/lab"
)

// Authority signs certificates.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority is one that nobody trusts yet.
func NewAuthority(t testing.TB) Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := Authority{key: key, certificate: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	return a
}

// Write writes the certificate of the authority itself.
func (a Authority) Write(t testing.TB, path string) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, path, "CERTIFICATE", der)
}

// Issue writes a certificate and its key for both ends of a connection: over the loopback interface, or to servers with
// these names.
func (a Authority) Issue(t testing.TB, certFile, keyFile string, names ...string) {
	t.Helper()
	addresses := []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, name := range names {
		if address := net.ParseIP(name); address != nil {
			addresses = append(addresses, address)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: addresses, DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "EC PRIVATE KEY", private)
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Certificates are those of a cluster that wants them of its clients too: the files ca, server, server-key, client and
// client-key in a directory. They can be replaced while the cluster runs.
type Certificates struct{ Dir string }

// Path is where a file is.
func (c Certificates) Path(name string) string { return filepath.Join(c.Dir, name) }

// serverNames has the addresses and names of the members of a cluster.
var serverNames = []string{"10.77.0.1", "10.77.0.2", "10.77.0.3", "m1.cluster.test", "m2.cluster.test", "m3.cluster.test"}

// Issue writes all but the authority.
func (c Certificates) Issue(t testing.TB, a Authority) {
	t.Helper()
	a.Issue(t, c.Path("server"), c.Path("server-key"), serverNames...)
	a.Issue(t, c.Path("client"), c.Path("client-key"))
}

// Options are those of a cluster with these files.
func (c Certificates) Options() Options {
	return Options{
		Scheme: "https",
		Arguments: []string{
			"--cert-file=" + c.Path("server"), "--key-file=" + c.Path("server-key"), "--trusted-ca-file=" + c.Path("ca"), "--client-cert-auth",
		},
		Admin: clientv3.Config{TLS: &tls.Config{
			InsecureSkipVerify: true, // it is the cluster's own namespace
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				pair, err := tls.LoadX509KeyPair(c.Path("client"), c.Path("client-key"))
				return &pair, err
			},
		}},
	}
}

// EnableAuth gives a cluster, or a single server, the user root, and demands a password from then on.
func EnableAuth(t testing.TB, admin *clientv3.Client, password string) {
	t.Helper()
	ctx := t.Context()
	for _, step := range []func() error{ // each may be repeated
		func() error { _, err := admin.RoleAdd(ctx, "root"); return err },
		func() error { _, err := admin.UserAdd(ctx, "root", password); return err },
		func() error { _, err := admin.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := admin.AuthEnable(ctx); return err },
	} {
		lab.Await(t, func() error {
			err := step()
			if errors.Is(err, rpctypes.ErrRoleAlreadyExist) || errors.Is(err, rpctypes.ErrUserAlreadyExist) {
				return nil // a busy cluster has not answered in time
			}
			return err
		})
	}
}
